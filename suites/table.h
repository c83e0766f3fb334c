// The rows and columns of a suite's table, whatever it is printed as.
#pragma once
#include <string>
#include <vector>

#include "suites/scores.h"

namespace graft {

// A row of a table: a method with what distinguishes it from others of that method.
struct TableRow {
  std::string method;
  nlohmann::json options;
  bool operator==(const TableRow&) const = default;
};
std::vector<TableRow> RowsOf(const std::vector<ScoreCell>& cells);
std::string RowName(const TableRow& row);

struct TableColumn {
  std::string task, title;
};
// Tasks with units, in the order of the suite.
std::vector<TableColumn> ColumnsOf(const SuiteInfo& info, const std::vector<ScoreCell>& cells);

// Null where the row has no units of that task.
const ScoreCell* FindCell(const std::vector<ScoreCell>& cells, const TableRow& row,
                          const std::string& task);

}  // namespace graft
