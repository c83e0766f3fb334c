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
  std::vector<size_t> per_class;  // [classes]
  std::string error;              // of a split that cannot be read, else ""
};

struct TextReport {
  std::string directory;
  bool pairs = false;
  std::vector<std::string> class_names;  // "0", "1", ... where the data set names none
  std::vector<TextSplitReport> splits;
  std::vector<SplitOverlap> overlaps;  // texts of `second` that `first` has too
  std::string problem;                 // the first one, else ""

  // No unreadable split, and no two that share more texts than chance does (kTextsByChance).
  bool ok() const { return problem.empty(); }
};

// Throws Error as TextDataset does; splits with errors are part of the report.
TextReport CheckTexts(const std::string& directory);

// For people, several lines; of many classes only the first are counted.
std::string ToString(const TextReport& report);

}  // namespace graft
