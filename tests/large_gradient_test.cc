// Compares gradients of a block at the real sizes of DeiT-Ti: those of the session with all passes,
// and those of the f64 interpreter of the plain graph. Small fixtures never reach the large-shape
// paths of the kernels.
#include <gtest/gtest.h>

#include <cmath>

#include "autograd/train_step.h"
#include "runtime/interpret.h"
#include "runtime/rng.h"
#include "train/evaluator.h"

namespace graft::large_gradient_test {
namespace {

class LargeGradient : public ::testing::TestWithParam<int64_t> {};

TEST_P(LargeGradient, EveryAccumulatorMatchesTheInterpreter) {
  const int64_t batch = 6, micro = GetParam();
  VitConfig config{.width = 192, .depth = 1, .heads = 3, .mlp_width = 768, .classes = 10};
  ParamStore params;
  InitVit(config, params, 3);
  const Graph model =
      MethodGraph(config, {.loss = true, .label_smoothing = 0.1}, ParseMethod("full"), params, 3);
  std::vector<float> images(batch * 3 * 224 * 224);
  FillNormal(images, {MakeKey(5, Purpose::kData, "images")}, 0, 1);

  Graph plain = model;
  ParamStore reference_params = params;
  AddTrainStep(plain, reference_params, {});
  InterpretOptions o{.counts = {batch, 0}, .leaves = {}, .params = &reference_params};
  o.leaves["image"].assign(images.begin(), images.end());
  o.leaves["labels"] = {0, 3, 9, 1, 1, 7};
  o.leaves["one"] = {1};
  o.leaves["inv_batch"] = {1.0 / static_cast<double>(batch)};
  o.leaves["hyper"] = {0, 0.1, 0.001};
  const Values64 expected = Interpret(plain, o);

  TrainStep step(model, params, {}, micro, TrainingPasses({}));
  const int64_t size = 3 * 224 * 224;
  step.Run(batch, 0, 0, [&](int64_t first, int64_t count, int worker) {
    std::copy_n(images.begin() + first * size, count * size,
                step.session().Input("image", worker).f32());
    int32_t* labels = step.session().Input("labels", worker).i32();
    for (int64_t i = 0; i < count; ++i)
      labels[i] = static_cast<int32_t>(o.leaves["labels"][first + i]);
  });
  for (ValueId v : plain.Leaves(Role::kState)) {
    const std::string& name = plain.value(v).name;
    if (name.ends_with("attn.k.bias")) continue;  // zero but for rounding
    const Tensor got = step.session().State(name);
    const std::vector<double>& want = expected[v.i];
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
