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

const VitConfig kTwoBlocks{.image_size = 8,
                           .patch_size = 4,
                           .width = 12,
                           .depth = 2,
                           .heads = 3,
                           .mlp_width = 24,
                           .classes = 5};

TEST(TrainStep, GradientsDoNotWaitForTheEnd) {
  VitConfig config = kTwoBlocks;
  config.image_size = 32, config.width = 96, config.mlp_width = 384, config.depth = 8;
  for (const char* method : {"full", "lora(r=8,targets=attn.*|mlp.*)", "glora(r=4)"}) {
    ParamStore params;
    InitVit(config, params, 1);
    const Graph g = MethodGraph(config, {.loss = true}, ParseMethod(method), params, 1);
    const auto arena = [&](const std::vector<std::string>& disabled) {
      const Graph step = TrainStep::BuildGraph(g, params, {}, TrainingPasses(disabled));
      return Session(step, params, {.capacity = {8, 0}, .plan_only = true}).memory().bytes;
    };
    EXPECT_LT(static_cast<double>(arena({})), 0.99 * static_cast<double>(arena({"early_updates"})))
        << method;
  }
}

}  // namespace
}  // namespace graft
