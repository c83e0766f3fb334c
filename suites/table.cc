#include "suites/table.h"

#include <algorithm>

#include "suites/unit.h"

namespace graft {

std::vector<TableRow> RowsOf(const std::vector<ScoreCell>& cells) {
  std::vector<TableRow> rows;
  for (const ScoreCell& cell : cells)
    if (TableRow row{cell.method, cell.options}; std::ranges::find(rows, row) == rows.end())
      rows.push_back(std::move(row));
  return rows;
}

const ScoreCell* FindCell(const std::vector<ScoreCell>& cells, const TableRow& row,
                          const std::string& task) {
  const auto at = std::ranges::find_if(cells, [&](const ScoreCell& c) {
    return c.method == row.method && c.options == row.options && c.task == task;
  });
  return at == cells.end() ? nullptr : &*at;
}

std::vector<TableColumn> ColumnsOf(const SuiteInfo& info, const std::vector<ScoreCell>& cells) {
  std::vector<TableColumn> columns;
  for (const nlohmann::json& task : info.tasks)
    if (std::ranges::any_of(cells, [&](const ScoreCell& c) { return task["name"] == c.task; }))
      columns.push_back({task["name"], task.value("column", task["name"].get<std::string>())});
  return columns;
}

std::string RowName(const TableRow& row) {
  const std::string options = OptionsText(row.options);
  return options.empty() ? row.method : fmt::format("{}, {}", row.method, options);
}

}  // namespace graft
