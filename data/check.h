// What `graft data check DIR` reports of images: counts, unreadable files, images of formats that
// are not read, sizes, and images that appear in more than one split.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace graft {

struct SplitReport {
  std::string name;
  size_t images = 0;
  std::vector<size_t> per_class;  // [num_classes]
  // Sizes of the readable images; all are 0 if there are none.
  int min_width = 0, max_width = 0, min_height = 0, max_height = 0;
  double mean_width = 0, mean_height = 0;
};

struct UnreadableImage {
  std::string path, reason;
};

// A function that is told, on the caller's thread, how many images of how many have been read.
using CheckProgress = std::function<void(size_t done, size_t total)>;

// Decodes every image once, on `threads` threads, and returns those that cannot be decoded, in the
// order of the paths.
std::vector<UnreadableImage> FindUnreadable(const std::vector<std::string>& paths, int threads,
                                            const CheckProgress& progress = {});

// The same picture, pixel by pixel, under different paths in two splits.
struct DuplicateImage {
  std::string first_split, first_path, second_split, second_path;
};

// The same picture, under one path or two, with two different labels.
struct LabelConflict {
  std::string first_path, second_path;
  int first_label = 0, second_label = 0;
};

// `count` paths are in both lists. train800val200 contains train800 on purpose, so this is a fact
// and not a mistake; test with any training list is one.
struct SplitOverlap {
  std::string first, second;
  size_t count = 0;
};

struct DatasetReport {
  std::string directory;
  DatasetForm form = DatasetForm::kLists;
  int num_classes = 0;
  std::vector<std::string> class_names;
  std::vector<SplitReport> splits;
  std::vector<UnreadableImage> unreadable;
  std::vector<DuplicateImage> duplicates;
  std::vector<SplitOverlap> overlaps;
  std::vector<std::string> left_out;  // images of formats that are not read
  std::vector<LabelConflict> conflicts;
  std::vector<std::string> problems;  // of lists and folders: wrong lines, folders without images
  std::vector<std::string> notes;     // what is odd and no mistake by itself

  // The number of paths that are both in a test split and in a training or validation split.
  size_t leaked() const;
  // Whether there is no problem, no image that is unreadable or left out, no picture under two
  // paths in two splits or with two labels, and nothing leaked.
  bool ok() const;
  // What is wrong, in one line; "" if nothing is.
  std::string problem() const;
};

// Decodes every image once, on `threads` threads. What is wrong becomes part of the report, even if
// the directory holds no data set.
DatasetReport CheckDataset(const std::string& directory, int threads = 1,
                           const CheckProgress& progress = {});

// Writes several lines for people; long lists are cut after ten entries.
std::string ToString(const DatasetReport& report);

}  // namespace graft
