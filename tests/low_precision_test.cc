// Which products become products of bf16 or int8, and what that does to a step: on CPUs without the
// instructions, too, as the pass itself does not ask the CPU.
#include "ops/low_precision.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "ops/bf16_values.h"
#include "ops/records.h"
#include "runtime/cpu.h"
#include "runtime/threads.h"
#include "tests/low_testing.h"

namespace graft::testing::low_precision_test {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;

// The scopes of the products of a graph, by operator.
std::vector<std::string> Scopes(const Graph& g, const OpDef& op, const char* cell = nullptr) {
  std::vector<std::string> scopes;
  for (NodeId id : g.TopoOrder())
    if (const Node& n = g.node(id); n.op == &op)
      if (!cell || n.attrs.As<LowMatmulAttrs>().cell == cell) scopes.push_back(n.scope);
  return scopes;
}

TEST(LowPrecision, FrozenWeightsInBothDirectionsAndNothingElse) {
  const LowStep step("lora(r=4)", Of(CellType::kBf16));
  int forward = 0, backward = 0;
  for (NodeId id : step.graph().TopoOrder()) {
    const Node& n = step.graph().node(id);
    if (n.op != &kLowMatmul) continue;
    const Value& weight = step.graph().value(n.in[1]);
    EXPECT_EQ(weight.role, Role::kParam);
    EXPECT_FALSE(weight.trainable) << weight.name;
    EXPECT_FALSE(weight.name.starts_with("head")) << weight.name;
    (n.attrs.As<LowMatmulAttrs>().product.tb ? forward : backward)++;
  }
  EXPECT_EQ(forward, 2 * 6);
  EXPECT_GE(backward, 6 + 3);  // of the first block, only what is behind its queries and values
  EXPECT_THAT(Scopes(step.graph(), kMatmul), ::testing::IsSupersetOf({"head", "patch_embed"}));
  for (const std::string& scope : Scopes(step.graph(), kMatmul))  // pixels, branches, head
    EXPECT_THAT(scope, ::testing::MatchesRegex("head|patch_embed|.*attn\\.[qv]"));
}

TEST(LowPrecision, AttentionInBothDirectionsIfWanted) {
  for (const bool attention : {true, false}) {
    Precision precision = Of(CellType::kInt8);
    precision.attention = attention;
    const LowStep step("lora(r=4)", precision);
    EXPECT_EQ(Scopes(step.graph(), kLowAttention).size(), attention ? 2u : 0u);
    EXPECT_EQ(Scopes(step.graph(), kLowAttentionGrad).size(), attention ? 2u : 0u);
    EXPECT_EQ(Scopes(step.graph(), kAttention).size(), attention ? 0u : 2u);
  }
  EXPECT_THAT(Scopes(LowStep("full", Of(CellType::kBf16)).graph(), kLowAttention),
              ::testing::SizeIs(2));
  EXPECT_THAT(Scopes(LowStep("full", Of(CellType::kBf16, {"blocks.0.*"})).graph(), kLowAttention),
              ::testing::ElementsAre("blocks.1.attn"));
}

TEST(LowPrecision, LargeGradientsHaveTwoLanes) {
  for (const bool low : {false, true})
    for (const int64_t mib : {20, 100, 600}) {
      Graph g;
      const ValueId x = g.AddInput("x", F32({Dim::Sequences(), 64})), w = g.AddParam("w", {64, 64});
      g.AddOutput("y", low ? g.Add1(kLowMatmul, {x, w}, LowMatmulAttrs{}) : Matmul(g, x, w));
      g.AddState("acc.w", {mib << 18});
      const int lanes = TrainStep::Options(g, {1, 0}, {}).lanes;
      EXPECT_EQ(lanes, mib == 20 ? 3 : low && mib == 100 ? 2 : 1) << mib << " MiB, low " << low;
    }
}

TEST(LowPrecision, NarrowWeightsThatTrainStayInF32) {
  EXPECT_THAT(Scopes(LowStep("full", Of(CellType::kBf16)).graph(), kLowMatmul),
              ::testing::IsEmpty());
  const LowStep last("last(k=1)", Of(CellType::kInt8));
  EXPECT_THAT(Scopes(last.graph(), kLowMatmul), Not(::testing::IsEmpty()));
  EXPECT_THAT(Scopes(last.graph(), kLowMatmul), Each(Not(HasSubstr("blocks.1"))));
}

// y = x W' with a W that trains: both products, forward and into dW, are bf16 in either precision.
TEST(LowPrecision, WideWeightsThatTrainAreBf16) {
  for (const CellType cell : {CellType::kBf16, CellType::kInt8})
    for (const int64_t side : {128, 127}) {
      Graph g;
      const ValueId x = g.AddInput("x", F32({Dim::Sequences(), 160}));
      const ValueId w = g.AddParam("w", {side, 160}, true);
      const ValueId y = Matmul(g, x, w, false, true);
      g.AddOutput("y", y);
      g.AddOutput("dw", Matmul(g, y, x, true, false));
      g.AddOutput("dx", Matmul(g, y, w));
      EXPECT_EQ(LowPrecisionPass(Of(cell)).run(g).rewrites, side == 128 ? 3 : 0);
      for (const char* name : {"y", "dw", "dx"}) {
        const Node& n = Maker(g, g.output(name));
        ASSERT_EQ(n.op, side == 128 ? &kLowMatmul : &kMatmul) << name;
        if (side == 128) {
          EXPECT_EQ(n.attrs.As<LowMatmulAttrs>().cell, "bf16") << name;
        }
      }
    }
}

TEST(LowPrecision, KeepsWhatIsNamed) {
  const auto low = [](std::vector<std::string> keep) {
    return Scopes(LowStep("linear", Of(CellType::kBf16, std::move(keep))).graph(), kLowMatmul);
  };
  EXPECT_THAT(low({}), Contains("blocks.1.mlp.fc1"));
  EXPECT_THAT(low({"fc1"}), Not(Contains(HasSubstr("fc1"))));
  EXPECT_THAT(low({"fc1"}), Contains("blocks.1.mlp.fc2"));
  EXPECT_THAT(low({"blocks.1.*", "o"}), Each(::testing::MatchesRegex("blocks.0.*[^o]")));
  EXPECT_THAT(low({"fc"}), Contains("blocks.1.mlp.fc1"));  // a word is a whole one
}

TEST(LowPrecision, FirstAttentionAndLongSumsAreBf16WhereOthersAreInt8) {
  const LowStep step("linear", Of(CellType::kInt8));
  EXPECT_THAT(Scopes(step.graph(), kLowMatmul, "bf16"), Each(HasSubstr("blocks.0.attn.")));
  EXPECT_THAT(Scopes(step.graph(), kLowMatmul, "bf16"), ::testing::SizeIs(4));
  EXPECT_THAT(Scopes(step.graph(), kLowMatmul, "int8"), ::testing::SizeIs(8));
  Graph g;
  const ValueId x = g.AddInput("x", F32({Dim::Sequences(), 4100}));
  g.AddOutput("y", Matmul(g, x, g.AddParam("w", {40, 4100}), false, true));
  LowPrecisionPass(Of(CellType::kInt8)).run(g);
  EXPECT_EQ(Maker(g, g.output("y")).attrs.As<LowMatmulAttrs>().cell, "bf16");
}

// As on CPUs with VNNI alone, where bf16 would be emulated.
TEST(LowPrecision, WhereTheCpuHasNoBf16WhatIsBf16BesideInt8IsF32) {
  Precision precision{CellType::kInt8, false};
  precision.bf16 = false;
  for (const char* method : {"linear", "full"}) {
    const LowStep step(method, precision, 0, kWideVit);
    EXPECT_THAT(Scopes(step.graph(), kLowMatmul, "bf16"), ::testing::IsEmpty()) << method;
  }
  EXPECT_THAT(Scopes(LowStep("linear", precision).graph(), kLowMatmul, "int8"),
              ::testing::SizeIs(8));
}

// A product that reads what the pass has just made is none of the constant ones.
TEST(LowPrecision, ProductsInARowAreAllLow) {
  for (int again = 0; again < 50; ++again) {
    Graph g;
    ValueId x = g.AddInput("x", F32({Dim::Sequences(), 64}));
    for (int i = 0; i < 200; ++i)
      x = Matmul(g, x, g.AddParam(fmt::format("w{}", i), {64, 64}), false, true);
    g.AddOutput("y", x);
    const std::vector<char> dirt(4096, static_cast<char>(0xFF));
    ASSERT_EQ(LowPrecisionPass(Of(CellType::kBf16)).run(g).rewrites, 200) << again;
  }
}

// The graph has no updates, like one that is evaluated between steps.
TEST(LowPrecision, WhatMayTrainAndAFrozenHeadStayInF32) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({Dim::Sequences(), 64}));
  g.AddOutput("trains", Matmul(g, x, g.AddParam("w", {64, 64}, true), false, true));
  g.scope = "head";
  g.AddOutput("head", Matmul(g, x, g.AddParam("head.weight", {64, 64}), false, true));
  g.scope = "blocks.0.attn.o";
  g.AddOutput("other", Matmul(g, x, g.AddParam("o", {64, 64}), false, true));
  EXPECT_EQ(LowPrecisionPass(Of(CellType::kBf16)).run(g).rewrites, 1);
  EXPECT_EQ(MakerName(g, g.output("trains")), "matmul");
  EXPECT_EQ(MakerName(g, g.output("head")), "matmul");
  EXPECT_EQ(MakerName(g, g.output("other")), "low_matmul");
}

TEST(LowPrecision, ThinAndConstantProductsStayInF32) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({Dim::Sequences(), 64})), p = g.AddParam("p", {5, 64});
  const ValueId wide = g.AddParam("wide", {64, 64}), thin = g.AddParam("thin", {31, 64});
  g.AddOutput("thin", Matmul(g, x, thin, false, true));
  g.AddOutput("constant", Matmul(g, p, wide, false, true));
  g.AddOutput("wide", Matmul(g, x, wide, false, true));
  EXPECT_EQ(LowPrecisionPass(Of(CellType::kBf16)).run(g).rewrites, 1);
  EXPECT_EQ(MakerName(g, g.output("wide")), "low_matmul");
}

// Fine-tunes a model that is wide enough: the trained weights, their gradients, and the bits of 1,
// 2 and 3 threads are compared.
TEST(LowPrecision, FullFineTuningIsNearF32) {
  const auto gradients = [](const Precision& precision, double& loss) {
    LowStep step("full", precision, 0, kWideVit);
    loss = step.Accumulate();
    std::map<std::string, std::vector<float>> all;
    for (const std::string& name : step.step->trainable_names()) all[name] = step.Gradient(name);
    const std::vector<std::string> low = Scopes(step.graph(), kLowMatmul);
    // Six products a block: forward, into the input (but for the first norm's) and the weight; and
    // that into the weight of the patches.
    EXPECT_EQ(low.size(), precision.cell == CellType::kF32 ? 0u : 6u * 3 + 1);
    return all;
  };
  double f32 = 0, low = 0;
  const auto exact = gradients({}, f32), near = gradients(Of(CellType::kBf16), low);
  EXPECT_NEAR(f32, low, 2e-3 * f32);
  for (const auto& [name, values] : exact) {
    if (name.ends_with("attn.k.bias")) continue;  // zero but for rounding
    EXPECT_GT(Cosine(values, near.at(name)), 0.999) << name;
  }
  for (const int threads : {1, 2, 3}) {
    SetThreads(threads);
    EXPECT_EQ(gradients(Of(CellType::kBf16), low), near) << threads;
  }
  SetThreads(DefaultThreads());
}

class LowSteps : public ::testing::TestWithParam<CellType> {};

// Gradients of both factors, through both blocks, point where those of f32 do.
TEST_P(LowSteps, LossAndGradientsAreNearThoseOfF32) {
  LowStep f32("lora(r=4)", {}), low("lora(r=4)", Of(GetParam()));
  const double loss = f32.Accumulate(), near = GetParam() == CellType::kBf16 ? 2e-3 : 1e-2;
  const double other = low.Accumulate();
  EXPECT_NE(loss, other);
  EXPECT_NEAR(loss, other, near * loss);
  int compared = 0;
  for (const std::string& name : f32.step->trainable_names()) {
    const double cosine = Cosine(f32.Gradient(name), low.Gradient(name));
    EXPECT_GT(cosine, GetParam() == CellType::kBf16 ? 0.9995 : 0.99) << name;
    EXPECT_LT(cosine, 1 - 1e-12) << name;
    ++compared;
  }
  EXPECT_EQ(compared, 2 * 2 * 2 + 2);
}

TEST_P(LowSteps, BitsDoNotDependOnThreads) {
  std::vector<std::vector<float>> first;
  for (const int threads : {1, 2, 3}) {
    SetThreads(threads);
    LowStep step("lora(r=4)", Of(GetParam()));
    step.Accumulate();
    std::vector<std::vector<float>> all;
    for (const std::string& name : step.step->trainable_names()) all.push_back(step.Gradient(name));
    if (first.empty()) first = all;
    EXPECT_EQ(all, first) << threads;
  }
  SetThreads(DefaultThreads());
}

// Whatever was in the memory that kernels work in before.
TEST_P(LowSteps, AStepRepeatsItself) {
  std::vector<std::vector<float>> first;
  for (int i = 0; i < 12; ++i) {
    LowStep step("lora(r=4)", Of(GetParam()));
    for (int again = 0; again < 2; ++again) {
      step.step->session().ZeroStates(step.step->session().options().lanes);
      step.Accumulate();
      std::vector<std::vector<float>> all;
      for (const std::string& name : step.step->trainable_names())
        all.push_back(step.Gradient(name));
      if (first.empty()) first = all;
      EXPECT_EQ(all, first) << i << " " << again;
    }
    // What is freed now may be the next one's memory.
    std::vector<std::vector<float>> dirt(64, std::vector<float>(4096 * (i + 1), 1e30f));
  }
}

// A diverged run must show: what is not finite is not rounded to something that is.
TEST_P(LowSteps, WhatIsNotFiniteStaysSo) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    EXPECT_FALSE(std::isfinite(LowStep("lora(r=4)", Of(GetParam())).Accumulate(bad))) << bad;
}

INSTANTIATE_TEST_SUITE_P(Cells, LowSteps, ::testing::Values(CellType::kBf16, CellType::kInt8),
                         [](const auto& i) {
                           return i.param == CellType::kBf16 ? "bf16" : "int8";
                         });

// One row of a and one column of b are bad, and the kernel runs alone.
TEST(LowPrecision, ABadRowOrColumnIsBadAlone) {
  for (const auto& [cell, k] :
       {std::pair<const char*, int64_t>{"bf16", 40}, {"int8", 40}, {"int8", 64}})
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      Graph g;
      LowMatmulAttrs attrs;
      attrs.product.tb = true, attrs.cell = cell;
      const ValueId x = g.AddInput("x", F32({Dim::Sequences(), k}));
      g.AddOutput("y", g.Add1(kLowMatmul, {x, g.AddParam("w", {37, k})}, attrs));
      ParamStore params;
      std::vector<float> w = Normal(37 * k, 1, 1.0f);
      w[5 * k + 7] = bad;
      params.Set("w", {37, k}, w);
      Session session(g, params, {.capacity = {6, 0}});
      const std::vector<float> rows = Normal(6 * k, 2, 1.0f);
      std::ranges::copy(rows, session.Input("x").f32());
      session.Input("x").f32()[3 * k + 39] = bad;
      session.Run({6, 0});
      const float* y = session.Output("y").f32();
      for (int64_t i = 0; i < 6; ++i)
        for (int64_t j = 0; j < 37; ++j)
          EXPECT_EQ(std::isfinite(y[i * 37 + j]), i != 3 && j != 5) << cell << " " << i << " " << j;
    }
}

// One key's score is far above those of all others, wherever it stands: without the largest score
// taken off, its exponential is infinite.
TEST(LowPrecision, AttentionKeepsToTheLargestScore) {
  constexpr int64_t kKeys = 37, kWidth = 32;
  Graph g;
  const auto rows = [&](const char* name) { return g.AddInput(name, F32({kKeys, kWidth})); };
  const ValueId q = rows("q"), k = rows("k"), v = rows("v");
  const ValueId offsets = g.AddInput("offsets", {DType::kI32, {2}});
  LowAttentionAttrs attrs;
  attrs.heads = 1, attrs.scale = 1;
  g.AddOutput("y", g.Add(kLowAttention, {q, k, v, offsets, offsets}, attrs)[0]);
  ParamStore params;
  Session session(g, params, {.capacity = {1, 0}});
  session.Input("offsets").i32()[0] = 0, session.Input("offsets").i32()[1] = kKeys;
  for (int64_t largest = 0; largest < kKeys; ++largest) {
    for (const char* name : {"q", "k", "v"})
      std::fill_n(session.Input(name).f32(), kKeys * kWidth, 0.0f);
    for (int64_t i = 0; i < kKeys; ++i) {
      session.Input("q").f32()[i * kWidth] = 16;
      session.Input("v").f32()[i * kWidth + 1] = static_cast<float>(i);
    }
    session.Input("k").f32()[largest * kWidth] = 16;  // a score of 256
    session.Run({1, 0});
    const float* y = session.Output("y").f32();
    for (int64_t i = 0; i < kKeys; ++i)
      ASSERT_NEAR(y[i * kWidth + 1], static_cast<float>(largest), 0.25) << largest << " " << i;
  }
}

// A chunk's sums wait in a buffer of its thread until they are rounded.
TEST(LowPrecision, ThreadsRoundTheirOwnSums) {
  constexpr int64_t kRows = 6400;  // so long that all threads have woken up
  Graph g;
  ValueId x = g.AddInput("x", F32({Dim::Sequences(), 256}));
  LowMatmulAttrs attrs;
  attrs.product.tb = true, attrs.cell = "bf16";
  ParamStore params;
  for (int i = 0; i < 3; ++i) {
    const std::string name = fmt::format("w{}", i);
    x = g.Add1(kLowMatmul, {x, g.AddParam(name, {256, 256})}, attrs);
    params.Set(name, {256, 256}, Normal(256 * 256, static_cast<uint64_t>(i), 0.06f));
  }
  g.AddOutput("y", x);
  ASSERT_GT(Bf16ValuesPass().run(g).rewrites, 0);
  const std::vector<float> rows = Normal(kRows * 256, 9, 1.0f);
  const int threads = Threads();
  std::vector<float> one;
  for (const int n : {1, 2, 8}) {
    SetThreads(n);
    Session session(g, params, {.capacity = {kRows, 0}});
    for (int again = 0; again < 5; ++again) {
      std::ranges::copy(rows, session.Input("x").f32());
      session.Run({kRows, 0});
      const float* y = session.Output("y").f32();
      if (n == 1) one.assign(y, y + kRows * 256);
      ASSERT_TRUE(std::equal(one.begin(), one.end(), y)) << n << " threads, " << again;
    }
  }
  SetThreads(threads);
}

TEST(LowPrecision, NearGeluIsNearerThanBf16Rounds) {
  for (double x = -12; x < 12; x += 0.001) {
    const Activated64 exact = Gelu64(x), near = GeluNear64(x);
    ASSERT_NEAR(exact.y, near.y, 1.1e-4 * std::abs(x)) << x;
    ASSERT_NEAR(exact.slope, near.slope, 8e-4) << x;
  }
}

// In training it is the epilogue of fc1, in inference a node; behind a product in f32 it is the
// exact one.
TEST(LowPrecision, GeluOfRoundedProductsIsTheNearOne) {
  const auto acts = [](std::vector<std::string> keep) {
    std::vector<std::string> all;
    const LowStep step("linear", Of(CellType::kBf16, std::move(keep)));
    for (NodeId id : step.graph().TopoOrder()) {
      const Node& n = step.graph().node(id);
      if (n.op == &kGelu || n.op == &kGeluNear) all.push_back(std::string(n.op->name));
    }
    return all;
  };
  EXPECT_THAT(acts({}), ::testing::ElementsAre("gelu_near", "gelu_near"));
  EXPECT_THAT(acts({"fc1"}), ::testing::ElementsAre("gelu", "gelu"));
  const LowStep step("lora(r=4)", Of(CellType::kBf16));
  int fused = 0;
  for (NodeId id : step.graph().TopoOrder())
    if (const Node& n = step.graph().node(id); n.op == &kLowMatmul)
      fused += n.attrs.As<LowMatmulAttrs>().product.act == "gelu_near";
  EXPECT_EQ(fused, 2);
}

}  // namespace
}  // namespace graft::testing::low_precision_test
