// What a training step promises beyond its numbers.
#include "autograd/train_step.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "train/evaluator.h"

namespace graft {
namespace {

const VitConfig kTiny{.image_size = 8,
                      .patch_size = 4,
                      .width = 12,
                      .depth = 1,
                      .heads = 3,
                      .mlp_width = 20,
                      .classes = 5};

// Weights and moments stay those of the last good step, so that they can still be saved.
TEST(TrainStep, ANonFiniteLossUpdatesNothing) {
  ParamStore params;
  InitVit(kTiny, params, 1);
  const Graph g = MethodGraph(kTiny, {.loss = true}, ParseMethod("full"), params, 1);
  TrainStep step(g, params, {}, 2, TrainingPasses({}));
  const auto run = [&](float pixel) {
    return step.Run(3, 0, 1e-3, [&](int64_t first, int64_t count, int worker) {
      const Tensor image = step.session().Input("image", worker);
      std::fill_n(image.f32(), image.shape.size(), first == 0 ? 0.5f : pixel);
      std::fill_n(step.session().Input("labels", worker).i32(), count, 1);
    });
  };
  EXPECT_TRUE(std::isfinite(run(1).loss));
  std::map<std::string, std::vector<float>> before;
  for (const std::string& name : params.names())
    before[name] = {params.values(name).begin(), params.values(name).end()};
  EXPECT_GT(before.count("opt.m.head.weight"), 0u);
  EXPECT_FALSE(std::isfinite(run(std::numeric_limits<float>::quiet_NaN()).loss));
  for (const auto& [name, values] : before)
    EXPECT_TRUE(std::equal(values.begin(), values.end(), params.data(name))) << name;
  // What the bad step added to the gradients is gone.
  EXPECT_TRUE(std::isfinite(run(1).loss));
}

}  // namespace
}  // namespace graft
