// Reads labels of tables that are no class: numbers to predict, or several classes at once.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/text_labels.h"

namespace graft {

// Several values in one field of a row, which come from several columns or a JSON array, form a
// list: each has kListMark in front. A field without it is one value as it was written.
inline constexpr char kListMark = '\x1f';
std::string EncodeList(const std::vector<std::string>& values);
std::vector<std::string> DecodeList(std::string_view field);

// The names of classes in a field: those of a list, else what stands between '|'. Blanks around a
// name do not count, and an empty name is none.
std::vector<std::string> SplitClasses(std::string_view field);

// Reads the targets of a data set, once it is known what each of their columns stands for.
class TargetTable {
 public:
  // `columns` are the names of the columns of the label, one or several; `names` the classes or
  // numbers, as TargetNames gives them.
  TargetTable(LabelKind kind, const std::vector<std::string>& columns,
              const std::vector<std::string>& names);
  // Returns a number for each name; for classes it is 1 or 0. Throws Error that begins with
  // PATH:LINE.
  std::vector<float> Find(std::string_view field, const std::string& path, size_t line) const;

 private:
  std::vector<float> Numbers(std::string_view field, const std::string& where) const;
  std::vector<float> Classes(std::string_view field, const std::string& where) const;
  std::vector<float> Flags(std::string_view field, const std::string& where) const;
  size_t ClassOf(const std::string& name, const std::string& where) const;

  LabelKind kind_;
  std::vector<std::string> columns_, names_;
  std::vector<size_t> class_of_column_;  // where classes have a column of 0 and 1 each
  std::unordered_map<std::string, size_t> numbers_;
};

// The names of a table's targets. For numbers these are the columns or, for an array in one column,
// NAME_1, NAME_2, .... For classes they are `given` or, if that is empty, the columns where there
// are several, else the names in the rows, numbers by value before others by bytes. Throws Error
// for more than kMaxClasses.
std::vector<std::string> TargetNames(const RawTable& table, LabelKind kind,
                                     const std::vector<std::string>& given);

// Throws Error if so many numbers in all do not fit into memory.
void CheckTargetCount(size_t examples, size_t targets, const std::string& where);

}  // namespace graft
