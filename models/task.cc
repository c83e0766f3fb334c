#include "models/task.h"

#include "ops/ops.h"

namespace graft {

const std::vector<std::string>& TaskNames() {
  static const std::vector<std::string> kNames{kClassify, kRegression, kMultiLabel};
  return kNames;
}

ValueId TaskLosses(Graph& g, ValueId logits, const std::string& task, double label_smoothing) {
  const Shape& shape = g.shape(logits);
  if (task == kClassify)
    return CrossEntropy(g, logits, g.AddInput("labels", {DType::kI32, {shape[0]}}),
                        label_smoothing);
  GRAFT_CHECK(label_smoothing == 0, "label smoothing of {}", task);
  const ValueId targets = g.AddInput("targets", {DType::kF32, {shape[0], shape[1]}});
  return task == kRegression ? SquaredError(g, logits, targets)
                             : BinaryCrossEntropy(g, logits, targets);
}

}  // namespace graft
