// Shows a suite as a section of a page, as CSV and as LaTeX.
#pragma once
#include "suites/ledger.h"
#include "tools/reports/page.h"

namespace graft {

// What is read from a ledger.
struct SuiteData {
  std::string directory;
  SuiteInfo info;
  std::vector<UnitRow> units;
};
// Throws Error for a directory without a ledger, and for a ledger whose beginning was interrupted.
SuiteData ReadSuite(const std::string& directory);

// Adds facts; the table of methods and tasks with means, spreads, ranks and trained numbers;
// charts; all units; and what is missing.
void AddSuite(const SuiteData& suite, Page* page);

// Writes a line for each unit of all these suites, with all digits.
std::string UnitsCsv(const std::vector<SuiteData>& suites);
// Writes the table of methods and tasks as a tabular for booktabs.
std::string SuiteLatex(const SuiteData& suite);

}  // namespace graft
