// Few examples of each class: drawn by a seed, or as published lists have them.
#pragma once
#include <optional>
#include <span>

#include "suites/list_store.h"

namespace graft {

// The indices of `shots` examples of every class, class by class. The first `skip` of each class
// are passed over, which draws other examples than an earlier draw of `skip` shots did. The result
// is a function of the seed and of the labels in their order; fewer shots with the same seed give
// the same examples without the last ones. A class with fewer examples gives all of them.
std::vector<size_t> DrawShots(std::span<const int> labels, size_t shots, uint64_t seed,
                              size_t skip = 0);

// Lists in the layout of published few-shot tasks. DIR or DIR/annotations holds
// train_meta.list.num_shot_K.seed_S, val_meta.list and test_meta.list, whose lines are `name
// label`, split at the last blank. Names are below an image directory: `images` or, if that is "",
// the first of DIR/images and DIR that has the first name.
class PublishedShots {
 public:
  // Returns nothing if there is no training list in DIR.
  static std::optional<PublishedShots> Find(const std::string& directory);

  // These throw Error that names the list and the line, for a line of another form and for an image
  // that does not exist. For a list that is not there, Error names those that are.
  Split Train(int64_t shots, int64_t seed, const std::string& images) const;
  Split Validation(const std::string& images) const;
  Split Test(const std::string& images) const;

 private:
  Split Read(const std::string& file, const char* name, const std::string& images) const;

  std::string directory_, lists_;
};

}  // namespace graft
