// Few examples of each class: drawn by a seed, or as published lists have them.
#pragma once
#include <optional>
#include <span>

#include "suites/list_store.h"

namespace graft {

// Indices of `shots` examples of every class, class by class, of which the first `skip` of each
// class are passed over: a draw of other examples than an earlier one of `skip` shots. A function
// of the seed and of the labels in their order; with fewer shots, and the same seed, the same ones
// without the last. Of a class with fewer examples all are taken.
std::vector<size_t> DrawShots(std::span<const int> labels, size_t shots, uint64_t seed,
                              size_t skip = 0);

// Lists in the layout of published few-shot tasks: DIR or DIR/annotations holds
// train_meta.list.num_shot_K.seed_S, val_meta.list and test_meta.list, of which a line is `name
// label`, split at the last blank. Names are below an image directory: `images`, or if that is ""
// the first of DIR/images and DIR in which the first name is.
class PublishedShots {
 public:
  // Nothing if there is no training list in DIR.
  static std::optional<PublishedShots> Find(const std::string& directory);

  // Throws Error that names the list and the line for what is no line of that form and for an image
  // that does not exist; and for a list that is not there with those that are.
  Split Train(int64_t shots, int64_t seed, const std::string& images) const;
  Split Validation(const std::string& images) const;
  Split Test(const std::string& images) const;

 private:
  Split Read(const std::string& file, const char* name, const std::string& images) const;

  std::string directory_, lists_;
};

}  // namespace graft
