#include "models/transformer.h"

#include <algorithm>
#include <cmath>

#include "ops/ops.h"
#include "runtime/rng.h"
#include "runtime/threads.h"

namespace graft {

const std::vector<std::string>& Activations() {
  static const std::vector<std::string> kNames{"erf", "tanh", "relu", "quick", "silu", "swiglu"};
  return kNames;
}

void CheckActivation(const std::string& activation, const std::string& where) {
  if (std::ranges::find(Activations(), activation) == Activations().end())
    Fail("{}: activation '{}'; known: {}", where, activation, fmt::join(Activations(), ", "));
}

namespace {

std::string Full(const Graph& g, std::string_view name) {
  return g.scope.empty() ? std::string(name) : fmt::format("{}.{}", g.scope, name);
}

int64_t Columns(const Graph& g, ValueId x) { return g.shape(x)[1].constant; }

}  // namespace

ValueId Dense(Graph& g, ValueId x, std::string_view name, int64_t out, bool bias) {
  Scope scope(g, name);
  const ValueId weight = g.AddParam(Full(g, "weight"), {out, Columns(g, x)});
  return Linear(g, x, weight, bias ? g.AddParam(Full(g, "bias"), {out}) : ValueId{});
}

ValueId Norm(Graph& g, ValueId x, std::string_view name, double eps) {
  Scope scope(g, name);
  const ValueId gain = g.AddParam(Full(g, "weight"), {Columns(g, x)});
  return LayerNorm(g, x, gain, g.AddParam(Full(g, "bias"), {Columns(g, x)}), eps);
}

ValueId Activate(Graph& g, ValueId x, const std::string& activation) {
  Scope scope(g, "act");
  if (activation == "swiglu") {
    const int64_t half = Columns(g, x) / 2;
    return Mul(g, g.Add1(kSilu, {SliceCols(g, x, 0, half)}), SliceCols(g, x, half, half));
  }
  if (activation == "quick") {  // silu(1.702 x) / 1.702
    constexpr double kSlope = 1.702;
    return Scale(g, g.Add1(kSilu, {Scale(g, x, kSlope)}), 1 / kSlope);
  }
  const OpDef& op = activation == "erf"    ? kGelu
                    : activation == "tanh" ? kGeluTanh
                    : activation == "silu" ? kSilu
                                           : kRelu;
  return g.Add1(op, {x});
}

ValueId Edge(Graph& g, std::string_view name, ValueId v) {
  g.SetName(v, Full(g, name));
  return v;
}

namespace {

ValueId NormHeads(Graph& g, ValueId x, std::string_view name, const BlockShape& s) {
  return JoinHeads(g, Norm(g, SplitHeads(g, x, s.heads), name, s.eps), s.heads);
}

// The branch as it joins the residual stream: scaled by column where the model has LayerScale
// (Touvron et al. 2021, arXiv 2103.17239).
ValueId Scaled(Graph& g, ValueId branch, std::string_view name, std::string_view edge,
               const BlockShape& s) {
  if (!s.layer_scale) return branch;
  ValueId scaled;
  {
    Scope scope(g, name);
    scaled = Mul(g, branch, g.AddParam(Full(g, "gamma"), {s.width}));
  }
  return Edge(g, edge, scaled);
}

ValueId SelfAttention(Graph& g, ValueId a, ValueId offsets, const BlockShape& s) {
  ValueId context, o;
  {
    Scope scope(g, "attn");
    ValueId q = Dense(g, a, "q", s.width, s.qkv_bias), k = Dense(g, a, "k", s.width, s.qkv_bias);
    const ValueId v = Dense(g, a, "v", s.width, s.qkv_bias);
    if (s.qk_norm) q = NormHeads(g, q, "q_norm", s), k = NormHeads(g, k, "k_norm", s);
    const double scale = 1 / std::sqrt(static_cast<double>(s.width / s.heads));
    context = g.Add1(kAttention, {q, k, v, offsets, offsets},
                     AttentionAttrs{.heads = s.heads, .scale = scale});
    o = Dense(g, context, "o", s.width);
  }
  Edge(g, "c", context);
  return Edge(g, "o", o);
}

ValueId Mlp(Graph& g, ValueId m, const BlockShape& s) {
  ValueId h, act, u;
  {
    Scope scope(g, "mlp");
    h = Dense(g, m, "fc1", s.mlp_width * (s.activation == "swiglu" ? 2 : 1));
    act = Activate(g, h, s.activation);
    u = Dense(g, act, "fc2", s.width);
  }
  Edge(g, "h", h), Edge(g, "g", act);
  return Edge(g, "u", u);
}

}  // namespace

ValueId PreNormBlock(Graph& g, ValueId x, ValueId offsets, const BlockShape& s,
                     const OnBranch& on_branch) {
  const ValueId a = Edge(g, "a", Norm(g, x, "norm1", s.eps));
  const ValueId o = Scaled(g, SelfAttention(g, a, offsets, s), "ls1", "o_scaled", s);
  const ValueId x1 = Edge(g, "x1", Add(g, x, on_branch(o, "o")));
  const ValueId m = Edge(g, "m", Norm(g, x1, "norm2", s.eps));
  const ValueId u = Scaled(g, Mlp(g, m, s), "ls2", "u_scaled", s);
  return Edge(g, "y", Add(g, x1, on_branch(u, "u")));
}

ValueId PostNormBlock(Graph& g, ValueId h0, ValueId offsets, const BlockShape& s,
                      const OnBranch& on_branch) {
  const ValueId o = SelfAttention(g, h0, offsets, s);
  const ValueId sum1 = Edge(g, "sum1", Add(g, h0, on_branch(o, "o")));
  const ValueId h1 = Edge(g, "h1", Norm(g, sum1, "norm1", s.eps));
  const ValueId u = Mlp(g, h1, s);
  const ValueId sum2 = Edge(g, "sum2", Add(g, h1, on_branch(u, "u")));
  return Edge(g, "h2", Norm(g, sum2, "norm2", s.eps));
}

void InitMissing(const Graph& g, ParamStore& params, uint64_t seed, std::string_view only) {
  struct Missing {
    std::string name;
    std::span<float> values;  // zeros
    bool vector;
  };
  std::vector<Missing> missing;
  for (ValueId v : g.Leaves(Role::kParam)) {
    const std::string& name = g.value(v).name;
    if (!name.starts_with(only) || params.Has(name)) continue;
    const Extents shape = At(g.shape(v), {});
    float* data = params.Allocate(name, shape);
    missing.push_back({name, {data, static_cast<size_t>(shape.size())}, shape.rank == 1});
  }
  ParallelFor(std::ssize(missing), [&](int64_t i) {
    const auto& [name, values, vector] = missing[i];
    if (name.ends_with("bias")) return;
    if (vector)
      std::ranges::fill(values, 1.0f);  // gains
    else
      FillTruncNormal(values, {MakeKey(seed, Purpose::kInit, name)}, 0, 0.02, -2, 2);
  });
  params.Freeze();
}

}  // namespace graft
