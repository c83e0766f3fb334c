// Measures on examples what a run's checkpoint is right and wrong about, for its report.
#pragma once
#include <map>

#include "tools/lib/options.h"
#include "train/evaluator.h"

namespace graft {

// An example with what the model makes of it.
struct JudgedExample {
  size_t example = 0;
  double loss = 0;  // without class weights and label smoothing
  // For classes: the label, the prediction (ties by index) and the probabilities of both.
  int64_t label = -1, predicted = -1;
  double probability = 0, label_probability = 0;
  // For a regression the numbers; for several labels 1 and 0, and logits.
  std::vector<float> targets = {}, outputs = {};
};
JudgedExample JudgeExample(const std::string& task, size_t example, const BatchSource& data,
                           std::span<const float> logits);

// Keeps the examples with the largest losses, the largest first; of equal losses the first
// examples.
class WorstExamples {
 public:
  explicit WorstExamples(size_t most) : most_(most) {}
  void Add(JudgedExample judged);
  const std::vector<JudgedExample>& all() const { return worst_; }

 private:
  size_t most_;
  std::vector<JudgedExample> worst_;
};

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
