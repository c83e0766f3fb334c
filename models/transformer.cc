#include "models/transformer.h"

#include <algorithm>
#include <cmath>

#include "ops/ops.h"
#include "runtime/rng.h"
#include "runtime/threads.h"

namespace graft {

const std::vector<std::string>& Activations() {
  static const std::vector<std::string> kNames{"erf", "tanh", "relu"};
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

ValueId Dense(Graph& g, ValueId x, std::string_view name, int64_t out) {
  Scope scope(g, name);
  const ValueId weight = g.AddParam(Full(g, "weight"), {out, Columns(g, x)});
  return Linear(g, x, weight, g.AddParam(Full(g, "bias"), {out}));
}

ValueId Norm(Graph& g, ValueId x, std::string_view name, double eps) {
  Scope scope(g, name);
  const ValueId gain = g.AddParam(Full(g, "weight"), {Columns(g, x)});
  return LayerNorm(g, x, gain, g.AddParam(Full(g, "bias"), {Columns(g, x)}), eps);
}

ValueId Activate(Graph& g, ValueId x, const std::string& activation) {
  Scope scope(g, "act");
  return g.Add1(activation == "erf" ? kGelu : activation == "tanh" ? kGeluTanh : kRelu, {x});
}

ValueId Edge(Graph& g, std::string_view name, ValueId v) {
  g.SetName(v, Full(g, name));
  return v;
}

namespace {

ValueId SelfAttention(Graph& g, ValueId a, ValueId offsets, const BlockShape& s) {
  ValueId context, o;
  {
    Scope scope(g, "attn");
    const ValueId q = Dense(g, a, "q", s.width), k = Dense(g, a, "k", s.width),
                  v = Dense(g, a, "v", s.width);
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
    h = Dense(g, m, "fc1", s.mlp_width);
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
  const ValueId o = SelfAttention(g, a, offsets, s);
  const ValueId x1 = Edge(g, "x1", Add(g, x, on_branch(o, "o")));
  const ValueId m = Edge(g, "m", Norm(g, x1, "norm2", s.eps));
  const ValueId u = Mlp(g, m, s);
  return Edge(g, "y", Add(g, x1, on_branch(u, "u")));
}

ValueId PostNormBlock(Graph& g, ValueId h0, ValueId offsets, const BlockShape& s,
                      const OnBranch& on_branch) {
  const ValueId o = SelfAttention(g, h0, offsets, s);
  const ValueId h1 = Edge(g, "h1", Norm(g, Add(g, h0, on_branch(o, "o")), "norm1", s.eps));
  const ValueId u = Mlp(g, h1, s);
  return Edge(g, "h2", Norm(g, Add(g, h1, on_branch(u, "u")), "norm2", s.eps));
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
  ParallelFor(static_cast<int64_t>(missing.size()), [&](int64_t i) {
    const auto& [name, values, vector] = missing[static_cast<size_t>(i)];
    if (name.ends_with("bias")) return;
    if (vector)
      std::ranges::fill(values, 1.0f);  // gains
    else
      FillTruncNormal(values, {MakeKey(seed, Purpose::kInit, name)}, 0, 0.02, -2, 2);
  });
  params.Freeze();
}

}  // namespace graft
