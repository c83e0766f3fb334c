#include "tools/lib/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "runtime/utf8.h"

namespace graft {
namespace {

size_t Width(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

}  // namespace

std::string Grouped(int64_t number) {
  std::string text = std::to_string(number);
  const int64_t first = number < 0 ? 1 : 0;
  for (int64_t at = std::ssize(text) - 3; at > first; at -= 3)
    text.insert(static_cast<size_t>(at), 1, ',');
  return text;
}

std::string Megabytes(size_t bytes) {
  if (bytes > 0 && bytes < 1 << 20) return fmt::format("{} KiB", (bytes + (1 << 10) - 1) >> 10);
  return fmt::format("{} MiB", (bytes + (1 << 19)) >> 20);
}

std::string Percent(double share) { return fmt::format("{:.1f} %", 100 * share); }
std::string InPercent(double share) {
  return std::isnan(share) ? "-" : fmt::format("{:.1f}", 100 * share);
}

void TextTable::Add(std::vector<std::string> cells) {
  for (std::string& cell : cells) cell = EscapeControls(cell);
  rows_.push_back(std::move(cells));
}

std::string TextTable::Lines(const std::string& indent) const {
  std::vector<size_t> widths;
  for (const auto& row : rows_)
    for (size_t i = 0; i < row.size(); ++i) {
      if (widths.size() <= i) widths.push_back(0);
      widths[i] = std::max(widths[i], Width(row[i]));
    }
  std::string text;
  for (const auto& row : rows_) {
    if (!text.empty()) text += "\n";
    text += indent;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string blanks(widths[i] - Width(row[i]), ' ');
      const bool right = std::find(right_.begin(), right_.end(), i) != right_.end();
      const bool last = i + 1 == row.size();
      text += right ? blanks + row[i] : last ? row[i] : row[i] + blanks;
      if (!last) text += "  ";
    }
  }
  return text;
}

}  // namespace graft
