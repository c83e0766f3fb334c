// Measures on examples what a run's checkpoint is right and wrong about, for its report.
#pragma once
#include <map>

#include "tools/lib/options.h"
#include "train/evaluator.h"
#include "train/worst_examples.h"

namespace graft {

struct RunQuality {
  std::string task, split, unit, checkpoint;
  bool texts = false, masked_words = false, upright = false;  // upright: of images, as EXIF says
  size_t size = 0;  // of the split; metrics.n of them are measured, or their masked words
  size_t examples = 0;
  Metrics metrics;
  std::vector<std::string> labels;
  std::vector<JudgedExample> worst;
  std::vector<JudgedExample> sample;    // of a regression: at even distances
  std::map<size_t, std::string> names;  // of these examples: the path of an image, or the text
};

// Measures the checkpoint that `graft eval` takes on the run's data: on its validation split, else
// on the test split, or on the one that is named; the first `limit` examples (0: all). Throws Error
// where model or data are gone or are no longer those of the run, and of kind kUsage for a named
// split that the data do not have.
RunQuality MeasureRun(const std::string& run, const std::string& split, size_t limit,
                      const CommonOptions& common);

}  // namespace graft
