#include "models/files/class_names.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <numeric>
#include <set>

#include "runtime/error.h"
#include "runtime/utf8.h"

namespace graft {
namespace {

// What the name of a class tells: a name, or the number that stands in its place.
struct Word {
  std::string name;     // lower case
  int64_t number = -1;  // >= 0: no name
};

// Returns 3 for "label_3" and for "3" in the ways in which programs write it, "03" and "3.0"; -1
// for anything else.
int64_t NumberIn(std::string_view lower) {
  constexpr std::string_view kMadeUp = "label_";
  const bool made_up = lower.starts_with(kMadeUp);
  if (made_up) lower.remove_prefix(kMadeUp.size());
  if (const size_t point = lower.find('.'); !made_up && point != lower.npos && point > 0 &&
                                            lower.find_first_not_of('0', point + 1) == lower.npos)
    lower = lower.substr(0, point);
  int64_t number = -1;
  const auto [end, error] = std::from_chars(lower.data(), lower.data() + lower.size(), number);
  const bool whole = error == std::errc() && end == lower.data() + lower.size();
  return whole && number >= 0 && (!made_up || std::to_string(number) == lower) ? number : -1;
}

// The number in `head` of each name, or nothing unless each is there as it is, and once.
std::optional<std::vector<int64_t>> SameNames(const std::vector<std::string>& some,
                                              const std::vector<std::string>& head) {
  std::vector<int64_t> numbers;
  for (const std::string& name : some) {
    if (std::ranges::count(head, name) != 1) return {};
    numbers.push_back(std::ranges::find(head, name) - head.begin());
  }
  if (std::set(numbers.begin(), numbers.end()).size() != some.size()) return {};
  return numbers;
}

std::vector<Word> Words(const std::vector<std::string>& names) {
  const int64_t classes = std::ssize(names);
  std::vector<Word> words;
  std::set<int64_t> seen;
  bool numbers = true;
  for (const std::string& name : names) {
    words.push_back({ToLowerAscii(name)});
    words.back().number = NumberIn(words.back().name);
    if (const int64_t n = words.back().number; n >= 0)
      numbers = numbers && n < classes && seen.insert(n).second;
  }
  // Numbers that do not count classes, such as those of one to five stars, are names.
  for (Word& word : words)
    if (!numbers) word.number = -1;
  return words;
}

class Matcher {
 public:
  Matcher(const std::vector<std::string>& task, const std::vector<std::string>& head)
      : task_(Words(task)), head_(Words(head)), to_(task.size(), -1), taken_(task.size()) {}

  // Returns nothing if the names contradict each other.
  std::optional<ClassMatch> Run(const std::vector<std::string>& task,
                                const std::vector<std::string>& head) {
    const bool twice = TakeEqualNames();
    const bool by_name = Left() == 0;
    for (int64_t i = 0; i < std::ssize(task_); ++i)
      if (to_[i] < 0 && task_[i].number >= 0) Take(i, task_[i].number);
    for (int64_t i = 0; i < std::ssize(task_); ++i)
      if (to_[i] < 0 && head_[i].number >= 0) Take(i, i);
    if (Left() == 1) TakeLast();
    if (Left() > 0) return {};
    ClassMatch match{to_, std::vector<std::string>(task.size()), by_name};
    if (twice && !match.SameOrder()) return {};
    for (int64_t i = 0; i < std::ssize(task); ++i) {
      const int64_t j = to_[i];
      match.labels[j] = head_[j].number >= 0 && task_[i].number < 0 ? task[i] : head[j];
    }
    return match;
  }

 private:
  int64_t Left() const { return std::ranges::count(to_, -1); }

  void Take(int64_t i, int64_t j) {
    if (taken_[j]) return;
    to_[i] = j, taken_[j] = true;
  }

  // Matches classes that have the same name by their order. Returns whether there are any.
  bool TakeEqualNames() {
    using Key = std::pair<int64_t, std::string>;
    const auto key = [](const Word& w) { return Key(w.number, w.number < 0 ? w.name : ""); };
    std::map<Key, std::vector<int64_t>> classes;  // first one last
    std::set<Key> seen;
    bool twice = false;
    for (int64_t j = std::ssize(head_) - 1; j >= 0; --j) {
      std::vector<int64_t>& same = classes[key(head_[j])];
      twice |= !same.empty();
      same.push_back(j);
    }
    for (int64_t i = 0; i < std::ssize(task_); ++i) {
      twice |= !seen.insert(key(task_[i])).second;
      const auto found = classes.find(key(task_[i]));
      if (found == classes.end() || found->second.empty()) continue;
      Take(i, found->second.back());
      found->second.pop_back();
    }
    return twice;
  }

  // Gives the one name that is left to the one class that is left, if that has none.
  void TakeLast() {
    const int64_t i = std::ranges::find(to_, -1) - to_.begin();
    const int64_t j = std::ranges::find(taken_, false) - taken_.begin();
    if (task_[i].number < 0 && head_[j].number >= 0) Take(i, j);
  }

  std::vector<Word> task_, head_;
  std::vector<int64_t> to_;
  std::vector<bool> taken_;
};

}  // namespace

bool ClassMatch::SameOrder() const {
  for (int64_t i = 0; i < std::ssize(number); ++i)
    if (number[i] != i) return false;
  return true;
}

std::optional<std::vector<int64_t>> MatchSomeClasses(const std::vector<std::string>& some,
                                                     const std::vector<std::string>& head) {
  if (const auto same = SameNames(some, head)) return same;
  std::map<std::string, int64_t> places;
  bool numbered = true, named = true;  // the data by numbers, the head by names
  for (int64_t j = 0; j < std::ssize(head); ++j) {
    const std::string name = ToLowerAscii(head[j]);
    if (!places.emplace(name, j).second) return {};
    named = named && NumberIn(name) < 0;
  }
  std::vector<int64_t> numbers;
  for (int64_t i = 0; i < std::ssize(some); ++i) {
    const auto found = places.find(ToLowerAscii(some[i]));
    if (found != places.end()) numbers.push_back(found->second);
    numbered = numbered && some[i] == std::to_string(i);
  }
  if (std::set(numbers.begin(), numbers.end()).size() == some.size()) return numbers;
  if (!numbered || !named || some.size() > head.size()) return {};
  numbers.resize(some.size());
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

std::optional<ClassMatch> MatchClasses(const std::vector<std::string>& task,
                                       const std::vector<std::string>& head) {
  if (head.empty()) {
    ClassMatch match{std::vector<int64_t>(task.size()), task, false};
    std::iota(match.number.begin(), match.number.end(), 0);
    return match;
  }
  if (head.size() != task.size()) return {};
  if (const auto same = SameNames(task, head)) return ClassMatch{*same, head, true};
  return Matcher(task, head).Run(task, head);
}

}  // namespace graft
