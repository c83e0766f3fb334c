// Plain texts without labels on disk: DIR/*.txt. dev.txt, val.txt, valid.txt, validation.txt and
// test.txt are splits of their own, all other files together are the split "train".
//
// A file in which an empty line stands between others holds documents, each of the lines up to the
// next empty one; in any other file each line is a text.
#pragma once
#include "data/text.h"

namespace graft {

class Corpus {
 public:
  // Reads everything. Throws Error for a directory without texts, and for files that are not UTF-8.
  explicit Corpus(const std::string& directory);

  const std::string& directory() const { return directory_; }
  std::vector<std::string> split_names() const;
  // The first `limit` texts (0: all of them); between the lines of a document stand line ends.
  // Throws Error if there is no such split.
  TextSplit Load(std::string_view name, size_t limit = 0) const;
  void HoldOut(const std::string& split, double share, uint64_t seed);  // as TextDataset
  std::string DefaultTrainSplit() const;
  std::string DefaultValidationSplit() const;
  std::string DefaultEvalSplit() const;

  std::vector<std::string> class_names() const { return {}; }
  int num_classes() const { return 0; }

 private:
  std::string directory_;
  std::vector<TextSplit> splits_;
};

}  // namespace graft
