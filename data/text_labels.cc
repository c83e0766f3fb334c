#include "data/text_labels.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "data/splits.h"
#include "runtime/error.h"
#include "runtime/utf8.h"
#include "runtime/words.h"

namespace graft {
namespace {

// A whole number as people write it, also where programs have written 1.0; else "".
std::string Whole(std::string_view text) {
  const std::optional<double> value = ParseNumber(text);
  if (!value || *value != std::floor(*value) || std::abs(*value) > 1e9) return "";
  return std::to_string(static_cast<int64_t>(*value));
}

// The class number that `text` stands for, also when it is written as 1.0; or -1.
int NumberOf(std::string_view text, int limit) {
  const std::optional<double> value = ParseNumber(text);
  return value && *value >= 0 && *value < limit && *value == std::floor(*value)
             ? static_cast<int>(*value)
             : -1;
}

// Whether a number has zeros in front of it, as in codes and names of folders: programs that write
// numbers leave them out.
bool IsPadded(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  const auto digit = [&](size_t i) { return i < text.size() && text[i] >= '0' && text[i] <= '9'; };
  return text.starts_with('0') && digit(1);
}

}  // namespace

bool NumbersFirst::operator()(const std::string& a, const std::string& b) const {
  const std::optional<double> x = ParseNumber(a), y = ParseNumber(b);
  if (x && y && *x != *y) return *x < *y;
  return x.has_value() != y.has_value() ? x.has_value() : a < b;
}

std::string_view TrimBlanks(std::string_view text) { return Trim(text, " \t\r\n"); }

std::string_view FirstBytes(std::string_view text, size_t bytes) {
  if (text.size() <= bytes) return text;
  while (bytes > 0 && (static_cast<uint8_t>(text[bytes]) & 0xC0) == 0x80) --bytes;
  return text.substr(0, bytes);
}

bool IsMissing(std::string_view label) {
  static const std::vector<std::string> kMissing = {"",    "nan", "-nan", "null", "na",
                                                    "n/a", "#na", "#n/a", "<na>"};
  return label.size() < 6 && Contains(kMissing, ToLowerAscii(std::string(label)));
}

std::optional<double> ParseNumber(std::string_view text) {
  double value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || stop != text.data() + text.size() || !std::isfinite(value)) return {};
  return value;
}

bool HasDecimalComma(std::string_view text) {
  const size_t comma = text.find(',');
  if (comma == text.npos || comma == 0 || comma + 1 == text.size()) return false;
  std::string point(text);
  point[comma] = '.';
  return ParseNumber(point).has_value();
}

std::vector<std::string> ClassesOf(const RawTable& table) {
  std::set<std::string, NumbersFirst> names;
  bool numbers = true, whole = true, negative = false, padded = false;
  for (const RawRow& row : table.rows) {
    const std::string_view label = TrimBlanks(row.fields[table.places.label]);
    if (IsMissing(label)) continue;
    const std::optional<double> value = ParseNumber(label);
    numbers = numbers && value;
    whole = whole && !Whole(label).empty();
    padded = padded || (value && IsPadded(label));
    negative = negative || (value && *value < 0);
    names.emplace(label);
  }
  padded = padded && whole;  // 01 is a name, beside which 1 is another
  if (numbers && !(whole && negative) && !padded) return {};
  if (numbers && !padded) {  // such as -1 and 1, which are names
    std::set<std::string, NumbersFirst> written;
    for (const std::string& name : names) written.insert(Whole(name));
    names = std::move(written);
  }
  if (names.size() > static_cast<size_t>(kMaxClasses))
    Fail("{}: expected at most {} different labels, found {}", table.path, kMaxClasses,
         names.size());
  return {names.begin(), names.end()};
}

LabelTable::LabelTable(const std::vector<std::string>& names, size_t texts)
    : names_(names),
      limit_(static_cast<int>(names.empty() ? std::min(texts, static_cast<size_t>(kMaxClasses))
                                            : names.size())) {
  for (size_t i = 0; i < names.size(); ++i) numbers_.emplace(names[i], static_cast<int>(i));
  numbered_ = !names.empty();
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string whole = Whole(names[i]);
    numbered_ = numbered_ && !whole.empty();
    const auto [at, fresh] = by_value_.emplace(whole, static_cast<int>(i));
    if (!fresh) at->second = -1;  // 1 and 01
  }
  if (!numbered_) by_value_.clear();
}

int LabelTable::Find(std::string_view written, const std::string& path, size_t line) const {
  const std::string label(TrimBlanks(written));
  for (const std::string& name : {std::string(written), label})
    if (const auto found = numbers_.find(name); found != numbers_.end()) return found->second;
  if (const std::string whole = Whole(label); !whole.empty()) {
    const auto value = by_value_.find(whole);
    if (value != by_value_.end() && value->second >= 0) return value->second;
    const auto name = numbers_.find(whole);
    if (value == by_value_.end() && name != numbers_.end()) return name->second;
  }
  if (IsMissing(label))
    Fail("{}:{}: the label is {}; hint: --skip-bad leaves such rows out", path, line,
         label.empty() ? "empty" : fmt::format("'{}', which stands for a missing one", label));
  // Beside names that are numbers themselves, such as 1 to 5, a number is no place in their list.
  if (const int number = NumberOf(label, limit_); number >= 0 && !numbered_) return number;
  const std::optional<double> value = ParseNumber(label);
  if (names_.empty() && value && *value != std::floor(*value))
    Fail(
        "{}:{}: the label '{}' is no class, which are names or whole numbers; hint: --task "
        "regression learns such numbers",
        path, line, label);
  if (names_.empty())
    Fail(
        "{}:{}: expected a class number below {}, the number of texts, found '{}'; hint: --task "
        "regression learns quantities; labels.txt names classes, one in each line",
        path, line, limit_, label);
  if (value && !numbered_)
    Fail("{}:{}: expected a label from 0 to {}, found '{}'", path, line, limit_ - 1, label);
  const bool far = line == 1 && Nearest(label, names_).empty();
  Fail("{}:{}: unknown label '{}'{}{}", path, line, label, DidYouMean(label, names_),
       far ? "; hint: if the line names the columns, --columns TEXT,LABEL with these names" : "");
}

}  // namespace graft
