// Data sets that a suite makes of others: parts drawn by a seed, or the published lists of few-shot
// tasks in the form that everything else reads. Images stay where they are.
#pragma once
#include <string>
#include <vector>

#include "data/split_files.h"

namespace graft {

// Directories below ROOT (SUITE/lists), whose names end in a hash of their contents. So an existing
// one is never written again, and processes that plan the same suite agree on them.
class ListStore {
 public:
  explicit ListStore(std::string root) : root_(std::move(root)) {}

  // Returns the directory of a data set with these splits. Its name begins with `name`. Classes
  // without names are called 0, 1, ..., so that every part of a data set has the same ones.
  std::string Images(const std::string& name, std::vector<std::string> class_names, int num_classes,
                     const std::vector<Split>& splits);
  std::string Texts(const std::string& name, const std::vector<std::string>& class_names,
                    const std::vector<TextSplit>& splits);

 private:
  template <class F>
  std::string Make(const std::string& name, const std::string& hash, const F& write);

  std::string root_;
};

}  // namespace graft
