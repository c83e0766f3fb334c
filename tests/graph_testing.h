// What the tests of the runtime core share: small graphs of real operators, random ones too, and
// running a graph both ways (session and interpreter). It is a header, as every test is one file.
#pragma once
#include <cmath>
#include <random>

#include "ops/ops.h"
#include "runtime/interpret.h"
#include "runtime/session.h"
#include "tests/test_util.h"

namespace graft::testing {

inline TensorType F32(Shape shape) { return {DType::kF32, std::move(shape)}; }
inline TensorType I32(Shape shape) { return {DType::kI32, std::move(shape)}; }

inline NodeId Producer(const Graph& g, ValueId v) { return g.value(v).producer; }
inline const Node& Maker(const Graph& g, ValueId v) { return g.node(Producer(g, v)); }
// "" for a leaf.
inline std::string MakerName(const Graph& g, ValueId v) {
  return Producer(g, v).valid() ? std::string(Maker(g, v).op->name) : "";
}
inline int CountOps(const Graph& g, const OpDef& op) {
  int count = 0;
  for (NodeId n : g.TopoOrder()) count += g.node(n).op == &op;
  return count;
}

// Makes seeded values for every parameter of g, in [-1, 1]; gains of about 1 keep products in
// range.
inline ParamStore RandomParams(const Graph& g, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  ParamStore params;
  for (ValueId v : g.Leaves(Role::kParam)) {
    const Extents shape = At(g.shape(v), {});
    const float scale = shape.rank == 2 ? 1 / std::sqrt(static_cast<float>(shape.cols())) : 1;
    float* data = params.Allocate(g.value(v).name, shape);
    for (int64_t i = 0; i < shape.size(); ++i) data[i] = scale * uniform(random);
  }
  return params;
}

// Inputs of a run, by name: random floats, and integers below `rows`.
using Leaves = std::map<std::string, std::vector<double>>;
inline Leaves RandomInputs(const Graph& g, const Counts& counts, uint32_t seed, uint32_t rows = 1) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  Leaves leaves;
  for (ValueId v : g.Leaves(Role::kInput)) {
    std::vector<double> values(At(g.shape(v), counts).size());
    const bool real = g.type(v).dtype == DType::kF32;
    for (double& x : values) x = real ? static_cast<double>(uniform(random)) : random() % rows;
    leaves[g.value(v).name] = std::move(values);
  }
  return leaves;
}

inline void SetInputs(Session& session, const Leaves& leaves) {
  for (const auto& [name, values] : leaves) {
    if (!session.HasInput(name)) continue;
    const Tensor t = session.Input(name);
    for (size_t i = 0; i < values.size(); ++i) {
      if (t.dtype == DType::kF32)
        t.f32()[i] = static_cast<float>(values[i]);
      else
        t.i32()[i] = static_cast<int32_t>(values[i]);
    }
  }
}

inline std::vector<float> OutputValues(const Session& session, std::string_view name) {
  const Tensor t = session.Output(name);
  return {t.f32(), t.f32() + t.shape.size()};
}

// The largest |a - b| over the largest |b|. It is infinite where sizes differ or a number is NaN.
template <class A, class B>
double RelativeError(const std::vector<A>& a, const std::vector<B>& b) {
  if (a.size() != b.size()) return INFINITY;
  double error = 0, scale = 1e-12;
  for (size_t i = 0; i < a.size(); ++i) {
    const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    if (!std::isfinite(x) || !std::isfinite(y)) return INFINITY;
    error = std::max(error, std::abs(x - y));
    scale = std::max(scale, std::abs(y));
  }
  return error / scale;
}

constexpr int64_t kRandomLength = 4;  // rows of a sequence in a random graph

// Makes a graph of `nodes` operators on [4*s,8] matrices with two outputs, and with `updates` an
// accumulator and an SGD step. Deep chains, shared values and dead ends all occur.
inline Graph RandomGraph(uint32_t seed, int nodes = 16, bool updates = true) {
  constexpr int64_t kWidth = 8;
  std::mt19937 random(seed);
  auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  Graph g;
  std::vector<ValueId> pool{g.AddInput("x", F32({Dim::Sequences(kRandomLength), kWidth})),
                            g.AddInput("y", F32({Dim::Sequences(kRandomLength), kWidth}))};
  const ValueId offsets = Offsets(g, kRandomLength);
  auto param = [&](Shape shape) {
    return g.AddParam(fmt::format("p{}", g.num_values()), std::move(shape), below(2) == 0);
  };
  auto pick = [&] { return pool[pool.size() - 1 - below(std::min<size_t>(pool.size(), 5))]; };
  for (int k = 0; k < nodes; ++k) {
    Scope scope(g, fmt::format("blocks.{}", k / 4));
    const ValueId a = pick(), b = pick();
    ValueId v;
    switch (below(14)) {
      case 0:
        v = Add(g, a, b);
        break;
      case 1:
        v = Sub(g, a, param({kWidth}));
        break;
      case 2:
        v = Mul(g, a, g.Add1(kTanh, {b}));
        break;
      case 3:
        v = Scale(g, a, below(2) ? 0.5 : -0.25);
        break;
      case 4:
        v = Gelu(g, a);
        break;
      case 5:
        v = g.Add1(kSigmoid, {a});
        break;
      case 6:
        v = LayerNorm(g, a, param({kWidth}), param({kWidth}), 1e-5);
        break;
      case 7:
        v = Softmax(g, a);
        break;
      case 8:
        v = Linear(g, a, param({kWidth, kWidth}), param({kWidth}));
        break;
      case 9:
        v = Matmul(g, a, param({kWidth, kWidth}), false, below(2) == 0);
        break;
      case 10:
        v = Add(g, a, SumCols(g, Scale(g, b, 0.1)));
        break;
      case 11:
        v = ConcatCols(g, SliceCols(g, a, 3, 5), SliceCols(g, b, 0, 3));
        break;
      case 12:
        v = AddPositions(g, a, param({kRandomLength, kWidth}), offsets);
        break;
      default:
        v = g.Add1(kAttention, {a, b, pick(), offsets, offsets}, AttentionAttrs{2, 0.5});
        break;
    }
    // Sums of sums grow; what follows should not lose its digits to one large term.
    if (below(4) == 0) v = g.Add1(kTanh, {v});
    if (below(3) == 0) g.SetName(v, fmt::format("blocks.{}.v{}", k / 4, k));
    pool.push_back(v);
  }
  g.SetOutput("first", pool.back());
  g.SetOutput("second", pool[pool.size() - 2]);
  if (updates) {
    const ValueId sums = g.AddState("acc.sums", {kWidth});
    g.AddUpdate(sums, Add(g, sums, SumRows(g, pool.back())));
    g.phase = Phase::kUpdate;
    const ValueId weight = g.AddParam("weight", {kWidth}, true);
    const ValueId buffer = g.AddParam("buffer", {kWidth}, false);
    const ValueId hyper = g.AddInput("hyper", F32({3}));
    const auto out = g.Add(kSgd, {weight, sums, buffer, hyper}, SgdAttrs{0.5, 0.1});
    g.AddUpdate(weight, out[0]);
    g.AddUpdate(buffer, out[1]);
    g.phase = Phase::kMain;
  }
  g.EraseDead();
  return g;
}

}  // namespace graft::testing
