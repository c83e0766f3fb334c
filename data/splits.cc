#include "data/splits.h"

#include <algorithm>

#include "runtime/error.h"
#include "runtime/io/atomic_file.h"
#include "runtime/utf8.h"

namespace graft {

void CheckExampleCount(size_t count, const std::string& where) {
  if (count > kMaxExamples)
    Fail("{}: expected at most {} examples in a data set, found more", where, kMaxExamples);
}

std::string ReadTextFile(const std::string& path, uint64_t max_bytes) {
  std::string text = ReadFile(path, max_bytes);
  if (text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);
  return text;
}

std::vector<std::string> ReadClassNames(const std::string& path) {
  const std::string text = ReadTextFile(path, kMaxNamesBytes);
  std::vector<std::string> names;
  size_t named = 0;  // up to the last that is not blank
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string_view name = std::string_view(text).substr(at, end - at);
    if (name.ends_with('\r')) name.remove_suffix(1);
    names.emplace_back(name);
    if (name.find_first_not_of(" \t") != name.npos) named = names.size();
    if (named > static_cast<size_t>(kMaxClasses))
      Fail("{}:{}: expected at most {} classes, found more", path, named, kMaxClasses);
    at = end + 1;
  }
  names.resize(named);
  if (names.empty()) Fail("{}: expected a class name per line, found an empty file", path);
  return names;
}

bool Contains(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string FirstOf(const std::vector<std::string>& wanted, const std::vector<std::string>& names) {
  for (const std::string& name : wanted)
    if (Contains(names, name)) return name;
  return "";
}

SplitPurpose PurposeOf(std::string_view name) {
  static const std::vector<std::string> kTrain = {"train", "training", "train800"},
                                        kValidation = {"val",        "valid",  "validation",
                                                       "dev",        "eval",   "development",
                                                       "evaluation", "val200", kHoldout},
                                        kTest = {"test", "testing"};
  const std::string lower = ToLowerAscii(std::string(name));
  if (Contains(kTrain, lower)) return SplitPurpose::kTrain;
  if (Contains(kValidation, lower)) return SplitPurpose::kValidation;
  return Contains(kTest, lower) ? SplitPurpose::kTest : SplitPurpose::kOther;
}

namespace {

std::string Choose(const std::vector<std::string>& usual, SplitPurpose purpose,
                   const std::vector<std::string>& names) {
  if (const std::string name = FirstOf(usual, names); !name.empty()) return name;
  const auto found =
      std::ranges::find_if(names, [&](const auto& name) { return PurposeOf(name) == purpose; });
  return found == names.end() ? "" : *found;
}

}  // namespace

std::string DefaultTrain(const std::vector<std::string>& names) {
  const std::string name = Choose({"train800", "train"}, SplitPurpose::kTrain, names);
  const auto own = std::ranges::count_if(names, [](const auto& n) { return n != kHoldout; });
  if (!name.empty() || own != 1 || PurposeOf(names[0]) != SplitPurpose::kOther) return name;
  return names[0];
}

std::string DefaultValidation(const std::vector<std::string>& names) {
  return Choose({"val200", "dev", "val", "valid", "validation"}, SplitPurpose::kValidation, names);
}

std::string DefaultEval(const std::vector<std::string>& names) {
  const std::string name = Choose({"test"}, SplitPurpose::kTest, names);
  if (!name.empty()) return name;
  if (names.size() == 1 && PurposeOf(names[0]) == SplitPurpose::kOther) return names[0];
  return DefaultValidation(names);
}

void NoSuchSplit(const std::string& directory, std::string_view name,
                 const std::vector<std::string>& names) {
  const std::string near = Nearest(name, names);
  Fail("{}: there is no split '{}'{}; it has {}", directory, name,
       near.empty() ? "" : fmt::format("; did you mean '{}'?", near), fmt::join(names, ", "));
}

}  // namespace graft
