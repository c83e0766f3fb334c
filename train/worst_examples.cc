#include "train/worst_examples.h"

#include <algorithm>
#include <cmath>

#include "models/task.h"

namespace graft {
namespace {

// The loss of logits for one of their classes.
double CrossEntropy(std::span<const float> logits, size_t label) {
  const double most = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - most);
  return std::log(sum) + most - logits[label];
}

// The binary loss of one logit, which is finite for every logit.
double BinaryCrossEntropy(double logit, double target) {
  return std::max(logit, 0.0) - logit * target + std::log1p(std::exp(-std::abs(logit)));
}

}  // namespace

JudgedExample JudgeExample(const std::string& task, size_t example, const BatchSource& data,
                           std::span<const float> logits) {
  JudgedExample j{example};
  if (task == kClassify) {
    j.label = data.label(example);
    j.predicted = std::ranges::max_element(logits) - logits.begin();
    j.loss = CrossEntropy(logits, static_cast<size_t>(j.label));
    j.label_probability = std::exp(-j.loss);
    j.probability = std::exp(-CrossEntropy(logits, static_cast<size_t>(j.predicted)));
    return j;
  }
  const std::span<const float> targets = data.targets(example);
  j.targets.assign(targets.begin(), targets.end()), j.outputs.assign(logits.begin(), logits.end());
  for (size_t k = 0; k < logits.size(); ++k) {
    const double error = static_cast<double>(logits[k]) - targets[k];
    j.loss += task == kRegression ? error * error : BinaryCrossEntropy(logits[k], targets[k]);
  }
  j.loss /= static_cast<double>(std::max<size_t>(logits.size(), 1));
  return j;
}

void WorstExamples::Add(JudgedExample judged) {
  const auto at = std::ranges::upper_bound(worst_, judged.loss, std::greater<>(),
                                           [](const JudgedExample& j) { return j.loss; });
  worst_.insert(at, std::move(judged));
  if (worst_.size() > most_) worst_.pop_back();
}

}  // namespace graft
