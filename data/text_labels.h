// Reads labels of tables as classes: names, or numbers in the ways in which programs write them.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/text_table.h"

namespace graft {

std::string_view TrimBlanks(std::string_view text);

// The beginning of a text, of at most so many bytes and no part of a character.
std::string_view FirstBytes(std::string_view text, size_t bytes);

// Whether a label is what programs write for a missing value: nothing, nan, null, NA and the like.
bool IsMissing(std::string_view label);

// Parses a finite number, which must be all of `text`.
std::optional<double> ParseNumber(std::string_view text);

// Whether a number is written as in spreadsheets of many countries, "4,45"; ParseNumber refuses
// that.
bool HasDecimalComma(std::string_view text);

// Orders numbers by value, and other labels behind them by bytes.
struct NumbersFirst {
  bool operator()(const std::string& a, const std::string& b) const;
};

// The names of classes in order: numbers by value, then others by bytes. Empty if all labels of the
// table are numbers; negative ones and those with zeros in front, such as 01, are names. Throws
// Error for more than kMaxClasses.
std::vector<std::string> ClassesOf(const RawTable& table);

// Finds the classes of labels, by name first, then by number: by the value of names that are all
// numbers, else by the place in the list of names. Without names labels are numbers, and the
// largest tells how many classes there are; a number beyond that of the texts is no class number.
class LabelTable {
 public:
  LabelTable(const std::vector<std::string>& names, size_t texts);
  // Throws Error that begins with PATH:LINE for a label that is missing or no class.
  int Find(std::string_view label, const std::string& path, size_t line) const;

 private:
  const std::vector<std::string>& names_;
  std::unordered_map<std::string, int> numbers_;
  std::unordered_map<std::string, int> by_value_;  // of names that are numbers; -1: of several
  bool numbered_ = false;                          // all names are
  int limit_;
};

}  // namespace graft
