// Plain text for people: numbers with separators and aligned tables.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace graft {

std::string Grouped(int64_t number);  // "5,717,416"
std::string Megabytes(size_t bytes);  // "134 MiB", of less than one "12 KiB"
std::string Percent(double share);    // "81.5 %"
std::string InPercent(double share);  // "81.5" of a table whose title says what it is; "-" of a NaN

// Puts rows of cells into aligned columns. Those named in `right` (by index) are aligned to the
// right, and the last column is never padded. Width counts UTF-8 characters; a cell is one line,
// and its controls are escaped.
class TextTable {
 public:
  explicit TextTable(std::vector<size_t> right = {}) : right_(std::move(right)) {}
  void Add(std::vector<std::string> cells);
  std::string Lines(const std::string& indent) const;  // no newline at the end

 private:
  std::vector<size_t> right_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace graft
