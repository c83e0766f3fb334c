// Writes the results of a suite as tables for people.
#pragma once
#include <string>
#include <vector>

#include "suites/scores.h"
#include "suites/vtab_tasks.h"

namespace graft {

// The table of a suite of any kind: a row for each method (and number of shots, or variant), a
// column for each task. "-" means not finished and "failed" failed; "*" marks what was chosen on
// the test examples.
std::string SuiteTable(const SuiteInfo& info, const std::vector<UnitRow>& units);

// What a reader of the table has to know, a line each: groups that are missing, units that failed,
// and numbers that were chosen on test examples.
std::vector<std::string> SuiteRemarks(const SuiteInfo& info, const std::vector<UnitRow>& units);

// The published rows, in the columns of the 19 tasks.
std::string PublishedTable();
nlohmann::json PublishedJson();

}  // namespace graft
