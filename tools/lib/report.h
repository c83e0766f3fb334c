// Plain text for people: numbers with separators and aligned tables.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tools/lib/terminal.h"

namespace graft {

std::string Grouped(int64_t number);  // "5,717,416"
// "1 step", "2,400 steps".
std::string Counted(int64_t number, const std::string& one);
std::string Megabytes(size_t bytes);  // "134 MiB", of less than one "12 KiB"
std::string Percent(double share);    // "81.5 %"
std::string InPercent(double share);  // "81.5" of a table whose title says what it is; "-" of a NaN

// Writes a measure that has no unit, or that of the data: "0.1234"; with five digits from a
// thousand on, "1.8937e+09".
std::string MeasureText(double value);

// Puts rows of cells into aligned columns. Those named in `right` (by index) are aligned to the
// right, and the last column is never padded. Width counts UTF-8 characters; a cell is one line,
// and its controls are escaped.
class TextTable {
 public:
  explicit TextTable(std::vector<size_t> right = {}) : right_(std::move(right)) {}
  void Add(std::vector<std::string> cells);
  std::string Lines(const std::string& indent) const;  // no newline at the end

  struct Shortened {
    size_t column = 0;
    CutAt at = CutAt::kEnd;
  };
  // Makes the table at most so wide. Columns are left out in the order of `drop` while it would not
  // fit with the cells of `shorten` in kLeastCell columns; then the widest of these are cut.
  // Returns the first cells of what is left out.
  static constexpr size_t kLeastCell = 12;
  std::vector<std::string> FitTo(size_t columns, std::span<const size_t> drop,
                                 std::span<const Shortened> shorten);

 private:
  std::vector<size_t> Widths() const;
  void Drop(const std::vector<bool>& dropped);

  std::vector<size_t> right_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace graft
