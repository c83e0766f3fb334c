// Whether the classes of a task are those of a trained head, and which is which.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace graft {

struct ClassMatch {
  std::vector<int64_t> number;      // of each class of the task, that of the head
  std::vector<std::string> labels;  // in the head's order; of two names the one that says more
  bool by_name = true;  // false: at least one class has no name on one side, so its number counts

  bool SameOrder() const;
};

// Names are equal in any order and case. LABEL_3 is no name but the number of a class, which fits
// any name; so is 3 (03, 3.0), if all numbers of the list count classes. A head that names
// nothing (`head` is empty) has the classes of `task` in their order. Returns nothing if the names
// contradict each other.
std::optional<ClassMatch> MatchClasses(const std::vector<std::string>& task,
                                       const std::vector<std::string>& head);

// The same for data in which only some of the head's classes occur: the number of each. Their names
// must be the head's, in any case; where the data only number their classes ("0", "1", ... in
// order), these are the head's numbers. Returns nothing for any other class.
std::optional<std::vector<int64_t>> MatchSomeClasses(const std::vector<std::string>& some,
                                                     const std::vector<std::string>& head);

}  // namespace graft
