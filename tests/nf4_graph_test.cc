// Tests quantised weights in graphs: the fused product has the bits of the matmul of the
// dequantised weight, on every SIMD target and in both directions; whole models train and merge on
// them and stay small.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "adapters/method_graph.h"
#include "ops/optimise.h"
#include "peft/merge.h"
#include "peft/merge_proof.h"
#include "peft/sites.h"
#include "runtime/interpret.h"
#include "runtime/session.h"
#include "runtime/text.h"
#include "runtime/threads.h"
#include "tests/graph_testing.h"
#include "tests/nf4_testing.h"
#include "tests/test_util.h"

namespace graft::testing::nf4_graph_test {
namespace {

using ::testing::HasSubstr;

// --- one layer -----------------------------------------------------------------------------------

// y = act(x W' + b) + x W2' and, as if dy were given, dx through both layers, W [wide,narrow].
struct Layers {
  Graph g;
  ParamStore params;
  Nf4Attrs first, second;
  Layers(int64_t narrow, int64_t wide, bool twice)
      : first{wide, narrow, 64, twice}, second{narrow, wide, 32, twice} {
    params.Set("w1", {wide, narrow}, Normal(wide * narrow, 1, 0.1f));
    params.Set("w2", {narrow, wide}, Normal(wide * narrow, 2, 0.1f));
    params.Set("bias", {wide}, Normal(wide, 3, 0.1f));
    const ValueId x = g.AddInput("x", {DType::kF32, {Dim::Sequences(), narrow}});
    const ValueId w1 = g.AddParam("w1", {wide, narrow}), w2 = g.AddParam("w2", {narrow, wide});
    const ValueId h = Gelu(g, Linear(g, x, w1, g.AddParam("bias", {wide})));
    g.SetOutput("y", Add(g, Matmul(g, h, w2, false, true), x));
    g.SetOutput("dx", Matmul(g, Matmul(g, x, w2), w1));
  }
  // What a method does.
  void Quantize() {
    for (const auto& [name, format] : {std::pair{"w1", first}, {"w2", second}}) {
      const ValueId w = g.FindLeaf(name);
      QuantizeParam(params, name, format);
      g.ReplaceUses(w, Nf4Weight(g, name, format));
    }
    g.EraseDead();
  }
  // Returns the layers with f32 weights of the same values.
  Layers Dequantize() const {
    Layers plain = *this;
    for (const char* name : {"w1", "w2"}) {
      const Nf4Attrs& f = name[1] == '1' ? first : second;
      const Nf4Tensor t = QuantizeNf4(params.values(name), f.block, f.double_quantised, name);
      plain.params.Set(name, {f.rows, f.cols}, Dequantized(t));
    }
    return plain;
  }
  void Optimise() {
    PassManager passes;
    for (Pass& pass : StepPasses()) passes.Add(std::move(pass));
    passes.Run(g);
  }
};

std::map<std::string, std::vector<float>> RunOnce(const Graph& g, ParamStore& params, int64_t rows,
                                                  int64_t capacity) {
  Session session(g, params, {.capacity = {capacity, 0}, .poison = true});
  const Tensor x = session.Input("x");
  const std::vector<float> values = Normal(rows * x.shape[1], 9, 1);
  std::ranges::copy(values, x.f32());
  session.Run({rows, 0});
  std::map<std::string, std::vector<float>> out;
  for (const char* name : {"y", "dx"}) {
    const Tensor t = session.Output(name);
    out[name].assign(t.f32(), t.f32() + t.shape.size());
  }
  return out;
}

TEST(Nf4Matmul, SameBitsAsTheMatmulOfTheDequantisedWeight) {
  for (const bool twice : {true, false})
    for (const auto& [narrow, wide] : {std::pair{65, 131}, {200, 96}}) {
      Layers quantised(narrow, wide, twice), plain = quantised.Dequantize();
      quantised.Quantize();
      const Graph canonical = quantised.g;
      quantised.Optimise(), plain.Optimise();
      EXPECT_EQ(CountOps(quantised.g, kNf4Matmul), 4);
      EXPECT_EQ(CountOps(quantised.g, kMatmul), 0);
      EXPECT_EQ(CountOps(quantised.g, kNf4Dequantize), 0);
      ForEachTarget([&](const std::string& target) {
        for (const int64_t rows : {1, 50, 300}) {
          const auto want = RunOnce(plain.g, plain.params, rows, 300);
          EXPECT_EQ(RunOnce(quantised.g, quantised.params, rows, 300), want) << target << rows;
          EXPECT_EQ(RunOnce(quantised.g, quantised.params, rows, rows), want) << target << rows;
          SetThreads(3);
          EXPECT_EQ(RunOnce(quantised.g, quantised.params, rows, 300), want) << target << rows;
          SetThreads(1);
        }
        // Without the pass the weights are made once and multiplied as any others.
        const auto composite = RunOnce(canonical, quantised.params, 7, 7);
        for (const auto& [name, values] : RunOnce(quantised.g, quantised.params, 7, 7))
          for (size_t i = 0; i < values.size(); ++i)
            ASSERT_NEAR(values[i], composite.at(name)[i], 1e-5) << target << " " << name;
      });
    }
}

// A weight so large that it is packed in several groups of rows and of columns.
TEST(Nf4Matmul, SameBitsForALargeWeight) {
  Graph g;
  ParamStore params, plain_params;
  const Nf4Attrs format{4200, 1100, 64};
  const std::vector<float> w = Normal(format.rows * format.cols, 5, 0.1f);
  params.Set("w", {format.rows, format.cols}, w);
  plain_params.Set("w", {format.rows, format.cols}, Dequantized(QuantizeNf4(w, 64, true, "w")));
  const ValueId x = g.AddInput("x", {DType::kF32, {Dim::Sequences(), format.cols}});
  const ValueId leaf = g.AddParam("w", {format.rows, format.cols});
  const ValueId y = Matmul(g, x, leaf, false, true);
  g.SetOutput("y", y), g.SetOutput("dx", Matmul(g, y, leaf));
  const Graph plain = g;
  QuantizeParam(params, "w", format);
  g.ReplaceUses(leaf, Nf4Weight(g, "w", format));
  for (const Pass& pass : StepPasses()) pass.run(g);
  EXPECT_EQ(RunOnce(g, params, 20, 20), RunOnce(plain, plain_params, 20, 20));
}

TEST(Nf4Matmul, InterpreterRunsBothForms) {
  Layers layers(33, 70, true);
  layers.Quantize();
  const Graph canonical = layers.g;
  layers.Optimise();
  InterpretOptions options{{3, 0}, {}, &layers.params};
  const std::vector<float> x = Normal(3 * 33, 9, 1);
  options.leaves["x"] = {x.begin(), x.end()};
  const Values64 fused = Interpret(layers.g, options), composite = Interpret(canonical, options);
  const auto got = RunOnce(layers.g, layers.params, 3, 3);
  for (const char* name : {"y", "dx"}) {
    const std::vector<double>& want = composite[canonical.output(name).i];
    EXPECT_LE(RelativeError(fused[layers.g.output(name).i], want), 1e-14);
    for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(double{got.at(name)[i]}, want[i], 2e-5);
  }
}

// The gradient goes to x with the weight still quantised, and nowhere else.
TEST(Nf4Matmul, GradientReachesInputBiasAndResidualOnly) {
  Graph g;
  const Nf4Attrs format{9, 5};
  const ValueId w = Nf4Weight(g, "w", format);
  const ValueId x = g.AddInput("x", F32({7, 5})), dy = g.AddInput("dy", F32({7, 9}));
  const std::vector<ValueId> epilogue{g.AddInput("bias", F32({9})), g.AddInput("r", F32({7, 9}))};
  const MatmulAttrs p{.tb = true, .alpha = 2, .bias = true, .residual = true};
  const ValueList y = Nf4Matmul(g, x, w, epilogue, p);
  const Node node = g.node(g.value(y[0]).producer);
  std::vector<bool> need(7);
  need[0] = need[5] = need[6] = true;
  const std::vector<ValueId> cotangent{dy};
  const auto d = kNf4Matmul.gradient({g, node.in, node.out, cotangent, need, node.attrs});
  EXPECT_EQ(ToString(g.type(d[0])), "f32[7,5]");
  EXPECT_EQ(g.node(g.value(d[0]).producer).op, &kNf4Matmul);
  for (size_t i = 1; i < 5; ++i) EXPECT_FALSE(d[i].valid());
  EXPECT_EQ(g.node(g.value(d[5]).producer).op, &kSumRows);
  EXPECT_EQ(d[6], dy);
  need[3] = true;
  EXPECT_THAT(MessageOf([&] {
                kNf4Matmul.gradient({g, node.in, node.out, cotangent, need, node.attrs});
              }),
              HasSubstr("frozen"));
}

TEST(Nf4Matmul, TextReadsBack) {
  Layers layers(5, 9, true);
  layers.Quantize();
  for (const bool optimised : {false, true}) {
    if (optimised) layers.Optimise();
    const std::string text = ToText(layers.g);
    EXPECT_THAT(text, HasSubstr("param @w1.nf4 : u8[23]"));
    EXPECT_THAT(text, HasSubstr("rows=9 cols=5 block=64 double=1"));
    EXPECT_EQ(ToText(ParseGraph(text, AllOps())), text);
  }
}

// --- a whole model -------------------------------------------------------------------------------

// The dense layers of ViT-B's blocks are quantised one by one.
TEST(Nf4Model, WeightsOfVitBaseTakeLessThan46Megabytes) {
  Graph g = BuildModel(ModelByName("vit_base_patch16_224"));
  ParamStore params;
  int layers = 0;
  int64_t values = 0, told = 0;
  for (const NodeId id : g.TopoOrder()) {
    const Node n = g.node(id);
    if (!IsSite(g, n.out[0]) || !n.scope.starts_with("blocks.")) continue;
    const std::string name = g.value(n.in[1]).name;
    const Extents e = At(g.shape(n.in[1]), {});
    const Nf4Attrs format{e[0], e[1]};
    std::ranges::fill(std::span(params.Allocate(name, e), static_cast<size_t>(e.size())), 0.5f);
    QuantizeParam(params, name, format);
    g.ReplaceUses(n.in[1], Nf4Weight(g, name, format));
    ++layers, values += e.size(), told += Nf4SizesOf(format).bytes;
  }
  EXPECT_EQ(layers, 72);  // query, key and value apart
  EXPECT_EQ(values, 84'934'656);
  EXPECT_EQ(params.bytes().owned, static_cast<size_t>(told));
  EXPECT_LT(told, 46'000'000);
  EXPECT_NEAR(8 * static_cast<double>(told) / static_cast<double>(values), 4.127, 0.001);
  // No session on it keeps more of them: neither f32 copies nor packed ones.
  for (const Pass& pass : StepPasses()) pass.run(g);
  for (const NodeId id : g.TopoOrder()) EXPECT_NE(g.node(id).op, &kNf4Dequantize);
  EXPECT_EQ(CountOps(g, kNf4Matmul), 72);
}

// Does what a method does to every dense layer of the blocks. Returns their number.
int QuantizeBlocks(Graph& g, ParamStore& params) {
  int layers = 0;
  for (const NodeId id : g.TopoOrder()) {
    const Node n = g.node(id);
    if (!IsSite(g, n.out[0]) || !n.scope.starts_with("blocks.")) continue;
    const std::string name = g.value(n.in[1]).name;
    if (!name.ends_with(".weight")) continue;  // a factor of a branch
    const Extents e = At(g.shape(n.in[1]), {});
    QuantizeParam(params, name, {e[0], e[1]});
    g.ReplaceUses(n.in[1], Nf4Weight(g, name, {e[0], e[1]}));
    ++layers;
  }
  g.EraseDead();
  return layers;
}

// Folding LayerScale into the layers before it makes no f32 weight of a quantised one.
TEST(Nf4Model, FoldingScalesLeavesWeightsQuantised) {
  const ModelConfig config = ModelByName(
      "vit(width=48,depth=2,heads=2,mlp=96,image=16,patch=8,classes=3,layer_scale=true)");
  ParamStore params;
  InitModel(config, params, 1);
  Graph g = BuildModel(config);
  for (const char* name : {"blocks.0.mlp.fc1.weight", "blocks.1.attn.o.weight"}) {
    const ValueId w = g.FindLeaf(name);
    const Extents e = At(g.shape(w), {});
    QuantizeParam(params, name, {e[0], e[1]});
    g.ReplaceUses(w, Nf4Weight(g, name, {e[0], e[1]}));
  }
  g.EraseDead();
  EXPECT_EQ(FoldScales(g, params).rewrites, 3);  // of four: a quantised layer keeps its scale
  EXPECT_EQ(CountOps(g, kNf4Dequantize), 2);
  EXPECT_FALSE(params.Has("blocks.0.mlp.fc1.weight"));
}

std::vector<float> Logits(Graph g, ParamStore& params, const std::vector<float>& images) {
  InferencePasses().Run(g);
  Session session(g, params, {.capacity = {8, 0}});
  std::ranges::copy(images, session.Input("image").f32());
  session.Run({8, 0});
  const Tensor y = session.Output("logits");
  return {y.f32(), y.f32() + y.shape.size()};
}

TEST(Nf4Model, BranchesTrainBesideQuantisedLayersAndMergeIntoThem) {
  const ModelConfig config =
      ModelByName("vit(width=48,depth=2,heads=2,mlp=96,image=16,patch=8,classes=3)");
  const Method method = ParseMethod("lora(r=2,targets=attn.*|mlp.fc1)");  // fc2 has no branch
  ParamStore params;
  InitModel(config, params, 1);
  Graph loss_graph = MethodGraph(config, {.loss = true}, method, params);
  const std::vector<float> original(params.data("blocks.1.mlp.fc2.weight"),
                                    params.data("blocks.1.mlp.fc2.weight") + 48 * 96);
  EXPECT_EQ(QuantizeBlocks(loss_graph, params), 12);
  const std::string codes = Hex(params.Get("blocks.0.attn.q.weight.nf4").u8());

  const std::vector<float> images = Normal(8 * 3 * 16 * 16, 2, 1);
  {
    TrainStep step(loss_graph, params, {}, 4, TrainingPasses());
    EXPECT_EQ(CountOps(step.graph(), kNf4Dequantize), 0);
    EXPECT_GT(CountOps(step.graph(), kNf4Matmul), 20);  // forward and backward
    std::vector<double> loss;
    for (int64_t i = 0; i < 30; ++i)
      loss.push_back(step.Run(8, i, 1e-2,
                              [&](int64_t first, int64_t n, int worker) {
                                Session& s = step.session();
                                const auto from = images.begin() + first * 3 * 16 * 16;
                                std::copy(from, from + n * 3 * 16 * 16,
                                          s.Input("image", worker).f32());
                                for (int64_t k = 0; k < n; ++k)
                                  s.Input("labels", worker).i32()[k] = static_cast<int32_t>(k % 3);
                              })
                         .loss);
    EXPECT_LT(loss.back(), 0.5 * loss.front());
  }
  EXPECT_EQ(Hex(params.Get("blocks.0.attn.q.weight.nf4").u8()), codes);

  params.Freeze();
  Graph inference = InferenceGraph(config, method, params);
  QuantizeBlocks(inference, params);  // finds what the first graph has put there
  const std::vector<float> before = Logits(inference, params, images);
  Graph merged = inference;
  ParamStore merged_params = params;
  const Graph plain = BuildModel(config);
  EXPECT_TRUE(Merge(merged, merged_params, plain.ParamNames()).left.empty());
  EXPECT_EQ(ToText(merged), ToText(plain));
  const MergeProof proof = ProveMerge(inference, params, merged_params, plain.ParamNames());
  EXPECT_EQ(proof.weights, 10);
  const std::vector<float> after = Logits(merged, merged_params, images);
  for (size_t i = 0; i < after.size(); ++i) EXPECT_NEAR(after[i], before[i], 1e-4);
  // Where there is no branch, what is left is the dequantised weight and not the original one.
  const auto fc2 = merged_params.values("blocks.1.mlp.fc2.weight");
  EXPECT_TRUE(std::ranges::equal(fc2, Dequantized(QuantizeNf4(original, 64, true, "fc2"))));
  EXPECT_FALSE(std::ranges::equal(fc2, original));
}

}  // namespace
}  // namespace graft::testing::nf4_graph_test
