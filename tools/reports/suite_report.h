// A suite as a section of a page, as CSV and as LaTeX.
#pragma once
#include "suites/ledger.h"
#include "tools/reports/page.h"

namespace graft {

// What is read of a ledger.
struct SuiteData {
  std::string directory;
  SuiteInfo info;
  std::vector<UnitRow> units;
};
// Throws Error for what holds no ledger, or one whose beginning was interrupted.
SuiteData ReadSuite(const std::string& directory);

// Facts; the table of methods and tasks with means, spreads, ranks and trained numbers; charts; all
// units; and what is missing.
void AddSuite(const SuiteData& suite, Page* page);

// A line for each unit of any of them, with all digits.
std::string UnitsCsv(const std::vector<SuiteData>& suites);
// The table of methods and tasks as a tabular for booktabs.
std::string SuiteLatex(const SuiteData& suite);

}  // namespace graft
