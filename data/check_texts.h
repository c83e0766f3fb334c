// What `graft data check DIR` reports of labelled texts: counts, what is wrong in a split, and
// texts that are in two splits.
#pragma once
#include <string>
#include <vector>

#include "data/check.h"
#include "data/text.h"

namespace graft {

struct TextSplitReport {
  std::string name;
  size_t texts = 0;
  std::vector<size_t> per_class;  // [classes]; of numbers empty
  struct Column {
    double least = 0, mean = 0, most = 0;
  };
  std::vector<Column> columns = {};   // of numbers
  std::vector<std::string> problems;  // rows that are no examples, or why there are none at all
  size_t bad_rows = 0;                // of many problems the first are kept
};

struct TextReport {
  std::string directory;
  LabelKind kind = LabelKind::kClass;
  bool pairs = false, images = false;    // images: the texts are their paths
  std::vector<std::string> class_names;  // "0", "1", ... where the data set names none; of numbers
                                         // their columns
  std::vector<TextSplitReport> splits;
  std::vector<SplitOverlap> overlaps;  // texts of `second` that `first` has too
  std::vector<std::string> notes;      // what is odd and no mistake by itself
  std::string problem;                 // the first one, else ""

  // Whether every row is an example, there is more than one class to train on, and no two splits
  // share more texts than chance explains (kTextsByChance).
  bool ok() const { return problem.empty(); }
};

// What is wrong becomes part of the report, even if the directory holds no such data set.
TextReport CheckTexts(const std::string& directory, const TextColumns& columns = {},
                      LabelKind kind = LabelKind::kClass);

// Writes several lines for people; of many classes only the first are counted.
std::string ToString(const TextReport& report);

}  // namespace graft
