// Compares gradients of a block at the real sizes of DeiT-Ti: those of the session with all passes,
// and those of the f64 interpreter of the plain graph. Small fixtures never reach the large-shape
// paths of the kernels.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "autograd/train_step.h"
#include "runtime/interpret.h"
#include "runtime/rng.h"
#include "train/evaluator.h"

namespace graft::large_gradient_test {
namespace {

constexpr int64_t kBatch = 6, kImage = 3 * 224 * 224;

class LargeGradient : public ::testing::TestWithParam<int64_t> {
 protected:
  // The interpreter takes most of the time, and its values are the same for each micro-batch.
  static void SetUpTestSuite() {
    const VitConfig config{.width = 192, .depth = 1, .heads = 3, .mlp_width = 768, .classes = 10};
    InitVit(config, params_, 3);
    model_ = MethodGraph(config, {.loss = true, .label_smoothing = 0.1}, ParseMethod("full"),
                         params_, 3);
    images_.resize(kBatch * kImage);
    FillNormal(images_, {MakeKey(5, Purpose::kData, "images")}, 0, 1);
    plain_ = model_;
    ParamStore reference_params = params_;
    AddTrainStep(plain_, reference_params, {});
    InterpretOptions o{.counts = {kBatch, 0}, .leaves = {}, .params = &reference_params};
    o.leaves["image"].assign(images_.begin(), images_.end());
    o.leaves["labels"].assign(kLabels.begin(), kLabels.end());
    o.leaves["one"] = {1};
    o.leaves["inv_batch"] = {1.0 / kBatch};
    o.leaves["hyper"] = {0, 0.1, 0.001};
    expected_ = Interpret(plain_, o);
  }
  static void TearDownTestSuite() { expected_ = {}; }

  static constexpr std::array<int32_t, kBatch> kLabels{0, 3, 9, 1, 1, 7};
  static inline ParamStore params_;
  static inline Graph model_, plain_;
  static inline std::vector<float> images_;
  static inline Values64 expected_;
};

TEST_P(LargeGradient, EveryAccumulatorMatchesTheInterpreter) {
  ParamStore params = params_;
  TrainStep step(model_, params, {}, GetParam(), TrainingPasses({}));
  step.Run(kBatch, 0, 0, [&](int64_t first, int64_t count, int worker) {
    Session& session = step.session();
    std::copy_n(images_.begin() + first * kImage, count * kImage,
                session.Input("image", worker).f32());
    std::copy_n(kLabels.begin() + first, count, session.Input("labels", worker).i32());
  });
  for (ValueId v : plain_.Leaves(Role::kState)) {
    const std::string& name = plain_.value(v).name;
    if (name.ends_with("attn.k.bias")) continue;  // zero but for rounding
    const Tensor got = step.session().State(name);
    const std::vector<double>& want = expected_[v.i];
    double error = 0, norm = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      error += std::pow(got.f32()[i] - want[i], 2);
      norm += want[i] * want[i];
    }
    EXPECT_LT(std::sqrt(error), 2e-5 * std::sqrt(norm)) << name;
  }
}

// One image, all at once, and a last micro-batch that is smaller.
INSTANTIATE_TEST_SUITE_P(MicroBatch, LargeGradient, ::testing::Values(1, 4, 6));

}  // namespace
}  // namespace graft::large_gradient_test
