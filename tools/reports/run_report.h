// Shows a run as a section of a page.
#pragma once
#include "tools/lib/options.h"
#include "tools/reports/page.h"

namespace graft {

struct RunReportOptions {
  bool evaluate = true;    // opens model and data
  std::string split;       // "": the run's validation split, else the test split
  size_t limit = 0;        // the first examples only; 0: all
  bool of_search = false;  // the run is what a search has found
};

// What was measured for the page, and what could not be shown, a line each.
struct ReportNotes {
  nlohmann::json measured = nlohmann::json::array();  // {run, split, n, and the task's measures}
  std::vector<std::string> notes;
};

// Adds what the files of a run say: settings, the command, the course of loss, rate and validation
// over the epochs as charts and as a table, time, memory, machine. With `evaluate` also what its
// checkpoint is right and wrong about (quality_report.h) and what its method changes
// (rewrite_report.h); where model or data are gone the page says so. Throws Error for a path that
// is no run, and of kind kUsage for a named split that its data do not have.
void AddRun(const std::string& run, const RunReportOptions& options, const CommonOptions& common,
            Page* page, ReportNotes* notes);

}  // namespace graft
