// Tests LoRA as a rewrite, and merging: the plain model comes back and computes the same.
#include "peft/merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "models/vit.h"
#include "peft/method.h"
#include "runtime/rng.h"
#include "runtime/session.h"
#include "runtime/text.h"
#include "tests/graph_testing.h"

namespace graft::testing::merge_test {
namespace {

const VitConfig kTiny{.image_size = 8,
                      .patch_size = 4,
                      .width = 12,
                      .depth = 2,
                      .heads = 2,
                      .mlp_width = 20,
                      .classes = 5};

struct Tuned {
  Graph g = BuildVit(kTiny);
  ParamStore params;
  explicit Tuned(const std::string& method) {
    InitVit(kTiny, params, 1);
    ApplyMethod(g, params, ParseMethod(method), 3);
    std::mt19937 random(4);
    std::uniform_real_distribution<float> uniform(-1, 1);
    // B starts at zero, which would hide every mistake.
    for (const std::string& name : params.names())
      if (name.ends_with("lora_b"))
        for (float *p = params.Mutable(name), *end = p + params.shape(name).size(); p < end; ++p)
          *p = uniform(random);
    for (ValueId v : g.Trainable()) g.SetTrainable(v, false);
  }
  std::vector<double> Logits() const {
    return Interpret(g, {{2, 0}, RandomInputs(g, {2, 0}, 5, 2), &params})[g.output("logits").i];
  }
};

class MergeTest : public ::testing::TestWithParam<const char*> {};

TEST_P(MergeTest, ThePlainModelComesBackAndComputesTheSame) {
  const Graph plain = BuildVit(kTiny);
  Tuned tuned(GetParam());
  const std::vector<double> before = tuned.Logits();
  ParamStore base;
  InitVit(kTiny, base, 1);
  const double moved = RelativeError(
      before,
      Interpret(plain, {{2, 0}, RandomInputs(plain, {2, 0}, 5), &base})[plain.output("logits").i]);
  EXPECT_GT(moved, 1e-3) << "the branch does nothing";
  const MergeResult result = Merge(tuned.g, tuned.params, plain.ParamNames());
  tuned.g.EraseUnusedInputs();
  EXPECT_THAT(result.left, ::testing::IsEmpty());
  EXPECT_EQ(ToText(tuned.g), ToText(plain));
  EXPECT_LE(RelativeError(tuned.Logits(), before), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Methods, MergeTest,
                         ::testing::Values("lora(r=2,alpha=6)",
                                           "lora(r=3,alpha=2,targets=attn.*|mlp.*)",
                                           "lora(r=4,rslora=true,targets=mlp.fc1)"));

// Without dropout the masks of training are no part of the function.
TEST(Merge, DropoutGoesFirst) {
  Tuned plain("lora(r=2)"), dropped("lora(r=2,dropout=0.5)");
  const std::vector<double> want = plain.Logits();
  Merge(dropped.g, dropped.params, BuildVit(kTiny).ParamNames());
  EXPECT_EQ(CountOps(dropped.g, kDropout), 0);
  EXPECT_LE(RelativeError(dropped.Logits(), want), 1e-6);
}

// A LoRA of a layer that rows of data and learnt rows (the keys of a prompt) go through. Those of
// the prompt are constants: rules that match there would not end.
TEST(Merge, LeavesWhatDependsOnParametersToFolding) {
  Graph g;
  ParamStore params;
  const auto param = [&](const char* name, Extents shape) {
    std::vector<float> values(shape.size());
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>(static_cast<int>(i * 7 % 11) - 5) / 8;
    params.Set(name, shape, values);
    return g.AddParam(name, ToShape(shape));
  };
  const ValueId x = g.AddInput("x", {DType::kF32, {Dim::Tokens(), 6}});
  const ValueId w = param("k.weight", {5, 6}), a = param("k.lora_a", {2, 6}),
                b = param("k.lora_b", {5, 2}), prompt = param("prompt", {3, 6});
  const auto keys = [&](ValueId rows) {
    const ValueId delta = Matmul(g, Matmul(g, rows, a, false, true), b, false, true);
    return Add(g, Matmul(g, rows, w, false, true), Scale(g, delta, 0.5));
  };
  g.SetOutput("keys", keys(x));
  g.SetOutput("prompt", keys(prompt));
  const auto values = [&](const char* output) {
    return Interpret(g, {{1, 4}, RandomInputs(g, {1, 4}, 5), &params})[g.output(output).i];
  };
  const std::vector<double> of_data = values("keys"), of_prompt = values("prompt");
  const MergeResult result = Merge(g, params, {"k.weight"});
  EXPECT_LE(RelativeError(values("keys"), of_data), 1e-6);
  EXPECT_LE(RelativeError(values("prompt"), of_prompt), 1e-6);
  EXPECT_EQ(CountOps(g, kMatmul), 1);
  EXPECT_EQ(result.left.size(), 1u);  // the prompt's keys: no weight of the base
}

// Like the separate nn.Dropout modules of peft, every element has a draw of its own, and q and v
// have masks of their own.
TEST(Lora, DropoutIsByElementAndByLayer) {
  const Tuned tuned("lora(r=2,dropout=0.25)");
  std::vector<std::string> streams;
  for (NodeId n : tuned.g.TopoOrder()) {
    if (tuned.g.node(n).op != &kDropout) continue;
    const DropoutAttrs& attrs = tuned.g.node(n).attrs.As<DropoutAttrs>();
    EXPECT_FALSE(attrs.per_sequence) << attrs.stream;
    EXPECT_EQ(attrs.p, 0.25) << attrs.stream;
    streams.push_back(attrs.stream);
  }
  EXPECT_THAT(streams, ::testing::UnorderedElementsAre(
                           "blocks.0.attn.q.dropout", "blocks.0.attn.v.dropout",
                           "blocks.1.attn.q.dropout", "blocks.1.attn.v.dropout"));
}

TEST(Lora, ScaleIsAlphaOverRankOrItsRoot) {
  for (const auto& [method, scale] :
       {std::pair("lora(r=4,alpha=6)", 1.5), std::pair("lora(r=4,alpha=6,rslora=true)", 3.0),
        std::pair("lora(r=4)", 1.0)}) {
    const Tuned tuned(method);
    int found = 0;
    for (NodeId n : tuned.g.TopoOrder())
      if (tuned.g.node(n).op == &kScale) {
        EXPECT_DOUBLE_EQ(tuned.g.node(n).attrs.As<ScaleAttrs>().by, scale) << method;
        ++found;
      }
    EXPECT_EQ(found, 4) << method;  // q and v of two blocks
  }
}

// (x W' + b) g is one layer again, and the numbers are the same.
TEST(FoldScales, LayerScaleJoinsTheProjection) {
  VitConfig config = kTiny;
  config.layer_scale = true;
  ParamStore params;
  InitVit(config, params, 1);
  for (const std::string& name : params.names()) {
    const size_t size = static_cast<size_t>(params.shape(name).size());
    FillNormal({params.Mutable(name), size}, {MakeKey(5, Purpose::kData, name)}, 0, 0.3);
  }
  params.Freeze();
  const Graph scaled = BuildVit(config);
  Graph folded = scaled;
  EXPECT_EQ(FoldScales(folded, params).rewrites, 2 * config.depth);
  EXPECT_EQ(ToText(folded).find(" mul("), std::string::npos);
  VitConfig plain = config;
  plain.layer_scale = false;
  EXPECT_EQ(folded.live_nodes(), BuildVit(plain).live_nodes());
  const auto run = [&](const Graph& g) {
    Session session(g, params, {.capacity = {3}});
    const Tensor image = session.Input("image");
    FillNormal({image.f32(), static_cast<size_t>(image.shape.size())},
               {MakeKey(3, Purpose::kData, "images")}, 0, 1);
    session.Run({3});
    const Tensor y = session.Output("logits");
    return std::vector<float>(y.f32(), y.f32() + y.shape.size());
  };
  const std::vector<float> before = run(scaled), after = run(folded);
  for (size_t i = 0; i < before.size(); ++i)
    EXPECT_NEAR(before[i], after[i], 2e-6 * (1 + std::fabs(before[i])));
  Graph none = BuildVit(plain);
  EXPECT_EQ(FoldScales(none, params).rewrites, 0);
}

}  // namespace
}  // namespace graft::testing::merge_test
