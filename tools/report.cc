// graft bench report: suites and runs as one page, as CSV and as LaTeX.
#include <filesystem>

#include "runtime/io/atomic_file.h"
#include "runtime/io/files_read.h"
#include "tools/commands.h"
#include "tools/lib/output.h"
#include "tools/lib/run_table.h"
#include "tools/reports/run_report.h"
#include "tools/reports/suite_report.h"
#include "train/run_dir.h"

namespace graft {
namespace {

struct ReportOptions {
  std::vector<std::string> inputs;
  std::string out, csv, latex;
};

void Run(const ReportOptions& o, const CommonOptions& common) {
  if (o.inputs.empty())
    FailUsage("bench report needs suites or runs; example: graft bench report --help");
  if (o.out.empty() && o.csv.empty() && o.latex.empty())
    FailUsage("bench report needs --out FILE.html (or --csv FILE, --latex FILE)");
  for (const std::string& file : {o.out, o.csv, o.latex})
    if (!file.empty()) CheckOutput(file);  // before the work
  std::vector<SuiteData> suites;
  std::vector<std::string> runs;
  for (const std::string& input : o.inputs) {
    if (!std::filesystem::is_directory(input)) Fail("{}: no such directory", input);
    if (Ledger::IsThere(input))
      suites.push_back(ReadSuite(input));
    else if (IsRunDirectory(input))
      runs.push_back(input);
    else if (const std::vector<std::string> below = FindRuns(input); !below.empty())
      runs.insert(runs.end(), below.begin(), below.end());
    else
      Fail("{}: neither a suite (ledger.sqlite) nor a run (config.json), nor one that holds runs",
           input);
  }
  if (suites.empty() && o.out.empty()) FailUsage("--csv and --latex: of suites; these are runs");
  Page page(o.inputs.size() == 1 ? o.inputs[0] : fmt::format("{} results", o.inputs.size()));
  size_t units = 0, done = 0;
  std::string latex;
  for (const SuiteData& suite : suites) {
    AddSuite(suite, &page);
    latex += (latex.empty() ? "" : "\n") + SuiteLatex(suite);
    units += suite.units.size();
    for (const UnitRow& u : suite.units) done += u.state == UnitState::kDone;
  }
  for (const std::string& run : runs) AddRun(run, &page);
  if (!o.out.empty()) WriteFileAtomically(o.out, page.Html());
  if (!o.csv.empty()) WriteFileAtomically(o.csv, UnitsCsv(suites));
  if (!o.latex.empty()) WriteFileAtomically(o.latex, latex);
  nlohmann::json json{{"suites", suites.size()},
                      {"runs", runs.size()},
                      {"units", units},
                      {"done", done},
                      {"charts", HasCharts()}};
  for (const auto& [key, file] : {std::pair("out", o.out), {"csv", o.csv}, {"latex", o.latex}})
    if (!file.empty()) json[key] = file;
  PrintJson(common, json);
  for (const std::string& file : {o.out, o.csv, o.latex})
    if (!file.empty()) Say(common, "wrote " + file);
  if (done < units) Say(common, fmt::format("note: {} of {} units are done", done, units));
  if (!o.out.empty() && !HasCharts())
    Say(common,
        "note: without charts, as Chart.js (Debian: libjs-chart.js) was not there when graft "
        "was built");
}

}  // namespace

void AddReport(CLI::App& bench, CommonOptions& common) {
  CLI::App* command =
      bench.add_subcommand("report", "suites and runs as one HTML page, as CSV and as LaTeX");
  auto o = std::make_shared<ReportOptions>();
  command->add_option("SUITE", o->inputs, "directories of suites and of runs");
  command->add_option("--out", o->out, "the page, which needs no other file");
  command->add_option("--csv", o->csv, "a line for each unit");
  command->add_option("--latex", o->latex, "the table of methods and tasks, for booktabs");
  AddForceOption(*command);
  AddCommonOptions(*command, common);
  HideModelOptions(*command);
  command->footer("Example:\n  graft bench report suite/ fs/ --out report.html --csv units.csv");
  command->callback([o, &common] { Run(*o, common); });
}

}  // namespace graft
