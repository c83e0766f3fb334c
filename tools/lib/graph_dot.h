// A graph in the language of Graphviz, for other programs to draw.
#pragma once
#include <set>

#include "runtime/graph.h"

namespace graft {

// The nodes of `scope` ("blocks.0"), or all of them for ""; those in `marked`, which a method has
// added, in green. Throws Error if no node is there.
std::string ToDot(const Graph& g, const std::string& scope = "",
                  const std::set<NodeId>& marked = {});

}  // namespace graft
