#include "autograd/frozen_cut.h"

#include "runtime/dependence.h"
#include "runtime/lifetimes.h"
#include "runtime/verify.h"

namespace graft {
namespace {

double Flops(const Graph& g) {
  double flops = 0;
  constexpr Counts kExample{1, 64};  // a text has 64 tokens
  for (NodeId id : g.TopoOrder()) flops += CostOf(g, g.node(id), kExample).flops;
  return flops;
}

// A cut must save at least this share of the forward pass: to keep patches, or their embedding, for
// all images would cost much memory and save nothing.
constexpr double kWorthwhile = 0.1;

}  // namespace

std::optional<FrozenCut> CutFrozen(const Graph& g,
                                   std::span<const std::string_view> example_inputs) {
  std::vector<ValueId> examples;
  for (const std::string_view name : example_inputs)
    if (const ValueId v = g.FindLeaf(name); v.valid()) examples.push_back(v);
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
