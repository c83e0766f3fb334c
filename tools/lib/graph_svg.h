// A picture of a graph, drawn without another program: boxes in ranks from top to bottom, weights
// written inside the operator that reads them, what trains in orange.
#pragma once
#include "runtime/graph.h"

namespace graft {

// The nodes of `scope` ("blocks.0"), or all of them for "".
std::string ToSvg(const Graph& g, const std::string& scope);

}  // namespace graft
