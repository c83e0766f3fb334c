// What lies between operators in bf16: each rule of the pass alone, and that the bits which
// products of bf16 read stay the same.
#include "ops/bf16_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ops/low_precision.h"
#include "ops/records.h"
#include "runtime/cpu.h"
#include "runtime/threads.h"
#include "tests/low_testing.h"

namespace graft::testing::bf16_values_test {
namespace {

constexpr int64_t kSide = 160;
static_assert(kSide >= kLeastWaitingSide);

ValueId Rows(Graph& g, const char* name = "x", int64_t side = kSide) {
  return g.AddInput(name, F32({Dim::Sequences(), side}));
}
ValueId Weight(Graph& g, const char* name, int64_t side = kSide) {
  return g.AddParam(name, {side, side});
}
// x w', or x w with `back`.
ValueId Product(Graph& g, ValueId x, ValueId w, bool back = false, const char* cell = "bf16") {
  LowMatmulAttrs low;
  low.product.tb = !back, low.cell = cell;
  return g.Add1(kLowMatmul, {x, w}, low);
}
int64_t RunPass(Graph& g) {
  const int64_t rewrites = Bf16ValuesPass().run(g).rewrites;
  Verify(g);
  return rewrites;
}
DType Reads(const Graph& g, ValueId v, size_t input) { return g.type(Maker(g, v).in[input]).dtype; }

// The outputs of g, on the same noise whatever g is.
std::map<std::string, std::vector<float>> Outputs(const Graph& g) {
  ParamStore params = RandomParams(g, 3);
  Session session(g, params, {.capacity = {7, 0}});
  SetInputs(session, RandomInputs(g, {7, 0}, 5));
  session.Run({7, 0});
  std::map<std::string, std::vector<float>> all;
  for (const GraphOutput& o : g.outputs) all[o.name] = OutputValues(session, o.name);
  return all;
}

TEST(Bf16Values, BetweenTwoProductsNothingIsRoundedTwice) {
  Graph g;
  const ValueId middle = Product(g, Rows(g), Weight(g, "a"));
  g.AddOutput("y", Product(g, middle, Weight(g, "b")));
  const auto before = Outputs(g);
  EXPECT_EQ(RunPass(g), 1);
  EXPECT_EQ(Reads(g, g.output("y"), 0), DType::kBf16);
  EXPECT_EQ(CountOps(g, kToBf16), 0);
  EXPECT_EQ(Outputs(g), before);
}

TEST(Bf16Values, WhatAnOperatorOfF32ReadsOrAnOutputIsStaysF32) {
  for (const bool output : {true, false}) {
    Graph g;
    const ValueId middle = Product(g, Rows(g), Weight(g, "a"));
    g.AddOutput("y", Product(g, middle, Weight(g, "b")));
    g.AddOutput("z", output ? middle : g.Add1(kTanh, {middle}));
    EXPECT_EQ(RunPass(g), 0);
    EXPECT_EQ(Reads(g, g.output("y"), 0), DType::kF32);
  }
}

TEST(Bf16Values, WhatIsMadeOfParametersAloneStaysF32) {
  Graph g;
  const ValueId made = Product(g, Weight(g, "p"), Weight(g, "a"));
  const ValueId w = Product(g, made, Weight(g, "b"));
  g.AddOutput("y", Matmul(g, Rows(g), w, false, true));
  EXPECT_EQ(RunPass(g), 0);
}

// The norm in front of a product makes what the product multiplies, whatever its precision.
TEST(Bf16Values, ANormIsRoundedWhereProductsAloneReadIt) {
  for (const char* cell : {"bf16", "int8"})
    for (const bool residual : {false, true}) {
      Graph g;
      const ValueId x =
          LayerNorm(g, Rows(g), g.AddParam("gain", {kSide}), g.AddParam("bias", {kSide}), 1e-6);
      g.AddOutput("y", Product(g, x, Weight(g, "a"), false, cell));
      g.AddOutput("z", residual ? Add(g, x, Rows(g, "r")) : Product(g, x, Weight(g, "b")));
      const auto before = Outputs(g);
      EXPECT_EQ(RunPass(g), !residual);
      EXPECT_EQ(CountOps(g, kLowLayerNorm), !residual);
      EXPECT_EQ(Reads(g, g.output("y"), 0), residual ? DType::kF32 : DType::kBf16);
      if (residual || cell == std::string("bf16")) {
        EXPECT_EQ(Outputs(g), before);
      }
    }
}

// As a norm in front of queries, keys, values and a residual connection.
TEST(Bf16Values, WhatSeveralProductsReadIsRoundedOnce) {
  for (const int readers : {1, 2, 3}) {
    Graph g;
    const ValueId x = g.Add1(kTanh, {Rows(g)});
    for (int i = 0; i < readers; ++i)
      g.AddOutput(fmt::format("y{}", i), Product(g, x, Weight(g, fmt::format("w{}", i).c_str())));
    const auto before = Outputs(g);
    EXPECT_EQ(RunPass(g), readers > 1 ? 1 : 0) << readers;
    EXPECT_EQ(CountOps(g, kToBf16), readers > 1 ? 1 : 0) << readers;
    EXPECT_EQ(Outputs(g), before) << readers;
  }
}

// fc2's gradient times the slope of the activation behind fc1.
struct SlopeGraph {
  Graph g;
  ValueId product, y, slope;
  explicit SlopeGraph(const char* act = "none") {
    LowMatmulAttrs fc1;
    fc1.product.tb = true, fc1.product.act = "gelu_near";
    const ValueList fused = g.Add(kLowMatmul, {Rows(g), Weight(g, "fc1")}, fc1);
    y = fused[0], slope = fused[1];
    LowMatmulAttrs back;
    back.product.act = act;
    product = g.Add(kLowMatmul, {Rows(g, "dy"), Weight(g, "fc2")}, back)[0];
  }
  ValueId Times() { return Mul(g, product, slope); }
};

TEST(Bf16Values, AProductTakesTheSlopeOnItsWayOut) {
  SlopeGraph of;
  Graph& g = of.g;
  g.AddOutput("dx", of.Times());
  const std::vector<float> before = Outputs(g).at("dx");
  RunPass(g);
  EXPECT_EQ(CountOps(g, kMul), 0);
  EXPECT_TRUE(Maker(g, g.output("dx")).attrs.As<LowMatmulAttrs>().times);
  EXPECT_EQ(Reads(g, g.output("dx"), 2), DType::kBf16);
  EXPECT_EQ(CountOps(g, kToBf16), 0);  // fc1 gives it
  EXPECT_LT(RelativeError(Outputs(g).at("dx"), before), 1e-2);
  EXPECT_NE(Outputs(g).at("dx"), before);
}

TEST(Bf16Values, OnlyAPlainProductOfOneReaderTakesTheSlope) {
  const auto fuses = [](SlopeGraph& of) {
    RunPass(of.g);
    return CountOps(of.g, kMul) == 0;
  };
  SlopeGraph act("gelu_near"), output, read;
  act.g.AddOutput("dx", act.Times());
  EXPECT_FALSE(fuses(act));
  output.g.AddOutput("dx", output.Times());
  output.g.AddOutput("p", output.product);
  EXPECT_FALSE(fuses(output));
  read.g.AddOutput("dx", read.Times());
  read.g.AddOutput("p", read.g.Add1(kTanh, {read.product}));
  EXPECT_FALSE(fuses(read));
  // No slope, but a value from elsewhere or the activation itself.
  SlopeGraph other, activation;
  other.g.AddOutput("dx", Mul(other.g, other.product, Rows(other.g, "z")));
  EXPECT_FALSE(fuses(other));
  activation.g.AddOutput("dx", Mul(activation.g, activation.product, activation.y));
  EXPECT_FALSE(fuses(activation));
}

// --- on the way to the loss and back ---

double Arena(const LowStep& of) { return static_cast<double>(of.step->session().worker_bytes()); }

int Bf16Count(const Graph& g) {
  int count = 0;
  for (NodeId id : g.TopoOrder())
    for (ValueId v : g.node(id).out) count += g.type(v).dtype == DType::kBf16;
  return count;
}

const std::vector<std::string> kWithout{"bf16_values"};

LowStep WideStep(const std::string& method, const std::vector<std::string>& disabled = {},
                 CellType cell = CellType::kBf16) {
  return LowStep(method, Of(cell), 0, kWideVit, disabled);
}

TEST(Bf16Values, WhatWaitsForTheWayBackTakesHalfTheMemory) {
  VitConfig deep = kWideVit;
  deep.depth = 6;
  for (const char* method : {"full", "lora(r=4)"}) {
    const LowStep with(method, Of(CellType::kBf16), 0, deep);
    const LowStep without(method, Of(CellType::kBf16), 0, deep, kWithout);
    EXPECT_GT(Bf16Count(with.graph()), 10) << method;
    EXPECT_EQ(Bf16Count(without.graph()), 0) << method;
    EXPECT_LT(Arena(with), 0.8 * Arena(without)) << method;
  }
}

TEST(Bf16Values, RowsOfFewNumbersWaitInF32) {
  const LowStep step("lora(r=4)", Of(CellType::kBf16));  // 48 and 96
  EXPECT_EQ(CountOps(step.graph(), kToF32), 0);
  const LowStep wide = WideStep("ln");  // layer norms that train read their input on the way back
  EXPECT_GT(CountOps(wide.graph(), kToF32), 0);
}

// Rounding what waits moves gradients by less than the products do.
TEST(Bf16Values, GradientsStayNear) {
  for (const char* method : {"full", "lora(r=4)", "ln", "adaptformer(r=8)"})
    for (const CellType cell : {CellType::kBf16, CellType::kInt8}) {
      LowStep with = WideStep(method, {}, cell), without = WideStep(method, kWithout, cell);
      const double loss = without.Accumulate();
      EXPECT_NEAR(with.Accumulate(), loss, 2e-3 * loss) << method;
      const auto near = with.Gradients();
      for (const auto& [name, values] : without.Gradients())
        if (!name.ends_with("attn.k.bias")) {  // zero but for rounding
          EXPECT_GT(Cosine(values, near.at(name)), cell == CellType::kBf16 ? 0.9993 : 0.99)
              << method << " " << name;
        }
    }
}

// Nothing reads what no kernel has written: neither memory of halves nor what fills up their rows.
TEST(Bf16Values, NothingIsReadThatIsNotWritten) {
  constexpr int64_t kOdd = 35;
  for (const char* cell : {"bf16", "int8"}) {
    Graph g;
    const ValueId x = g.AddInput("x", F32({Dim::Sequences(), kOdd}));
    LowMatmulAttrs attrs;
    attrs.product.tb = true, attrs.cell = cell, attrs.y16 = true;
    const ValueId y = g.Add1(kLowMatmul, {x, g.AddParam("w", {kOdd, kOdd})}, attrs);
    attrs.y16 = false;
    g.AddOutput("z", g.Add1(kLowMatmul, {y, g.AddParam("u", {kOdd, kOdd})}, attrs));
    ParamStore params;
    for (const char* name : {"w", "u"})
      params.Set(name, {kOdd, kOdd}, Normal(kOdd * kOdd, name[0], 0.3f));
    std::vector<float> plain;
    for (const bool poison : {false, true}) {
      Session session(g, params, {.capacity = {7, 0}, .poison = poison});
      const std::vector<float> in = Normal(7 * kOdd, 9, 1.0f);
      std::ranges::copy(in, session.Input("x").f32());
      session.Run({7, 0});
      const Tensor z = session.Output("z");
      const std::vector<float> out(z.f32(), z.f32() + z.shape.size());
      if (!poison) plain = out;
      EXPECT_EQ(out, plain) << cell;
      for (const float v : out) EXPECT_TRUE(std::isfinite(v)) << cell;
    }
  }
}

TEST(Bf16Values, BitsDoNotDependOnThreads) {
  for (const char* method : {"full", "lora(r=4)"}) {
    std::map<std::string, std::vector<float>> first;
    for (const int threads : {1, 2, 3}) {
      SetThreads(threads);
      LowStep step = WideStep(method);
      step.Accumulate();
      if (first.empty()) first = step.Gradients();
      EXPECT_EQ(step.Gradients(), first) << method << " " << threads;
    }
    SetThreads(DefaultThreads());
  }
}

// The loss, sums of gradients and parameters are no values between operators.
TEST(Bf16Values, WhatOutlivesAStepIsF32) {
  const LowStep step = WideStep("full");
  const Graph& g = step.graph();
  for (const Role role : {Role::kParam, Role::kState})
    for (ValueId v : g.Leaves(role)) EXPECT_NE(g.type(v).dtype, DType::kBf16) << g.value(v).name;
  for (const GraphOutput& o : g.outputs) EXPECT_NE(g.type(o.value).dtype, DType::kBf16) << o.name;
  for (const Update& u : g.updates) EXPECT_NE(g.type(u.value).dtype, DType::kBf16);
}

TEST(Bf16Values, NoLeafIsBf16) {
  Graph g;
  const std::string said = MessageOf([&] {
    g.AddInput("x", {DType::kBf16, {Dim::Sequences(), kSide}});
  });
  EXPECT_THAT(said, ::testing::HasSubstr("bf16"));
}

}  // namespace
}  // namespace graft::testing::bf16_values_test
