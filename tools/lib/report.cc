#include "tools/lib/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "runtime/utf8.h"

namespace graft {
std::string Grouped(int64_t number) {
  std::string text = std::to_string(number);
  const int64_t first = number < 0 ? 1 : 0;
  for (int64_t at = std::ssize(text) - 3; at > first; at -= 3)
    text.insert(static_cast<size_t>(at), 1, ',');
  return text;
}

std::string Counted(int64_t number, const std::string& one) {
  return fmt::format("{} {}{}", Grouped(number), one, number == 1 ? "" : "s");
}

std::string Megabytes(size_t bytes) {
  if (bytes > 0 && bytes < 1 << 20) return fmt::format("{} KiB", (bytes + (1 << 10) - 1) >> 10);
  return fmt::format("{} MiB", (bytes + (1 << 19)) >> 20);
}

std::string Percent(double share) { return fmt::format("{:.1f} %", 100 * share); }
std::string InPercent(double share) {
  return std::isnan(share) ? "-" : fmt::format("{:.1f}", 100 * share);
}

std::string MeasureText(double value) {
  return std::abs(value) < 1000 || !std::isfinite(value) ? fmt::format("{:.4f}", value)
                                                         : fmt::format("{:.5g}", value);
}

void TextTable::Add(std::vector<std::string> cells) {
  for (std::string& cell : cells) cell = EscapeControls(cell);
  rows_.push_back(std::move(cells));
}

std::vector<size_t> TextTable::Widths() const {
  std::vector<size_t> widths;
  for (const auto& row : rows_)
    for (size_t i = 0; i < row.size(); ++i) {
      if (widths.size() <= i) widths.push_back(0);
      widths[i] = std::max(widths[i], ColumnsOf(row[i]));
    }
  return widths;
}

std::string TextTable::Lines(const std::string& indent) const {
  const std::vector<size_t> widths = Widths();
  std::string text;
  for (const auto& row : rows_) {
    if (!text.empty()) text += "\n";
    text += indent;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string blanks(widths[i] - ColumnsOf(row[i]), ' ');
      const bool right = std::find(right_.begin(), right_.end(), i) != right_.end();
      const bool last = i + 1 == row.size();
      text += right ? blanks + row[i] : last ? row[i] : row[i] + blanks;
      if (!last) text += "  ";
    }
  }
  return text;
}

std::vector<std::string> TextTable::FitTo(size_t columns, std::span<const size_t> drop,
                                          std::span<const Shortened> shorten) {
  std::vector<size_t> widths = Widths(), least = widths;
  for (const Shortened& s : shorten) least[s.column] = std::min(least[s.column], kLeastCell);
  std::vector<bool> dropped(widths.size());
  const auto total = [&](const std::vector<size_t>& each) {
    size_t sum = 0;
    for (size_t i = 0; i < each.size(); ++i)
      if (!dropped[i]) sum += each[i] + (sum > 0 ? 2 : 0);
    return sum;
  };
  std::vector<std::string> names;
  for (size_t i = 0; i < drop.size() && total(least) > columns; ++i) {
    dropped[drop[i]] = true;
    names.push_back(rows_[0][drop[i]]);
  }
  while (total(widths) > columns) {
    size_t* widest = nullptr;
    for (const Shortened& s : shorten)
      if (!dropped[s.column] && (!widest || widths[s.column] > *widest)) widest = &widths[s.column];
    if (!widest || *widest <= 1) break;
    --*widest;
  }
  for (auto& row : rows_)
    for (const Shortened& s : shorten)
      row[s.column] = FitText(row[s.column], widths[s.column], s.at);
  Drop(dropped);
  return names;
}

void TextTable::Drop(const std::vector<bool>& dropped) {
  const auto place = [&](size_t column) {
    return column -
           static_cast<size_t>(std::count(dropped.begin(), dropped.begin() + column, true));
  };
  std::erase_if(right_, [&](size_t column) { return column < dropped.size() && dropped[column]; });
  for (size_t& column : right_)
    if (column < dropped.size()) column = place(column);
  for (auto& row : rows_)
    for (size_t i = row.size(); i-- > 0;)
      if (dropped[i]) row.erase(row.begin() + static_cast<ptrdiff_t>(i));
}

}  // namespace graft
