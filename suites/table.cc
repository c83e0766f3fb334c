#include "suites/table.h"

#include <algorithm>
#include <span>

#include "runtime/io/sha256.h"
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

std::string ShortMethod(const std::string& method) {
  constexpr size_t kLongest = 60, kKept = 44, kHash = 6;
  if (method.size() <= kLongest) return method;
  return fmt::format("{}... #{}", method.substr(0, kKept),
                     Sha256Hex(std::as_bytes(std::span(method))).substr(0, kHash));
}

std::string RowName(const TableRow& row) {
  const std::string options = OptionsText(row.options), method = ShortMethod(row.method);
  return options.empty() ? method : fmt::format("{}, {}", method, options);
}

}  // namespace graft
