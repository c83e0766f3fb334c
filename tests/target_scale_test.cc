// Standardised targets: the head that a run saves gives what the graph of the run gave.
#include "train/target_scale.h"

#include <gtest/gtest.h>

#include <cmath>

#include "adapters/method_graph.h"
#include "ops/ops.h"
#include "tests/test_util.h"

namespace graft::target_scale_test {
namespace {

constexpr int64_t kColumns = 2;
const std::vector<float> kMean{3e5f, -0.25f}, kDeviation{8e4f, 0.5f};
const std::vector<std::string> kHeadNames{"head.weight", "head.bias"};
const std::vector<std::string> kTwoHeads{"head.weight", "head.bias", "head.dist.weight",
                                         "head.dist.bias"};

LoadedModel ModelOf(const std::string& name) {
  LoadedModel model = LoadModel("init:" + name);
  AdaptClasses(model, {"price", "length"}, 3, true, kRegression);
  for (const char* bias : {"head.bias", "head.dist.bias"})
    if (model.params.Has(bias)) model.params.Mutable(bias)[1] = 0.75f;
  return model;
}

void SetScale(ParamStore* params) {
  params->Set(kTargetMean, {kColumns}, kMean);
  params->Set(kTargetDeviation, {kColumns}, kDeviation);
}

// Fills the inputs of one example and returns an output of the graph.
std::vector<float> Outputs(const LoadedModel& model, const Graph& g, ParamStore& params,
                           const std::string& output, const std::vector<float>& targets) {
  const int64_t length = model.is_bert() ? 4 : 0;
  Session session(g, params, {.capacity = {1, length}});
  if (model.is_bert()) {
    for (int i = 0; i < length; ++i) {
      session.Input("ids").i32()[i] = i + 1, session.Input("positions").i32()[i] = i;
      session.Input("type_ids").i32()[i] = 0;
    }
    session.Input("offsets").i32()[0] = 0, session.Input("offsets").i32()[1] = 4;
  } else {
    const Tensor image = session.Input("image");
    for (int64_t i = 0; i < image.shape.size(); ++i)
      image.f32()[i] = std::sin(static_cast<float>(i));
  }
  if (session.HasInput("targets")) std::ranges::copy(targets, session.Input("targets").f32());
  session.Run({1, length});
  const Tensor out = session.Output(output);
  return {out.f32(), out.f32() + out.shape.size()};
}

const char* kModels[] = {
    "vit_nano_patch8_32", "bert_tiny",
    "vit(width=16,depth=1,heads=2,mlp=32,patch=8,image=16,pool=distilled,tokens=2)"};

TEST(TargetScale, TheHeadThatIsSavedGivesWhatTheRunGave) {
  for (const char* name : kModels) {
    SCOPED_TRACE(name);
    LoadedModel model = ModelOf(name);
    SetScale(&model.params);
    const Method method = ParseMethod("full");
    const Graph plain = MethodGraph(model.config, {.loss = true}, method, model.params);
    ASSERT_TRUE(HeadTakesScale(plain));
    Graph scaled = plain;
    StandardiseTargets(&scaled);
    const std::vector<float> targets{3.5e5f, -1};
    const std::vector<float> z = Outputs(model, plain, model.params, "logits", targets);
    const std::vector<float> y = Outputs(model, scaled, model.params, "logits", targets);
    double loss = 0;
    for (size_t k = 0; k < kColumns; ++k) {
      EXPECT_FLOAT_EQ(y[k], z[k] * kDeviation[k] + kMean[k]);
      loss += std::pow(z[k] - (targets[k] - kMean[k]) / kDeviation[k], 2) / kColumns;
    }
    EXPECT_NEAR(Outputs(model, scaled, model.params, "losses", targets)[0], loss, 1e-5 * loss);
    const bool two = model.params.Has("head.dist.weight");
    ParamStore kept = model.params;
    const ParamStore head = WithScaleInHead(model.params, two ? kTwoHeads : kHeadNames);
    EXPECT_EQ(head.size(), two ? 4u : 2u);
    for (const std::string& parameter : head.names()) kept.SetShared(parameter, head, parameter);
    const std::vector<float> saved = Outputs(model, plain, kept, "logits", targets);
    for (size_t k = 0; k < kColumns; ++k) EXPECT_NEAR(saved[k], y[k], 1e-6 * kMean[0]);
    // And back, as a run begins that goes on from it.
    TakeScaleOffHead(&kept);
    for (const std::string& parameter : head.names())
      for (size_t i = 0; i < kept.values(parameter).size(); ++i)
        EXPECT_NEAR(kept.values(parameter)[i], model.params.values(parameter)[i], 1e-6);
  }
}

// Behind a head that stays as it is there is nothing to put a scale into.
TEST(TargetScale, OnlyOfAHeadThatTrains) {
  int asked = 0;
  for (const char* name : kModels) {
    const LoadedModel model = ModelOf(name);
    for (const MethodRecord* record : AllMethods()) {
      const std::string method(record->name);
      if (record->searched || method == "forget") continue;  // without steps; of a run
      for (const char* head : {"trained", "frozen"}) {
        SCOPED_TRACE(std::string(name) + " " + method + " " + head);
        ParamStore params = model.params;
        try {
          const Graph g =
              MethodGraph(model.config, {.loss = true}, {{method, {{"head", head}}}}, params);
          EXPECT_EQ(HeadTakesScale(g),
                    std::string_view(head) == "trained" && !method.starts_with("calibration"));
          ++asked;
        } catch (const Error&) {  // of another kind of model, or nothing would train
        }
      }
    }
  }
  EXPECT_GT(asked, 100);
}

struct Numbers : BatchSource {
  std::vector<std::vector<float>> rows;
  const char* unit() const override { return "texts"; }
  size_t size() const override { return rows.size(); }
  int label(size_t) const override { return 0; }
  std::span<const float> targets(size_t i) const override { return rows[i]; }
  int64_t length(size_t) const override { return 0; }
  int64_t longest() const override { return 0; }
  size_t HeldBytes() const override { return 0; }
  void Start(std::vector<size_t>) override {}
  size_t remaining() const override { return 0; }
  void Take(size_t) override {}
  std::vector<Counts> Parts(const Counts&) const override { return {}; }
  void Fill(Session&, int64_t, int64_t, int) const override {}
  int64_t Losses() const override { return 0; }
};

// As scikit-learn's StandardScaler has them, which also leaves equal numbers as they are.
TEST(TargetScale, MeanAndDeviation) {
  Numbers numbers;
  numbers.rows = {{100000, 7, 1e-42f}, {300000, 7, -1e-42f}, {500000, 7, 0}};
  ParamStore params;
  MeasureTargets(numbers, 3, &params);
  EXPECT_FLOAT_EQ(params.values(kTargetMean)[0], 300000);
  EXPECT_FLOAT_EQ(params.values(kTargetDeviation)[0], 163299.3162f);
  EXPECT_EQ(params.values(kTargetMean)[1], 7);
  EXPECT_EQ(params.values(kTargetDeviation)[1], 1);
  EXPECT_EQ(params.values(kTargetDeviation)[2], 1);
  EXPECT_EQ(TargetScaleText(params, {"price", "rooms", "x"}),
            "'price' (mean 3e+05, deviation 1.633e+05), 'rooms' (mean 7, deviation 1), 'x' (mean "
            "0, deviation 1) are standardised while training; predictions and measures are in "
            "their units");
}

}  // namespace
}  // namespace graft::target_scale_test
