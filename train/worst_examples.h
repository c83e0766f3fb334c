// The examples that a model is most wrong about.
#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "train/batches.h"

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

}  // namespace graft
