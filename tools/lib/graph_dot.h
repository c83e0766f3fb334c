// Writes a graph in the language of Graphviz, for other programs to draw.
#pragma once
#include <set>

#include "runtime/graph.h"

namespace graft {

// Draws the nodes of `scope` ("blocks.0"), or all of them for ""; those in `marked`, which a method
// has added, are green. Throws Error if there is no node.
std::string ToDot(const Graph& g, const std::string& scope = "",
                  const std::set<NodeId>& marked = {});

}  // namespace graft
