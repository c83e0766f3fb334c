#include "search/choices.h"

#include <algorithm>
#include <map>

#include "peft/sites.h"

namespace graft {
namespace {

// The row and column of a place: its block, and the rest of its name.
struct Cell {
  int64_t block = -1;
  std::string column, text;
  int64_t parameters = 0;
};

std::vector<Cell> Cells(const BoundSpace& space, const Genes& genes) {
  std::vector<Cell> cells;
  for (size_t t = 0; t < space.space().size(); ++t)
    for (size_t p = 0; p < space.places(t).size(); ++p) {
      const std::string& name = space.places(t)[p].name;
      Cell& cell = cells.emplace_back();
      cell.block = BlockOf(name);
      const size_t dot = cell.block < 0 ? std::string::npos : name.find('.', 7);
      const std::string rest = cell.block < 0 ? name : dot == name.npos ? "" : name.substr(dot + 1);
      cell.column = space.space()[t].fixed.name + (rest.empty() ? "" : " " + rest);
      cell.text = space.ChoiceText(genes, t, p);
      cell.parameters = space.ParametersAt(genes, t, p);
    }
  return cells;
}

std::vector<std::string> Columns(const std::vector<Cell>& cells) {
  std::vector<std::string> columns;
  for (const Cell& cell : cells)
    if (std::ranges::find(columns, cell.column) == columns.end()) columns.push_back(cell.column);
  return columns;
}

std::map<int64_t, std::map<std::string, Cell>> Rows(const std::vector<Cell>& cells) {
  std::map<int64_t, std::map<std::string, Cell>> rows;
  for (const Cell& cell : cells) rows[cell.block < 0 ? INT64_MAX : cell.block][cell.column] = cell;
  return rows;
}

std::string EscapeXml(const std::string& text) {
  std::string escaped;
  for (const char c : text)
    escaped += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : std::string(1, c);
  return escaped;
}

// How dark a place is, by its number of parameters; 0 for a place that is left out.
double Opacity(int64_t parameters, int64_t most) {
  if (parameters == 0) return 0;
  return 0.1 + 0.5 * static_cast<double>(parameters) / static_cast<double>(most);
}

std::string RowName(int64_t block) {
  return block == INT64_MAX ? "outside" : std::to_string(block);
}

}  // namespace

std::string ChoicesText(const BoundSpace& space, const Genes& genes) {
  const std::vector<Cell> cells = Cells(space, genes);
  const std::vector<std::string> columns = Columns(cells);
  std::map<std::string, size_t> widths;
  for (const Cell& cell : cells)
    widths[cell.column] = std::max({widths[cell.column], cell.column.size(), cell.text.size()});
  std::string text = "block  ";
  for (const std::string& column : columns) text += fmt::format("  {:<{}}", column, widths[column]);
  while (text.ends_with(' ')) text.pop_back();
  text += "\n";
  for (auto& [block, row] : Rows(cells)) {
    text += fmt::format("{:<7}", RowName(block));
    for (const std::string& column : columns) {
      const auto it = row.find(column);
      text += fmt::format("  {:<{}}", it == row.end() ? "" : it->second.text, widths[column]);
    }
    while (text.ends_with(' ')) text.pop_back();
    text += "\n";
  }
  return text;
}

std::string ChoicesSvg(const BoundSpace& space, const Genes& genes) {
  constexpr int kHead = 40, kLeft = 70, kRow = 24;
  const std::vector<Cell> cells = Cells(space, genes);
  const std::vector<std::string> columns = Columns(cells);
  const auto rows = Rows(cells);
  int64_t most = 1;
  std::map<std::string, size_t> widths;
  for (const Cell& cell : cells) {
    most = std::max(most, cell.parameters);
    widths[cell.column] = std::max({widths[cell.column], cell.column.size(), cell.text.size()});
  }
  std::string body;
  int x = kLeft;
  for (const std::string& column : columns) {
    const int width = static_cast<int>(widths[column]) * 7 + 16;
    body +=
        fmt::format("<text x=\"{}\" y=\"{}\">{}</text>\n", x + 8, kHead - 10, EscapeXml(column));
    int y = kHead;
    for (const auto& [block, row] : rows) {
      if (const auto it = row.find(column); it != row.end()) {
        const Cell& cell = it->second;
        body += fmt::format(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"#3b6ea5\" "
            "fill-opacity=\"{:.3f}\" stroke=\"#888\"/>\n<text x=\"{}\" y=\"{}\">{}</text>\n",
            x, y, width, kRow, Opacity(cell.parameters, most), x + 8, y + 16, EscapeXml(cell.text));
      }
      y += kRow;
    }
    x += width;
  }
  int y = kHead;
  for (const auto& [block, row] : rows) {
    body += fmt::format("<text x=\"8\" y=\"{}\">{}</text>\n", y + 16, RowName(block));
    y += kRow;
  }
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" "
      "font-family=\"monospace\" font-size=\"12\" fill=\"#444\">\n<style>@media "
      "(prefers-color-scheme: dark) {{ svg {{ fill: #d5dbe3; }} }}</style>\n{}</svg>\n",
      x + 8, y + 8, body);
}

}  // namespace graft
