#include "autograd/frozen_cut.h"

#include <algorithm>

#include "runtime/dependence.h"
#include "runtime/lifetimes.h"
#include "runtime/verify.h"

namespace graft {
namespace {

double Flops(const Graph& g, NodeId id) {
  constexpr Counts kExample{1, 64};  // a text has 64 tokens
  return CostOf(g, g.node(id), kExample).flops;
}

double Flops(const Graph& g) {
  double flops = 0;
  for (NodeId id : g.TopoOrder()) flops += Flops(g, id);
  return flops;
}

std::vector<ValueId> Leaves(const Graph& g, std::span<const std::string_view> names) {
  std::vector<ValueId> leaves;
  for (const std::string_view name : names)
    if (const ValueId v = g.FindLeaf(name); v.valid()) leaves.push_back(v);
  return leaves;
}

bool HasRowsOfSequences(const TensorType& type) {
  const Dim rows = type.shape.empty() ? Dim() : type.shape[0];
  return type.dtype == DType::kF32 && !rows.constant && !rows.tokens && rows.sequences >= 1;
}

// A cut must save at least this share of the forward pass: to keep patches, or their embedding, for
// all images would cost much memory and save nothing.
constexpr double kWorthwhile = 0.1;

}  // namespace

FrozenCut CutAt(const Graph& g, ValueId cut) {
  FrozenCut result{g, g, g.type(cut)};
  result.frozen.ClearOutputs();
  result.frozen.ClearUpdates();
  result.frozen.SetOutput("features", cut);
  result.frozen.EraseDead();
  result.frozen.EraseUnusedInputs();
  const ValueId features = result.rest.AddInput("features", g.type(cut));
  result.rest.ReplaceUses(cut, features);
  result.rest.EraseDead();
  result.rest.EraseUnusedInputs();
  Verify(result.frozen);
  Verify(result.rest);
  return result;
}

std::vector<CutPoint> CutPoints(const Graph& g, std::span<const std::string_view> example_inputs) {
  const std::vector<ValueId> examples = Leaves(g, example_inputs);
  const std::vector<bool> of_example = DependsOnAny(g, examples);
  const auto uses = [&](ValueId v) { return g.users(v).size() + (g.IsOutput(v) ? 1 : 0); };
  size_t open = 0;  // uses of what has been made of the examples so far, that are still to come
  for (const ValueId v : examples) open += uses(v);
  std::vector<CutPoint> points;
  double flops = 0;
  for (const NodeId id : g.TopoOrder()) {
    const Node& n = g.node(id);
    if (n.phase != Phase::kMain) break;
    flops += Flops(g, id);
    for (const ValueId v : n.in) open -= of_example[v.i];
    for (const ValueId v : n.out) open += of_example[v.i] ? uses(v) : 0;
    const ValueId v = n.out[0];
    if (of_example[v.i] && open > 0 && open == uses(v) && HasRowsOfSequences(g.type(v)))
      points.push_back({v, flops});
  }
  for (CutPoint& point : points) point.work /= std::max(flops, 1.0);
  return points;
}

std::optional<FrozenCut> CutFrozen(const Graph& g,
                                   std::span<const std::string_view> example_inputs) {
  const std::vector<ValueId> examples = Leaves(g, example_inputs);
  std::vector<ValueId> seeds = examples;
  for (ValueId v : g.Leaves(Role::kParam))
    if (!g.value(v).trainable) seeds.push_back(v);
  // Values that depend on the examples, and on nothing that is trainable, random or fed otherwise.
  const std::vector<bool> fixed =
      DependsOnlyOn(g, seeds, [](const Node& n) { return n.op->random; });
  const std::vector<bool> of_example = DependsOnAny(g, examples);
  std::vector<ValueId> frontier = NeededOutside(g, fixed);
  std::erase_if(frontier, [&](ValueId v) { return !of_example[v.i]; });
  if (frontier.size() != 1 || !g.value(frontier[0]).producer.valid()) return {};
  if (!HasRowsOfSequences(g.type(frontier[0]))) return {};
  FrozenCut result = CutAt(g, frontier[0]);
  if (Flops(result.frozen) < kWorthwhile * Flops(g)) return {};
  return result;
}

}  // namespace graft
