#include "autograd/frozen_cut.h"

#include <algorithm>

#include "runtime/lifetimes.h"
#include "runtime/verify.h"

namespace graft {
namespace {

// By value: depends on an example input; and on nothing trainable, random or fed otherwise.
struct Dependence {
  std::vector<bool> example, fixed;
};

Dependence Analyse(const Graph& g, std::span<const std::string_view> example_inputs) {
  Dependence d{std::vector<bool>(g.num_values()), std::vector<bool>(g.num_values())};
  for (ValueId v : g.Leaves(Role::kParam)) d.fixed[v.i] = !g.value(v).trainable;
  for (const std::string_view name : example_inputs)
    if (const ValueId v = g.FindLeaf(name); v.valid()) d.fixed[v.i] = d.example[v.i] = true;
  for (NodeId id : g.TopoOrder()) {
    const Node& n = g.node(id);
    const bool fixed = !n.op->random && std::all_of(n.in.begin(), n.in.end(),
                                                    [&](ValueId v) { return d.fixed[v.i]; });
    const bool depends =
        std::any_of(n.in.begin(), n.in.end(), [&](ValueId v) { return d.example[v.i]; });
    for (ValueId v : n.out) d.fixed[v.i] = fixed, d.example[v.i] = depends;
  }
  return d;
}

double Flops(const Graph& g) {
  double flops = 0;
  constexpr Counts kExample{1, 64};  // tokens: of a text
  for (NodeId id : g.TopoOrder()) flops += CostOf(g, g.node(id), kExample).flops;
  return flops;
}

// Keeping patches, or their embedding, for all images would cost much memory and save nothing.
constexpr double kWorthwhile = 0.1;

}  // namespace

std::optional<FrozenCut> CutFrozen(const Graph& g,
                                   std::span<const std::string_view> example_inputs) {
  const Dependence d = Analyse(g, example_inputs);
  // The frontier: fixed values of the example that something not fixed reads.
  std::vector<ValueId> frontier;
  for (uint32_t i = 0; i < g.num_values(); ++i) {
    const ValueId v{i};
    if (!g.IsAlive(v) || !d.fixed[i] || !d.example[i]) continue;
    const auto& users = g.users(v);
    const bool read = g.IsOutput(v) || std::any_of(users.begin(), users.end(), [&](NodeId user) {
                        return !d.fixed[g.node(user).out[0].i];
                      });
    if (read) frontier.push_back(v);
  }
  if (frontier.size() != 1 || !g.value(frontier[0]).producer.valid()) return {};
  const ValueId cut = frontier[0];
  const TensorType type = g.type(cut);
  const Dim rows = type.shape.empty() ? Dim() : type.shape[0];
  if (type.dtype != DType::kF32 || rows.constant || rows.tokens || rows.sequences < 1) return {};

  FrozenCut result{g, g, type};
  result.frozen.ClearOutputs();
  result.frozen.ClearUpdates();
  result.frozen.SetOutput("features", cut);
  result.frozen.EraseDead();
  const ValueId features = result.rest.AddInput("features", type);
  result.rest.ReplaceUses(cut, features);
  result.rest.EraseDead();
  result.frozen.EraseUnusedInputs();
  result.rest.EraseUnusedInputs();
  if (Flops(result.frozen) < kWorthwhile * Flops(g)) return {};
  Verify(result.frozen);
  Verify(result.rest);
  return result;
}

}  // namespace graft
