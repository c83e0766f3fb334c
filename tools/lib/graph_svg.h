// A picture of a graph, drawn without another program: boxes in ranks from top to bottom, weights
// written inside the operator that reads them, what trains in orange.
#pragma once
#include <set>

#include "runtime/graph.h"

namespace graft {

// Draws the nodes of `scope` ("blocks.0"), or all of them for ""; those in `marked`, which a method
// has added, have a green border. Throws Error if there is no node.
std::string ToSvg(const Graph& g, const std::string& scope, const std::set<NodeId>& marked = {});

}  // namespace graft
