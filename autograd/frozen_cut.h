// Cutting a graph where training begins: what depends on the examples but on nothing that trains is
// the same in every epoch, so its results can be kept (a linear probe then costs one forward pass).
#pragma once
#include <optional>
#include <span>

#include "runtime/graph.h"

namespace graft {

struct FrozenCut {
  Graph frozen;         // output "features"
  Graph rest;           // input "features" in its place; all outputs of the original
  TensorType features;  // rows are a multiple of the sequences: one block of rows per example
};

// The graph in two at an f32 value whose rows are a multiple of the sequences. REQUIRES: a main
// value of which nothing before it is read behind it, apart from parameters and other inputs.
FrozenCut CutAt(const Graph& g, ValueId cut);

// The values that CutAt takes and that all ways from `example_inputs` to the results go through, in
// order: in a ViT the embedding and what every residual connection gives.
struct CutPoint {
  ValueId value;
  double work = 0;  // share of the graph's flops that comes before it
};
std::vector<CutPoint> CutPoints(const Graph& g, std::span<const std::string_view> example_inputs);

// Returns nothing if the cut is not one value, or saves less than a tenth of the forward pass.
// `example_inputs` are the inputs that differ by example ("image"; or "ids", "type_ids",
// "positions", "offsets"), and the frozen graph reads no others. Graphs with random nodes below the
// cut are not cut, as their features change from step to step.
std::optional<FrozenCut> CutFrozen(const Graph& g,
                                   std::span<const std::string_view> example_inputs);

}  // namespace graft
