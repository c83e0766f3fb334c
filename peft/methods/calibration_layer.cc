// A layer behind the logits, from the identity: the mode "calibration" of null prompts (Logan et
// al. 2021, arXiv 2106.13353), whose other modes are methods of their own.
//
//   z <- z C' + c,   C [K,K] ~ identity, c [K] ~ 0
//
// With head=frozen nothing else trains, K^2 + K numbers. Folded, C W and C b + c are the head's
// weight and bias.
#include <algorithm>

#include "ops/ops.h"
#include "peft/methods/methods.h"
#include "peft/parameters.h"
#include "peft/surgery.h"

namespace graft {
namespace {

constexpr int64_t kMostClasses = 4096;  // the layer has the square of them

Init Identity() {
  return [](std::span<float> values, const Extents& shape, const StreamKey&) {
    std::ranges::fill(values, 0.f);
    for (int64_t i = 0; i < shape.rows(); ++i) values[i * shape.rows() + i] = 1;
  };
}

int64_t ClassesOf(const Graph& g) { return g.shape(g.output("logits"))[1].constant; }

PassReport ApplyCalibrationLayer(const MethodArgs& a) {
  PassReport report = StartReport(a, "calibration-layer");
  Graph& g = a.g;
  const int64_t classes = ClassesOf(g);
  if (classes > kMostClasses)
    FailUsage("'calibration-layer' is behind the logits of at most {} classes, and here are {}",
              kMostClasses, classes);
  ReplaceLogits(g, [&](ValueId logits) {
    const ValueId weight = NewParam(a, "calibration_layer.weight", {classes, classes}, Identity());
    const ValueId bias = NewParam(a, "calibration_layer.bias", {classes}, Zeros());
    return Linear(g, logits, weight, bias);
  });
  report.rewrites = 1;
  return FinishReport(a, report);
}

}  // namespace

const MethodRecord kCalibrationLayerMethod{
    .name = "calibration-layer",
    .summary = "a trained K x K layer behind the logits (null prompts, Logan et al. 2021)",
    .equation = "z <- z C' + c",
    .formula = "K (K + 1)",
    .source = "Logan et al. 2021, arXiv 2106.13353",
    .options = +[] { return std::vector<MethodOption>{}; },
    .apply = ApplyCalibrationLayer,
    .count =
        +[](const MethodArgs& a) {
          const int64_t classes = ClassesOf(a.g);
          return classes * (classes + 1);
        },
    .folds = Folds::kYes,
    .why = "C W_head, C b_head + c",
    .learning_rate = 1e-2,
    .phase = MethodPhase::kBranches};

}  // namespace graft
