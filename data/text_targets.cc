#include "data/text_targets.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "data/splits.h"
#include "data/text_files.h"
#include "runtime/error.h"
#include "runtime/io/json.h"
#include "runtime/utf8.h"
#include "runtime/words.h"

namespace graft {
namespace {

constexpr size_t kMostTargets = size_t{1} << 28;

[[noreturn]] void FailMissing(const std::string& where, std::string_view value) {
  Fail("{}: the label is {}; hint: --skip-bad leaves such rows out", where,
       value.empty() ? "empty" : fmt::format("'{}', which stands for a missing one", value));
}

// Reads a column of yes and no as 1 or 0; returns nothing for other words.
std::optional<float> FlagOf(std::string_view value) {
  const std::string word = ToLowerAscii(std::string(value));
  if (word == "true") return 1.0f;
  if (word == "false") return 0.0f;
  const std::optional<double> number = ParseNumber(word);
  if (!number || (*number != 0 && *number != 1)) return {};
  return static_cast<float>(*number);
}

}  // namespace

std::string EncodeList(const std::vector<std::string>& values) {
  if (values.empty()) return std::string(1, kListMark);
  std::string field;
  for (const std::string& value : values) field += kListMark + value;
  return field;
}

std::vector<std::string> DecodeList(std::string_view field) {
  if (!field.starts_with(kListMark)) return {std::string(field)};
  std::vector<std::string> values;
  if (field.size() == 1) return values;
  for (size_t at = 1; at <= field.size();) {
    const size_t end = std::min(field.find(kListMark, at), field.size());
    values.emplace_back(field.substr(at, end - at));
    at = end + 1;
  }
  return values;
}

std::vector<std::string> SplitClasses(std::string_view field) {
  std::vector<std::string> names;
  const bool listed = field.starts_with(kListMark);
  for (const std::string& part : listed ? DecodeList(field) : SplitAt(field, '|'))
    if (const std::string_view name = TrimBlanks(part); !name.empty()) names.emplace_back(name);
  return names;
}

TargetTable::TargetTable(LabelKind kind, const std::vector<std::string>& columns,
                         const std::vector<std::string>& names)
    : kind_(kind), columns_(columns), names_(names) {
  for (size_t i = 0; i < names.size(); ++i) numbers_.emplace(names[i], i);
  if (kind == LabelKind::kClasses && columns.size() > 1)
    for (const std::string& column : columns)
      class_of_column_.push_back(ClassOf(std::string(TrimBlanks(column)), "--columns"));
}

std::vector<float> TargetTable::Find(std::string_view field, const std::string& path,
                                     size_t line) const {
  const std::string where = fmt::format("{}:{}", path, line);
  if (kind_ == LabelKind::kNumbers) return Numbers(field, where);
  return class_of_column_.empty() ? Classes(field, where) : Flags(field, where);
}

std::vector<float> TargetTable::Numbers(std::string_view field, const std::string& where) const {
  const std::vector<std::string> values = DecodeList(field);
  if (values.size() != names_.size())
    Fail("{}: expected {} numbers ({}), found {}", where, names_.size(), fmt::join(names_, ", "),
         values.size());
  std::vector<float> targets;
  for (size_t i = 0; i < values.size(); ++i) {
    const std::string_view value = TrimBlanks(values[i]);
    if (IsMissing(value)) FailMissing(where, value);
    const std::optional<double> number = ParseNumber(value);
    if (!number || !std::isfinite(static_cast<float>(*number)))
      Fail("{}: expected a number as '{}', found '{}'{}", where, names_[i], value,
           HasDecimalComma(value) ? "; hint: write decimals with a point; pandas reads such a file "
                                    "with decimal=',' and writes points"
                                  : "");
    targets.push_back(static_cast<float>(*number));
  }
  return targets;
}

size_t TargetTable::ClassOf(const std::string& name, const std::string& where) const {
  const auto found = numbers_.find(name);
  if (found == numbers_.end())
    Fail("{}: unknown label '{}'{}", where, name, DidYouMean(name, names_));
  return found->second;
}

std::vector<float> TargetTable::Classes(std::string_view field, const std::string& where) const {
  std::vector<float> targets(names_.size());
  for (const std::string& name : SplitClasses(field)) {
    if (!numbers_.contains(name) && IsMissing(name)) FailMissing(where, name);
    targets[ClassOf(name, where)] = 1;
  }
  return targets;
}

std::vector<float> TargetTable::Flags(std::string_view field, const std::string& where) const {
  const std::vector<std::string> values = DecodeList(field);
  std::vector<float> targets(names_.size());
  for (size_t i = 0; i < columns_.size(); ++i) {
    const std::string_view value = i < values.size() ? TrimBlanks(values[i]) : "";
    if (IsMissing(value)) FailMissing(where, value);
    const std::optional<float> flag = FlagOf(value);
    if (!flag) Fail("{}: expected 0 or 1 as '{}', found '{}'", where, columns_[i], value);
    targets[class_of_column_[i]] = *flag;
  }
  return targets;
}

std::vector<std::string> TargetNames(const RawTable& table, LabelKind kind,
                                     const std::vector<std::string>& given) {
  const std::vector<std::string>& columns = table.label_names;
  std::vector<std::string> names;
  if (kind == LabelKind::kNumbers) {
    if (columns.size() > 1) return columns;
    const std::string base = columns.empty() ? "target" : columns[0];
    const size_t count =
        table.rows.empty() ? 1 : DecodeList(table.rows[0].fields[table.places.label]).size();
    for (size_t i = 1; i <= count; ++i)
      names.push_back(count == 1 ? base : fmt::format("{}_{}", base, i));
  } else if (!given.empty()) {
    return given;
  } else if (columns.size() > 1) {
    for (const std::string& column : columns) names.emplace_back(TrimBlanks(column));
  } else {
    std::set<std::string, NumbersFirst> found;
    for (const RawRow& row : table.rows)
      for (std::string& name : SplitClasses(row.fields[table.places.label]))
        if (!IsMissing(name)) found.insert(std::move(name));
    names.assign(found.begin(), found.end());
  }
  if (names.size() > static_cast<size_t>(kMaxClasses))
    Fail("{}: expected at most {} different labels, found {}", table.path, kMaxClasses,
         names.size());
  if (names.empty()) Fail("{}: expected labels, found none in any row", table.path);
  return names;
}

void CheckTargetCount(size_t examples, size_t targets, const std::string& where) {
  if (examples * targets > kMostTargets)
    Fail("{}: {} examples of {} targets each: expected at most {} numbers in all", where, examples,
         targets, kMostTargets);
}

namespace {

// Tells the kind by the labels in the lines of a JSON table, up to the first that decides it.
LabelKind TellLines(const std::string& path, const TextColumns& columns) {
  bool whole = false, done = false;
  LabelKind kind = LabelKind::kClass;
  std::string key;
  ForEachLine(ReadUtf8File(path, kMaxTableBytes), [&](std::string_view line, size_t) {
    if (done) return;
    const Json object = ParseJson(line, path, {.bytes = kMaxJsonLine});
    if (!object.is_object()) return void(done = true);
    if (key.empty()) {
      std::vector<std::string> keys;
      for (const auto& item : object.items()) keys.push_back(item.key());
      key = keys.at(PlacesByName(columns, keys, path).label);
    }
    const auto it = object.find(key);
    if (it == object.end() || !it->is_array()) return void(done = true);
    for (const Json& item : *it) {
      whole |= item.is_number_integer();
      if (item.is_string()) kind = LabelKind::kClasses, done = true;
      if (item.is_number_float()) kind = LabelKind::kNumbers, done = true;
    }
  });
  if (!done && whole)
    FailUsage(
        "{}: labels are arrays of whole numbers; hint: --task regression if they are quantities, "
        "--task multi-label if they are classes",
        path);
  return kind;
}

}  // namespace

LabelKind TellLabelKind(const std::string& directory, const TextColumns& columns) {
  try {
    if (!HoldsTexts(directory)) return LabelKind::kClass;
    const std::vector<std::filesystem::path> paths = FindSplits(directory);
    if (paths.empty() || FormatOf(paths[0]) != RowFormat::kJsonl) return LabelKind::kClass;
    return TellLines(paths[0].string(), columns);
  } catch (const Error& e) {
    if (e.kind == ErrorKind::kUsage) throw;
    return LabelKind::kClass;
  }
}

}  // namespace graft
