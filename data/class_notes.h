// Says what is odd about the classes of a data set, whatever its examples are.
#pragma once
#include <string>
#include <vector>

namespace graft {

struct ClassCounts {
  std::string split;
  std::vector<size_t> per_class;  // [classes]
};

// Notes classes without a training example, such as 0 where labels count from 1, and those that
// only other splits have; with `all`, also classes that other splits lack. `names` are "" or
// numbers where the data set names no classes. Training is the first split of this purpose, else
// the first of all.
std::vector<std::string> ClassNotes(const std::string& directory,
                                    const std::vector<std::string>& names,
                                    const std::vector<ClassCounts>& splits, bool all);

// Finds names that differ only in case or in blanks around them, as "'Good' and 'good'".
std::vector<std::string> NearlyEqualNames(const std::vector<std::string>& names);

}  // namespace graft
