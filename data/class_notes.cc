#include "data/class_notes.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "data/splits.h"
#include "data/text_labels.h"
#include "runtime/utf8.h"

namespace graft {
namespace {

std::string Some(const std::vector<std::string>& names) {
  constexpr size_t kShown = 5;
  std::string text;
  for (size_t i = 0; i < std::min(kShown, names.size()); ++i)
    text += fmt::format("{}'{}'", i ? ", " : "", names[i]);
  return names.size() > kShown ? text + ", ..." : text;
}

// Whether a name is made of several, joined by '|'.
bool AreJoined(const std::string& name) {
  const size_t bar = name.find('|');
  return bar != name.npos && bar > 0 && bar + 1 < name.size();
}

// Whether a name joins others by commas or semicolons.
bool JoinsOthers(const std::string& name, const std::set<std::string_view>& names) {
  size_t at = 0, parts = 0;
  while (at <= name.size()) {
    const size_t end = std::min(name.find_first_of(",;", at), name.size());
    if (!names.contains(TrimBlanks(std::string_view(name).substr(at, end - at)))) return false;
    at = end + 1, ++parts;
  }
  return parts > 1;
}

// Notes names that look as if they were something else than classes.
void NoteOddNames(const std::string& directory, const std::vector<std::string>& names,
                  const std::vector<size_t>& counts, std::vector<std::string>* notes) {
  constexpr int64_t kMany = 10;
  const auto joined = std::ranges::find_if(names, AreJoined);
  if (joined != names.end())
    notes->push_back(
        fmt::format("{}: '{}' is one class; hint: --task multi-label takes labels apart at '|'",
                    directory, *joined));
  const std::set<std::string_view> known(names.begin(), names.end());
  const auto joins =
      std::ranges::find_if(names, [&](const auto& name) { return JoinsOthers(name, known); });
  if (joins != names.end())
    notes->push_back(
        fmt::format("{}: '{}' is one class beside those that it joins; hint: --task multi-label "
                    "takes labels apart at '|'",
                    directory, *joins));
  const int64_t single = std::ranges::count(counts, 1u);
  if (single == 1 && std::ranges::max(counts) >= static_cast<size_t>(kMany)) {
    const auto at = static_cast<size_t>(std::ranges::find(counts, 1u) - counts.begin());
    notes->push_back(
        fmt::format("{}: the class '{}' has a single example, of which nothing can be "
                    "held out",
                    directory, at < names.size() ? names[at] : std::to_string(at)));
  }
  if (single < kMany || 2 * single < std::ssize(counts)) return;
  const bool commas = std::ranges::all_of(
      names, [](const std::string& n) { return HasDecimalComma(n) || graft::ParseNumber(n); });
  notes->push_back(fmt::format(
      "{}: {} of the {} classes have a single example{}", directory, single, counts.size(),
      !names.empty() && commas
          ? "; hint: --task regression learns numbers, whose decimals are written with a point"
          : ", which is little to learn from; hint: is this the column or folder of the classes?"));
}

}  // namespace

std::vector<std::string> ClassNotes(const std::string& directory,
                                    const std::vector<std::string>& names,
                                    const std::vector<ClassCounts>& splits, bool all) {
  std::vector<std::string> notes;
  if (splits.empty()) return notes;
  auto train = std::ranges::find_if(
      splits, [](const ClassCounts& s) { return PurposeOf(s.split) == SplitPurpose::kTrain; });
  if (train == splits.end()) train = splits.begin();
  const std::vector<size_t>& trained = train->per_class;
  const auto name = [&](size_t i) { return i < names.size() ? names[i] : std::to_string(i); };
  const auto first = std::ranges::find_if(trained, [](size_t n) { return n > 0; });
  std::vector<std::string> without;
  for (size_t i = 0; i < trained.size(); ++i)
    if (trained[i] == 0 &&
        std::ranges::none_of(splits, [&](const auto& s) { return s.per_class[i] > 0; }))
      without.push_back(name(i));
  const bool counted = names.empty() || names[0] == "0";
  if (!without.empty() && counted && first != trained.begin() && first != trained.end())
    notes.push_back(fmt::format("{}: labels begin at {}, but classes count from 0: {} {}",
                                directory, first - trained.begin(), Some(without),
                                without.size() == 1
                                    ? "has no example and an output that never learns"
                                    : "have no example and outputs that never learn"));
  else if (!without.empty())
    notes.push_back(fmt::format("{}: {} of the {} classes have no example: {}", directory,
                                without.size(), trained.size(), Some(without)));
  NoteOddNames(directory, names, trained, &notes);
  for (const ClassCounts& split : splits) {
    if (split.split == train->split) continue;
    std::vector<std::string> fresh, missing;
    for (size_t i = 0; i < trained.size(); ++i) {
      if (split.per_class[i] > 0 && trained[i] == 0) fresh.push_back(name(i));
      if (split.per_class[i] == 0 && trained[i] > 0) missing.push_back(name(i));
    }
    if (!fresh.empty())
      notes.push_back(fmt::format("{}: split '{}' has examples of {} {}, of which '{}' has none",
                                  directory, split.split, fresh.size() > 1 ? "classes" : "class",
                                  Some(fresh), train->split));
    if (all && !missing.empty())
      notes.push_back(fmt::format("{}: split '{}' has no example of {} of the {} classes: {}",
                                  directory, split.split, missing.size(), trained.size(),
                                  Some(missing)));
  }
  return notes;
}

std::vector<std::string> NearlyEqualNames(const std::vector<std::string>& names) {
  std::map<std::string, const std::string*> seen;
  std::vector<std::string> pairs;
  for (const std::string& name : names) {
    const auto [other, is_new] = seen.emplace(ToLowerAscii(name), &name);
    if (!is_new) pairs.push_back(fmt::format("'{}' and '{}'", *other->second, name));
  }
  return pairs;
}

}  // namespace graft
