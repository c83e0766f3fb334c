// What a value is made from. Each question is answered for all values by one walk over the graph,
// in vectors by value id.
#pragma once
#include "runtime/graph.h"

namespace graft {

// Whether the value is one of `seeds` or computed from one of them. `order` is TopoOrder, where the
// caller has it.
std::vector<bool> DependsOnAny(const Graph& g, std::span<const ValueId> seeds,
                               std::span<const NodeId> order = {});

// Whether the value is one of `seeds` or computed from nothing else. Results of nodes for which
// `breaks` is true are not. Results of other nodes without inputs are, as these nodes read nothing
// else.
std::vector<bool> DependsOnlyOn(const Graph& g, std::span<const ValueId> seeds,
                                const std::function<bool(const Node&)>& breaks);

// Whether the value is one of `seeds` or one of them is computed from it.
std::vector<bool> NeededForAny(const Graph& g, std::span<const ValueId> seeds);

// Whether the value is a parameter or computed from parameters alone, by main nodes that draw no
// random numbers, so that it stays the same until one of them changes. Results of nodes without
// inputs are left out, because they depend on the size of the batch.
std::vector<bool> DependsOnlyOnParameters(const Graph& g, std::span<const NodeId> order = {});
// Appends the answer for the nodes that were added to the graph since `known` was found. A rewrite
// that puts a value in the place of another with the same answer may lie between.
void ExtendOnlyOnParameters(const Graph& g, std::vector<bool>& known);

// The values of a set that are needed outside of it: those that are read by a node whose results
// are not in the set, outputs, and values of updates.
std::vector<ValueId> NeededOutside(const Graph& g, const std::vector<bool>& set);

}  // namespace graft
