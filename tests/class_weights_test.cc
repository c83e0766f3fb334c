// Weights of classes in the loss, against torch.nn.CrossEntropyLoss(weight, label_smoothing) and
// scikit-learn's compute_class_weight.
#include "train/class_weights.h"

#include <gtest/gtest.h>

#include "autograd/train_step.h"
#include "ops/ops.h"
#include "train/run_config.h"

namespace graft::class_weights_test {
namespace {

constexpr int64_t kRows = 5, kIn = 3, kClasses = 4;
constexpr int32_t kLabels[] = {0, 2, 2, 3, 2};
const std::vector<double> kWeights{2, 0.5, 1.25, 3};

// The numbers are those that torch was given: x [5,3], W [4,3].
float X(int64_t r, int64_t c) { return static_cast<float>((7 * r + 3 * c) % 11 - 5) / 4; }
float W(int64_t r, int64_t c) { return static_cast<float>((5 * r + 2 * c) % 7 - 3) / 3; }

struct Row {
  double smoothing, loss;
  std::vector<double> gradient;  // of W
};
// What torch 2 gives in double precision.
const Row kTorch[] = {
    {0,
     1.49390847,
     {0.137770969, 0.0692588538, 0.0127002625, 0.314201327, -0.178063828, -0.00728695956,
      0.0660879577, -0.132634956, -0.0755451531, -0.518060254, 0.24143993, 0.0701318502}},
    {0.2,
     1.56979509,
     {0.0788636917, 0.037497627, 0.0316515853, 0.285391002, -0.161779953, -0.00682161373,
      0.0739700668, -0.0497408211, -0.10657403, -0.43822476, 0.174023147, 0.0817440585}}};

// x W' with its losses.
Graph LossGraph(double smoothing) {
  Graph g;
  const Shape sequences{Dim::Sequences()};
  const ValueId x = g.AddInput("x", {DType::kF32, {Dim::Sequences(), kIn}});
  const ValueId labels = g.AddInput("labels", {DType::kI32, sequences});
  const ValueId logits = Linear(g, x, g.AddParam("w", {kClasses, kIn}, true), {});
  g.SetOutput("logits", logits);
  g.SetOutput("losses", CrossEntropy(g, logits, labels, smoothing));
  return g;
}

// A step of SGD with rate 1 takes the gradient away.
TEST(ClassWeights, LossAndGradientAreThoseOfTorch) {
  for (const Row& row : kTorch)
    for (const int64_t micro : {5, 2}) {
      SCOPED_TRACE(fmt::format("smoothing {}, micro-batch {}", row.smoothing, micro));
      ParamStore params;
      float* w = params.Allocate("w", {kClasses, kIn});
      for (int64_t i = 0; i < kClasses * kIn; ++i) w[i] = W(i / kIn, i % kIn);
      Graph g = LossGraph(row.smoothing);
      WeightLosses(&g, &params, kWeights, row.smoothing);
      TrainStep step(g, params, {.kind = OptimizerKind::kSgd, .momentum = 0}, micro);
      double sum = 0;
      for (const int32_t label : kLabels) sum += kWeights[label];
      const auto fill = [&](int64_t first, int64_t count, int worker) {
        float* x = step.session().Input("x", worker).f32();
        int32_t* labels = step.session().Input("labels", worker).i32();
        for (int64_t r = 0; r < count; ++r) {
          for (int64_t c = 0; c < kIn; ++c) *x++ = X(first + r, c);
          labels[r] = kLabels[first + r];
        }
      };
      const StepResult result = step.Run(kRows, 0, 1, fill, sum);
      EXPECT_NEAR(result.loss, row.loss, 1e-6);
      for (int64_t i = 0; i < kClasses * kIn; ++i)
        EXPECT_NEAR(W(i / kIn, i % kIn) - params.values("w")[i], row.gradient[i], 1e-6) << i;
    }
}

// compute_class_weight("balanced"): n / (K n_c) over the classes that have examples.
TEST(ClassWeights, Balanced) {
  EXPECT_EQ(ClassWeights("balanced", {1, 0, 3, 1}),
            (std::vector<double>{5.0 / 3, 1, 5.0 / 9, 5.0 / 3}));
  EXPECT_EQ(ClassWeights("balanced", {4, 4}), (std::vector<double>{1, 1}));
  EXPECT_TRUE(ClassWeights("", {4, 4}).empty());
  EXPECT_EQ(ClassWeights("1|2.5", {4, 4}), (std::vector<double>{1, 2.5}));
  for (const char* wrong : {"balance", "1|0", "1|-2", "1||2", "1|2|", "1|2|3", "1"})
    EXPECT_THROW(ClassWeights(wrong, {4, 4}), Error) << wrong;
}

}  // namespace
}  // namespace graft::class_weights_test
