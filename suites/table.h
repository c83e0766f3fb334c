// The rows and columns of a suite's table, in whatever form it is printed.
#pragma once
#include <string>
#include <vector>

#include "suites/scores.h"

namespace graft {

// A row of a table: a method, and what distinguishes it from other rows of that method.
struct TableRow {
  std::string method;
  nlohmann::json options;
  bool operator==(const TableRow&) const = default;
};
// A method as a row is called: one that is long, such as a search finds, is cut, and its hash tells
// it from others that begin alike.
std::string ShortMethod(const std::string& method);
std::vector<TableRow> RowsOf(const std::vector<ScoreCell>& cells);
std::string RowName(const TableRow& row);

struct TableColumn {
  std::string task, title;
};
// The tasks that have units, in the order of the suite.
std::vector<TableColumn> ColumnsOf(const SuiteInfo& info, const std::vector<ScoreCell>& cells);

// Returns null where the row has no units of that task.
const ScoreCell* FindCell(const std::vector<ScoreCell>& cells, const TableRow& row,
                          const std::string& task);

}  // namespace graft
