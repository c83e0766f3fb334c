// Compares fused matmuls with the graphs that they stand for, forward and backward; with frozen
// weights, smaller batches than the capacity, and results that share memory with an input.
#include <gtest/gtest.h>

#include <random>

#include "ops/gemm_core.h"
#include "ops/ops.h"
#include "ops/targets.h"
#include "runtime/interpret.h"
#include "runtime/session.h"
#include "runtime/threads.h"

// After targets.h.
#include "hwy/highway.h"

namespace graft::matmul_test {
namespace {

std::vector<float> Random(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(count);
  for (float& v : x) v = normal(random);
  return x;
}

std::vector<double> Widen(const std::vector<float>& x) { return {x.begin(), x.end()}; }

double Largest(const std::vector<double>& x) {
  double most = 1;
  for (double v : x) most = std::max(most, std::abs(v));
  return most;
}

struct Fused {
  MatmulAttrs attrs;
  Graph fused, composite;  // inputs a, b, bias, residual, dy; outputs y and the gradients
};

// Builds both forms with all gradients; the composite form has them node by node.
Fused BothForms(MatmulAttrs p, int64_t m, int64_t k, int64_t n) {
  Fused f{p, {}, {}};
  for (Graph* g : {&f.fused, &f.composite}) {
    auto input = [&](const char* name, Shape shape) {
      return g->AddInput(name, {DType::kF32, std::move(shape)});
    };
    const ValueId a = input("a", p.ta ? Shape{k, m} : Shape{m, k});
    const ValueId b = input("b", p.tb ? Shape{n, k} : Shape{k, n});
    const ValueId bias = input("bias", {n}), residual = input("residual", {m, n}),
                  dy = input("dy", {m, n});
    std::map<std::string, ValueId> d;
    if (g == &f.fused) {
      std::vector<ValueId> in{a, b};
      if (p.bias) in.push_back(bias);
      if (p.residual) in.push_back(residual);
      const ValueList out = g->Add(kMatmul, in, p);
      std::vector<ValueId> cotangent(out.size());
      cotangent[0] = dy;
      const std::vector<bool> need(in.size(), true);
      const std::vector<ValueId> grads = kMatmul.gradient({*g, in, out, cotangent, need, p});
      d = {{"y", out[0]}, {"da", grads[0]}, {"db", grads[1]}};
      if (p.bias) d["dbias"] = grads[2];
      if (p.residual) d["dresidual"] = grads.back();
    } else {
      ValueId pre = Scale(*g, Matmul(*g, a, b, p.ta, p.tb), p.alpha);
      if (p.bias) pre = Add(*g, pre, bias);
      ValueId y = pre, dpre = dy;
      if (p.act != "none") {
        y = p.act == "gelu" ? Gelu(*g, pre) : g->Add1(kGeluTanh, {pre});
        dpre = g->Add1(p.act == "gelu" ? kGeluGrad : kGeluTanhGrad, {pre, dy});
      }
      if (p.residual) y = Add(*g, y, residual);
      if (p.bias) d["dbias"] = SumRows(*g, dpre);
      if (p.residual) d["dresidual"] = dy;
      const ValueId s = Scale(*g, dpre, p.alpha);
      d["y"] = y;
      d["da"] = p.ta ? Matmul(*g, b, s, p.tb, true) : Matmul(*g, s, b, false, !p.tb);
      d["db"] = p.tb ? Matmul(*g, s, a, true, p.ta) : Matmul(*g, a, s, !p.ta, false);
    }
    for (const auto& [name, v] : d) g->SetOutput(name, v);
  }
  return f;
}

void CheckForms(const MatmulAttrs& p, int64_t m, int64_t k, int64_t n) {
  SCOPED_TRACE(Attrs(p).ToString());
  const Fused f = BothForms(p, m, k, n);
  const std::map<std::string, std::vector<float>> x{{"a", Random(m * k, 1)},
                                                    {"b", Random(k * n, 2)},
                                                    {"bias", Random(n, 3)},
                                                    {"residual", Random(m * n, 4)},
                                                    {"dy", Random(m * n, 5)}};
  InterpretOptions options;
  for (const auto& [name, values] : x) options.leaves[name] = Widen(values);
  const Values64 fused = Interpret(f.fused, options), composite = Interpret(f.composite, options);
  ParamStore params;
  Session session(f.fused, params, {.capacity = {}, .share_memory = true, .poison = true});
  for (const auto& [name, values] : x)
    std::copy(values.begin(), values.end(), session.Input(name).f32());
  session.Run({});
  for (const GraphOutput& o : f.composite.outputs) {
    const std::vector<double>&want = composite[o.value.i], &same = fused[f.fused.output(o.name).i];
    const double scale = Largest(want);
    const Tensor got = session.Output(o.name);
    ASSERT_EQ(static_cast<size_t>(got.shape.size()), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      ASSERT_NEAR(same[i], want[i], 1e-12 * scale) << o.name << " " << i;
      ASSERT_NEAR(got.f32()[i], want[i], 1e-5 * scale) << o.name << " " << i;
    }
  }
}

TEST(Matmul, FusedIsComposite) {
  for (bool ta : {false, true})
    for (bool tb : {false, true})
      for (const char* act : {"none", "gelu", "gelu_tanh"})
        for (int options = 0; options < 4; ++options)
          CheckForms({.ta = ta,
                      .tb = tb,
                      .alpha = options == 1 ? 1 : 0.5,
                      .bias = (options & 1) != 0,
                      .residual = (options & 2) != 0,
                      .act = act},
                     13, 21, 50);
}

TEST(Matmul, ThinReductionIsComposite) {
  for (double alpha : {1.0, 0.25})
    for (bool residual : {false, true})
      for (auto [m, n] : {std::pair{8, 300}, {300, 8}, {16, 16}, {1, 700}, {700, 1}})
        CheckForms({.ta = true, .alpha = alpha, .residual = residual}, m, 600, n);
}

// x W' and dy W with a frozen W, whose panels are packed once if rows are few, and with W as an
// input.
TEST(Matmul, FrozenWeightSameBits) {
  for (int64_t rows : {1, 5, 197, 1100}) {
    for (bool tb : {false, true}) {
      const int64_t k = 70, n = 90;
      const std::vector<float> x = Random(rows * k, 1), w = Random(k * n, 2);
      std::vector<float> results[2];
      for (bool frozen : {false, true}) {
        Graph g;
        const Shape shape = tb ? Shape{n, k} : Shape{k, n};
        const ValueId a = g.AddInput("x", {DType::kF32, {rows, k}});
        const ValueId b = frozen ? g.AddParam("w", shape) : g.AddInput("w", {DType::kF32, shape});
        g.SetOutput("y", Matmul(g, a, b, false, tb));
        ParamStore params;
        params.Set("w", At(shape, {}), w);
        Session session(g, params, {});
        if (!frozen) std::copy(w.begin(), w.end(), session.Input("w").f32());
        std::copy(x.begin(), x.end(), session.Input("x").f32());
        session.Run({});
        const Tensor y = session.Output("y");
        results[frozen].assign(y.f32(), y.f32() + y.shape.size());
        EXPECT_EQ(session.packed_bytes() > 0, frozen && rows < 1000);
      }
      EXPECT_EQ(results[0], results[1]) << rows << " rows, tb " << tb;
    }
  }
}

// Products of one frozen weight share its packed copy; the other orientation is another copy.
TEST(Matmul, PackedWeightsAreShared) {
  constexpr int64_t kRows = 16, kWidth = 48;
  const auto packed = [&](bool transposed, const std::string& second) {
    Graph g;
    const ValueId x = g.AddInput("x", {DType::kF32, {kRows, kWidth}});
    const ValueId w = g.AddParam("w", {kWidth, kWidth});
    const ValueId other = second == "w" ? w : g.AddParam(second, {kWidth, kWidth});
    g.SetOutput("y", Matmul(g, Matmul(g, x, w), other, false, transposed));
    ParamStore params;
    for (const std::string& name : g.ParamNames())
      params.Set(name, {kWidth, kWidth},
                 Random(kWidth * kWidth, static_cast<uint32_t>(name.size())));
    const std::vector<float> rows = Random(kRows * kWidth, 1);
    const Values64 truth = Interpret(g, {{}, {{"x", Widen(rows)}}, &params});
    Session session(g, params, {});
    std::copy(rows.begin(), rows.end(), session.Input("x").f32());
    session.Run({});
    const std::vector<double>& want = truth[g.output("y").i];
    for (size_t i = 0; i < want.size(); ++i)
      EXPECT_NEAR(session.Output("y").f32()[i], want[i], 1e-5 * Largest(want));
    return session.packed_bytes();
  };
  const size_t one = packed(false, "w");
  EXPECT_GT(one, 0u);
  EXPECT_EQ(packed(true, "w"), 2 * one);
  EXPECT_EQ(packed(false, "other"), 2 * one);
}

// y = x W', dW = dy' x, dx = dy W on batches smaller than the capacity, down to none.
TEST(Matmul, SmallerBatches) {
  const int64_t in = 40, out = 24, low = 4;
  Graph g;
  const ValueId x = g.AddInput("x", {DType::kF32, {Dim::Tokens(), in}});
  const ValueId dy = g.AddInput("dy", {DType::kF32, {Dim::Tokens(), out}});
  const ValueId h = g.AddInput("h", {DType::kF32, {Dim::Tokens(), low}});
  const ValueId w = g.AddParam("w", {out, in}, true);
  g.SetOutput("y", Matmul(g, x, w, false, true));
  g.SetOutput("dx", Matmul(g, dy, w));
  g.SetOutput("dw", Matmul(g, dy, x, true));
  g.SetOutput("da", Matmul(g, h, x, true));
  g.SetOutput("db", Matmul(g, dy, h, true));
  g.SetOutput("gram", Matmul(g, x, x, false, true));
  ParamStore params;
  params.Set("w", {out, in}, Random(out * in, 9));
  const int64_t most = 1100;
  Session session(g, params, {.capacity = {1, most}, .share_memory = true, .poison = true});
  for (int64_t tokens :
       {most, most - 1, int64_t{900}, int64_t{385}, int64_t{17}, int64_t{1}, int64_t{0}}) {
    const Counts counts{1, tokens};
    InterpretOptions options{.counts = counts, .leaves = {}, .params = &params};
    for (auto [name, cols] : {std::pair{"x", in}, {"dy", out}, {"h", low}}) {
      const std::vector<float> values = Random(tokens * cols, static_cast<unsigned>(cols));
      options.leaves[name] = Widen(values);
      std::copy(values.begin(), values.end(), session.Input(name).f32());
    }
    session.Run(counts);
    const Values64 truth = Interpret(g, options);
    for (const GraphOutput& o : g.outputs) {
      const Tensor got = session.Output(o.name);
      const std::vector<double>& want = truth[o.value.i];
      ASSERT_EQ(static_cast<size_t>(got.shape.size()), want.size());
      const double scale = Largest(want);
      for (size_t i = 0; i < want.size(); ++i)
        ASSERT_NEAR(got.f32()[i], want[i], 1e-5 * scale)
            << o.name << " of " << tokens << " at " << i;
    }
  }
}

// acc += dy' x in the place of acc, as gradients of micro-batches add up.
TEST(Matmul, AccumulatesInPlace) {
  for (auto [m, n] : {std::pair{30, 50}, {4, 50}, {30, 4}}) {
    Graph g;
    const ValueId dy = g.AddInput("dy", {DType::kF32, {Dim::Tokens(), m}});
    const ValueId x = g.AddInput("x", {DType::kF32, {Dim::Tokens(), n}});
    const ValueId acc = g.AddState("acc", {m, n});
    const ValueId sum = g.Add1(kMatmul, {dy, x, acc}, MatmulAttrs{.ta = true, .residual = true});
    g.AddUpdate(acc, sum);
    ParamStore params;
    Session session(g, params, {.capacity = {0, 700}});
    std::vector<double> want(m * n);
    for (unsigned batch = 0; batch < 3; ++batch) {
      const int64_t rows = batch == 2 ? 123 : 700;
      const std::vector<float> a = Random(rows * m, 2 * batch), b = Random(rows * n, 2 * batch + 1);
      std::copy(a.begin(), a.end(), session.Input("dy").f32());
      std::copy(b.begin(), b.end(), session.Input("x").f32());
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t i = 0; i < m; ++i)
          for (int64_t j = 0; j < n; ++j)
            want[i * n + j] += double{a[r * m + i]} * double{b[r * n + j]};
      session.Run({0, rows});
    }
    for (size_t i = 0; i < want.size(); ++i)
      ASSERT_NEAR(session.State("acc").f32()[i], want[i], 1e-3) << m << " x " << n << " at " << i;
  }
}

// A limit on the SIMD target (--isa) outlives the preparation of a matmul.
TEST(Matmul, KeepsTheLimitOnTargets) {
  const auto panel = [] { return PlanGemm({.m = 8, .k = 8, .n = 8}).panel; };
  const int64_t best = panel();
  hwy::DisableTargets(HWY_SSE4 - 1);
  const int64_t limited = panel();
  Graph g;
  const ValueId a = g.AddInput("a", {DType::kF32, {64, 64}});
  g.SetOutput("y", Matmul(g, a, a));
  g.SetOutput("z", Matmul(g, a, a, true));
  ParamStore params;
  Session session(g, params, {});
  EXPECT_EQ(panel(), limited);
  hwy::DisableTargets(0);
  EXPECT_EQ(panel(), best);
}

TEST(Matmul, NothingForFrozenInputs) {
  Graph g;
  const ValueId x = g.AddInput("x", {DType::kF32, {7, 5}}),
                dy = g.AddInput("dy", {DType::kF32, {7, 3}});
  const ValueId w = g.AddParam("w", {3, 5}), bias = g.AddParam("bias", {3});
  const MatmulAttrs p{.tb = true, .bias = true, .act = "gelu"};
  const ValueList in{x, w, bias}, out = g.Add(kMatmul, in, p);
  const size_t nodes = g.live_nodes();
  const std::vector<ValueId> none =
      kMatmul.gradient({g, in, out, std::vector<ValueId>{dy, {}}, {false, false, false}, p});
  EXPECT_EQ(g.live_nodes(), nodes);
  const std::vector<ValueId> dx =
      kMatmul.gradient({g, in, out, std::vector<ValueId>{dy, {}}, {true, false, false}, p});
  EXPECT_EQ(g.live_nodes(), nodes + 2);  // mul, matmul
  EXPECT_TRUE(dx[0].valid() && !dx[1].valid() && !dx[2].valid());
}

TEST(Matmul, SameBitsForAnyThreads) {
  for (bool thin : {false, true}) {
    Graph g;
    const ValueId a = g.AddInput("a", {DType::kF32, {900, 300}});
    const ValueId b = g.AddInput("b", {DType::kF32, {900, thin ? 8 : 200}});
    g.SetOutput("y", Matmul(g, a, b, true));
    const std::vector<float> va = Random(900 * 300, 1), vb = Random(900 * 200, 2);
    std::vector<float> first;
    for (int threads : {1, 2, 3, 8}) {
      SetThreads(threads);
      ParamStore params;
      Session session(g, params, {});
      std::copy(va.begin(), va.end(), session.Input("a").f32());
      std::copy_n(vb.begin(), session.Input("b").shape.size(), session.Input("b").f32());
      session.Run({});
      const Tensor y = session.Output("y");
      const std::vector<float> got(y.f32(), y.f32() + y.shape.size());
      if (first.empty()) first = got;
      EXPECT_EQ(got, first) << threads << " threads";
    }
  }
  SetThreads(1);
}

}  // namespace
}  // namespace graft::matmul_test
