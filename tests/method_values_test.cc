// Tests numbers that methods compute beside the graph: the noise of noisytune, the shift of
// calibration.
#include <gtest/gtest.h>

#include <cmath>

#include "adapters/method_graph.h"
#include "data/preprocess.h"
#include "runtime/rng.h"
#include "tests/peft_cases.h"
#include "train/calibrate.h"

namespace graft::method_values_test {
namespace {

// W + lambda std(W) u with the unbiased deviation, whose u is drawn by the parameter's name.
TEST(Methods, NoiseIsRelativeToTheSpread) {
  ParamStore params;
  InitVit(kTiny, params, 1);
  const ParamStore before = params;
  MethodGraph(kTiny, {}, ParseMethod("noisytune(lambda=0.3)+linear"), params, 7);
  for (const char* name : {"blocks.1.attn.q.weight", "pos_embed"}) {
    const std::span<const float> was = before.values(name), is = params.values(name);
    double mean = 0, squares = 0;
    for (const float x : was) mean += x / static_cast<double>(was.size());
    for (const float x : was) squares += (x - mean) * (x - mean);
    const double half = 0.15 * std::sqrt(squares / static_cast<double>(was.size() - 1));
    std::vector<float> noise(was.size());
    FillUniform(noise, {MakeKey(7, Purpose::kNoise, name)}, -half, half);
    for (size_t i = 0; i < was.size(); ++i) EXPECT_NEAR(is[i], was[i] + noise[i], 1e-6) << name;
  }
}

// What says nothing, a grey image, gets the same probability for every class.
TEST(Calibrate, AGreyImageIsOfNoClass) {
  LoadedModel model = LoadModel("init:vit_nano_patch8_32", "", 3);
  const Method method = ParseMethod("linear+calibration");
  RunConfig c;
  c.preprocess = "vtab,resize=32";
  MethodGraph(model.config, {}, method, model.params);
  ParamStore params = Calibrated(model, method, c);
  const Preprocess p = ParsePreprocess(c.preprocess);
  const Graph graph = InferenceGraph(model.config, method, params);
  Session session(graph, params, {.capacity = {1, 0}});
  float* image = session.Input("image").f32();
  for (size_t k = 0; k < 3; ++k)
    image = std::fill_n(image, 32 * 32, static_cast<float>((0.5 - p.mean[k]) / p.std[k]));
  session.Run({1, 0});
  const Tensor logits = session.Output("logits");
  const auto [least, most] =
      std::minmax_element(logits.f32(), logits.f32() + Classes(model.config));
  EXPECT_NEAR(*least, *most, 1e-4);
  // Without the shift it is of some class.
  const std::span<const float> shift = params.values(kCalibrationShift);
  EXPECT_GT(*std::ranges::max_element(shift) - *std::ranges::min_element(shift), 0.1);
}

}  // namespace
}  // namespace graft::method_values_test
