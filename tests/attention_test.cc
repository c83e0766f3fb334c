// Compares attention and its gradient with a composite of matmuls and softmax, sequence by
// sequence, in double precision. The cases are masks, prefixes, few query rows, and sessions with
// fewer sequences than their capacity.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "ops/ops.h"
#include "runtime/interpret.h"
#include "runtime/session.h"
#include "runtime/threads.h"

namespace graft::attention_test {
namespace {

using Doubles = std::vector<double>;

struct Problem {
  int64_t heads = 2, d = 8;
  std::vector<int32_t> q_offsets{0, 5, 9}, kv_offsets{0, 5, 9};
  bool mask = false;
  int64_t prefix = 0;

  int64_t width() const { return heads * d; }
  int64_t sequences() const { return std::ssize(q_offsets) - 1; }
  double scale() const { return 1 / std::sqrt(static_cast<double>(d)); }
};

Doubles Random(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Doubles x(static_cast<size_t>(count));
  for (double& v : x) v = normal(random);
  return x;
}

std::map<std::string, Doubles> Leaves(const Problem& p) {
  const int64_t rq = p.q_offsets.back(), rk = p.kv_offsets.back(), w = p.width();
  std::map<std::string, Doubles> x{{"q", Random(rq * w, 1)},        {"k", Random(rk * w, 2)},
                                   {"v", Random(rk * w, 3)},        {"mask", Random(rk, 4)},
                                   {"pk", Random(p.prefix * w, 5)}, {"pv", Random(p.prefix * w, 6)},
                                   {"dcontext", Random(rq * w, 7)}};
  x["q_offsets"] = Doubles(p.q_offsets.begin(), p.q_offsets.end());
  x["kv_offsets"] = Doubles(p.kv_offsets.begin(), p.kv_offsets.end());
  for (size_t i = 0; i < x["mask"].size(); i += 3)
    x["mask"][i] = -std::numeric_limits<double>::infinity();
  return x;
}

// Holds the operator and all its gradients, with the outputs "context", "dq", "dk", "dv", "dpk",
// "dpv".
Graph AttentionGraph(const Problem& p) {
  Graph g;
  const Dim rq(p.q_offsets.back()), rk(p.kv_offsets.back()), w(p.width());
  auto f32 = [&](const char* name, Dim rows, Dim cols) {
    return g.AddInput(name, {DType::kF32, {rows, cols}});
  };
  auto offsets = [&](const char* name) {
    return g.AddInput(name, {DType::kI32, {Dim(p.sequences() + 1)}});
  };
  std::vector<ValueId> in{f32("q", rq, w), f32("k", rk, w), f32("v", rk, w)};
  in.push_back(offsets("q_offsets")), in.push_back(offsets("kv_offsets"));
  if (p.mask) in.push_back(f32("mask", rk, 1));
  if (p.prefix) in.push_back(f32("pk", p.prefix, w)), in.push_back(f32("pv", p.prefix, w));
  const AttentionAttrs attrs{p.heads, p.scale(), p.mask, p.prefix > 0};
  const ValueList out = g.Add(kAttention, in, attrs);
  g.SetOutput("context", out[0]);
  g.SetOutput("lse", out[1]);
  std::vector<bool> need(in.size(), true);
  if (p.mask) need[5] = false;
  const std::vector<ValueId> cotangent{f32("dcontext", rq, w), {}};
  const std::vector<ValueId> d = kAttention.gradient({g, in, out, cotangent, need, attrs});
  g.SetOutput("dq", d[0]), g.SetOutput("dk", d[1]), g.SetOutput("dv", d[2]);
  if (p.prefix) g.SetOutput("dpk", d[d.size() - 2]), g.SetOutput("dpv", d[d.size() - 1]);
  return g;
}

// The same function of slices: per sequence and head softmax(scale q k' + 1 mask') v, where -1e30
// stands for -inf. Its gradients come from the rules of matmul, softmax and the slices.
Doubles CompositeContext(const Problem& p, const std::map<std::string, Doubles>& x) {
  const int64_t w = p.width();
  Doubles context(static_cast<size_t>(p.q_offsets.back() * w));
  auto rows = [&](const char* name, int64_t begin, int64_t end, int64_t h) {
    Doubles part;
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = 0; c < p.d; ++c) part.push_back(x.at(name)[r * w + h * p.d + c]);
    return part;
  };
  for (int64_t s = 0; s < p.sequences(); ++s)
    for (int64_t h = 0; h < p.heads; ++h) {
      const size_t i = static_cast<size_t>(s);
      Doubles q = rows("q", p.q_offsets[i], p.q_offsets[i + 1], h);
      Doubles k = rows("k", p.kv_offsets[i], p.kv_offsets[i + 1], h);
      Doubles v = rows("v", p.kv_offsets[i], p.kv_offsets[i + 1], h);
      Doubles mask;
      for (int32_t r = p.kv_offsets[i]; r < p.kv_offsets[i + 1]; ++r)
        mask.push_back(p.mask ? std::max(-1e30, x.at("mask")[r]) : 0);
      const Doubles pk = rows("pk", 0, p.prefix, h), pv = rows("pv", 0, p.prefix, h);
      k.insert(k.end(), pk.begin(), pk.end());
      v.insert(v.end(), pv.begin(), pv.end());
      mask.resize(mask.size() + static_cast<size_t>(p.prefix));
      const int64_t n = std::ssize(mask), tq = p.q_offsets[i + 1] - p.q_offsets[i];
      if (n == 0 || tq == 0) continue;
      Graph g;
      auto input = [&](const char* name, Shape shape) {
        return g.AddInput(name, {DType::kF32, std::move(shape)});
      };
      const ValueId scores = Add(
          g,
          Scale(g, Matmul(g, input("q", {tq, p.d}), input("k", {n, p.d}), false, true), p.scale()),
          input("mask", {n}));
      const ValueId y = Matmul(g, Softmax(g, scores), input("v", {n, p.d}));
      const Values64 values =
          Interpret(g, {.counts = {}, .leaves = {{"q", q}, {"k", k}, {"v", v}, {"mask", mask}}});
      for (int64_t r = 0; r < tq; ++r)
        for (int64_t c = 0; c < p.d; ++c)
          context[(p.q_offsets[i] + r) * w + h * p.d + c] = values[y.i][r * p.d + c];
    }
  return context;
}

std::map<std::string, Doubles> RunSession(const Graph& g, const std::map<std::string, Doubles>& x,
                                          Counts capacity = {}, Counts counts = {}) {
  ParamStore params;
  Session session(g, params, {.capacity = capacity, .share_memory = true, .poison = true});
  for (const auto& [name, values] : x) {
    if (!session.HasInput(name)) continue;
    const Tensor t = session.Input(name);
    for (size_t i = 0; i < values.size(); ++i)
      if (t.dtype == DType::kI32)
        t.i32()[i] = static_cast<int32_t>(values[i]);
      else
        t.f32()[i] = static_cast<float>(values[i]);
  }
  session.Run(counts);
  std::map<std::string, Doubles> out;
  for (const GraphOutput& o : g.outputs) {
    const Tensor t = session.Output(o.name);
    out[o.name] = Doubles(t.f32(), t.f32() + t.shape.size());
  }
  return out;
}

void ExpectNear(const Doubles& got, const Doubles& want, double tolerance,
                const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::isinf(want[i]))
      ASSERT_EQ(got[i], want[i]) << what << " element " << i;
    else
      ASSERT_NEAR(got[i], want[i], tolerance) << what << " element " << i;
  }
}

void CheckAll(const Problem& p) {
  const auto x = Leaves(p);
  const Graph g = AttentionGraph(p);
  const Values64 truth = Interpret(g, {.counts = {}, .leaves = x});
  if (!p.mask) ExpectNear(truth[g.output("context").i], CompositeContext(p, x), 1e-12, "reference");
  for (const auto& [name, got] : RunSession(g, x))
    ExpectNear(got, truth[g.output(name).i], 3e-5, name);
}

TEST(Attention, UnequalLengths) {
  CheckAll(
      {.heads = 3, .d = 12, .q_offsets = {0, 1, 60, 60, 77}, .kv_offsets = {0, 1, 60, 60, 77}});
}
TEST(Attention, FirstRowsOnly) {
  CheckAll({.heads = 2, .d = 32, .q_offsets = {0, 1, 2, 3}, .kv_offsets = {0, 50, 51, 113}});
}
TEST(Attention, Prefix) {
  CheckAll({.heads = 2,
            .d = 16,
            .q_offsets = {0, 7, 7, 30, 33, 40, 41, 42, 43, 50, 51},
            .kv_offsets = {0, 7, 7, 30, 33, 40, 41, 42, 43, 50, 51},
            .mask = false,
            .prefix = 6});
}
TEST(Attention, OnlyPrefixKeys) {
  CheckAll(
      {.heads = 1, .d = 5, .q_offsets = {0, 4}, .kv_offsets = {0, 0}, .mask = false, .prefix = 3});
}
TEST(Attention, Mask) {
  CheckAll({.heads = 2, .d = 8, .q_offsets = {0, 5, 30}, .kv_offsets = {0, 5, 30}, .mask = true});
}
TEST(Attention, MaskAndPrefix) {
  CheckAll({.heads = 2,
            .d = 8,
            .q_offsets = {0, 5, 30},
            .kv_offsets = {0, 5, 30},
            .mask = true,
            .prefix = 4});
}
TEST(Attention, ManyQueryBlocks) {
  CheckAll({.heads = 1, .d = 64, .q_offsets = {0, 700}, .kv_offsets = {0, 700}});
}
TEST(Attention, WideHead) {
  CheckAll({.heads = 1, .d = 131, .q_offsets = {0, 21}, .kv_offsets = {0, 21}});
}

TEST(Attention, MaskedComposite) {
  Problem p{.heads = 2, .d = 8, .q_offsets = {0, 5, 30}, .kv_offsets = {0, 5, 30}, .mask = true};
  const auto x = Leaves(p);
  const Graph g = AttentionGraph(p);
  const Values64 truth = Interpret(g, {.counts = {}, .leaves = x});
  ExpectNear(truth[g.output("context").i], CompositeContext(p, x), 1e-12, "reference");
}

// A query that may see no key has a context and gradients of 0, and an lse of -inf.
TEST(Attention, NothingToAttendTo) {
  const Problem p{
      .heads = 2, .d = 4, .q_offsets = {0, 2, 4, 6}, .kv_offsets = {0, 3, 3, 5}, .mask = true};
  auto x = Leaves(p);
  for (size_t i = 0; i < 3; ++i) x["mask"][i] = -std::numeric_limits<double>::infinity();
  x["mask"][3] = x["mask"][4] = 0;
  auto out = RunSession(AttentionGraph(p), x);
  for (size_t i = 0; i < 4 * 8; ++i) EXPECT_EQ(out["context"][i], 0) << i;
  for (size_t i = 0; i < 4 * 2; ++i) EXPECT_EQ(out["lse"][i], -INFINITY) << i;
  for (const char* name : {"dq", "dk", "dv"})
    for (double v : out[name]) EXPECT_TRUE(std::isfinite(v)) << name;
  for (size_t i = 0; i < 3 * 8; ++i) EXPECT_EQ(out["dv"][i], 0) << i;
}

// A sequence gives the same bits alone and among others, at any number of threads.
TEST(Attention, SequencesAreIndependent) {
  const Problem all{
      .heads = 3, .d = 20, .q_offsets = {0, 37, 90, 101}, .kv_offsets = {0, 37, 90, 101}};
  const Problem one{.heads = 3, .d = 20, .q_offsets = {0, 53}, .kv_offsets = {0, 53}};
  const auto x = Leaves(all);
  auto part = x;
  const int64_t w = all.width();
  for (const char* name : {"q", "k", "v", "dcontext"})
    part[name] = Doubles(x.at(name).begin() + 37 * w, x.at(name).begin() + 90 * w);
  part["q_offsets"] = part["kv_offsets"] = {0, 53};
  auto many = RunSession(AttentionGraph(all), x), alone = RunSession(AttentionGraph(one), part);
  for (const char* name : {"context", "dq", "dk", "dv"})
    EXPECT_EQ(Doubles(many[name].begin() + 37 * w, many[name].begin() + 90 * w), alone[name])
        << name;
  for (int threads : {2, 3, 8}) {
    SetThreads(threads);
    EXPECT_EQ(RunSession(AttentionGraph(all), x), many) << threads;
  }
  SetThreads(1);
}

// Few heads are cut in two, so that threads have work, and the bits stay.
TEST(Attention, OneImageSameBits) {
  const Problem all{
      .heads = 3, .d = 24, .q_offsets = {0, 197, 394, 591}, .kv_offsets = {0, 197, 394, 591}};
  const Problem one{.heads = 3, .d = 24, .q_offsets = {0, 197}, .kv_offsets = {0, 197}};
  auto x = Leaves(all);
  auto many = RunSession(AttentionGraph(all), x);
  const int64_t w = all.width();
  for (const char* name : {"q", "k", "v", "dcontext"}) x[name].resize(197 * w);
  x["q_offsets"] = x["kv_offsets"] = {0, 197};
  for (int threads : {1, 2, 5}) {
    SetThreads(threads);
    auto alone = RunSession(AttentionGraph(one), x);
    for (const auto& [name, row] : {std::pair{"context", w}, std::pair{"lse", one.heads}})
      EXPECT_EQ(Doubles(many[name].begin(), many[name].begin() + 197 * row), alone[name]) << name;
  }
  SetThreads(1);
}

// Query rows that are computed alone have the bits that they have among others.
TEST(Attention, FewQueriesSameBits) {
  const Problem all{.heads = 2, .d = 24, .q_offsets = {0, 41, 90}, .kv_offsets = {0, 41, 90}};
  Problem first = all;
  first.q_offsets = {0, 1, 2};
  const auto x = Leaves(all);
  auto few = x;
  const int64_t w = all.width();
  few["q"].assign(x.at("q").begin(), x.at("q").begin() + w);
  few["q"].insert(few["q"].end(), x.at("q").begin() + 41 * w, x.at("q").begin() + 42 * w);
  few["q_offsets"] = {0, 1, 2};
  few["dcontext"].resize(2 * w);
  const Doubles context = RunSession(AttentionGraph(all), x)["context"];
  const Doubles got = RunSession(AttentionGraph(first), few)["context"];
  for (int64_t c = 0; c < w; ++c) {
    EXPECT_EQ(got[c], context[c]);
    EXPECT_EQ(got[w + c], context[41 * w + c]);
  }
}

// One session for up to 4 sequences of 7 rows, run with 2 of them and with none.
TEST(Attention, FewerSequencesThanCapacity) {
  Graph g;
  const Dim rows = Dim::Sequences(7);
  const ValueId q = g.AddInput("q", {DType::kF32, {rows, 12}}), o = Offsets(g, 7);
  const std::vector<ValueId> in{q, q, q, o, o};
  const AttentionAttrs attrs{.heads = 2, .scale = 0.5};
  const ValueList out = g.Add(kAttention, in, attrs);
  const std::vector<ValueId> d = kAttention.gradient(
      {g, in, out, std::vector<ValueId>{q, {}}, {true, false, true, false, false}, attrs});
  EXPECT_EQ(g.node(g.value(d[0]).producer).attrs.As<AttentionGradAttrs>().want, "qv");
  EXPECT_FALSE(d[1].valid());
  g.SetOutput("context", out[0]), g.SetOutput("dq", d[0]), g.SetOutput("dv", d[2]);
  const std::map<std::string, Doubles> x{{"q", Random(28 * 12, 1)}}, two{{"q", Random(14 * 12, 1)}};
  const Values64 truth = Interpret(g, {.counts = {2, 0}, .leaves = two});
  for (const auto& [name, got] : RunSession(g, x, {4, 0}, {2, 0}))
    ExpectNear(got, truth[g.output(name).i], 1e-5, name);
  for (const auto& [name, got] : RunSession(g, x, {4, 0}, {0, 0})) EXPECT_TRUE(got.empty()) << name;
}

// Offsets that lie outside the matrices read and write nothing there (run with sanitizers).
TEST(Attention, WrongOffsetsStayInside) {
  const Problem p{.heads = 2, .d = 8, .q_offsets = {0, 5, 9}, .kv_offsets = {0, 5, 9}};
  auto x = Leaves(p);
  x["q_offsets"] = {-3, 100, 2000000000};
  x["kv_offsets"] = {7, 2, -2000000000};
  const auto out = RunSession(AttentionGraph(p), x);
  EXPECT_EQ(out.at("context").size(), 9u * 16u);
}

TEST(Attention, RefusesWhatItCannotDifferentiate) {
  Problem p{.mask = true};
  Graph g = AttentionGraph(p);
  const NodeId n = g.value(g.output("context")).producer;
  const ValueList in = g.node(n).in, out = g.node(n).out;
  const std::vector<bool> all(in.size(), true), none(in.size(), false);
  const Attrs attrs = g.node(n).attrs;
  EXPECT_THROW(kAttention.gradient({g, in, out, std::vector<ValueId>{out[0], {}}, all, attrs}),
               Error);
  EXPECT_THROW(kAttention.gradient({g, in, out, std::vector<ValueId>{{}, out[1]}, all, attrs}),
               Error);
  for (ValueId d : kAttention.gradient({g, in, out, std::vector<ValueId>{out[0], {}}, none, attrs}))
    EXPECT_FALSE(d.valid());
}

}  // namespace
}  // namespace graft::attention_test
