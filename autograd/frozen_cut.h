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

// Returns nothing if the cut is not one value, or saves less than a tenth of the forward pass.
// `example_inputs` are the inputs that differ by example ("image"; or "ids", "type_ids",
// "positions", "offsets"), and the frozen graph reads no others. Graphs with random nodes below the
// cut are not cut, as their features change from step to step.
std::optional<FrozenCut> CutFrozen(const Graph& g,
                                   std::span<const std::string_view> example_inputs);

}  // namespace graft
