// Constant folding: what depends on parameters only is computed once and becomes a parameter.
#pragma once
#include "runtime/params.h"
#include "runtime/rewrite.h"

namespace graft {

// Evaluates, with the ordinary kernels, every node whose inputs are all frozen parameters, and
// stores the results that other nodes read. A result that a rule has named keeps its name (merging
// names the new weight like the weight that it replaces); others are named "folded.N". With
// `which`, only results for which it is true are stored; others stay nodes, as do weights that are
// to stay quantised. REQUIRES: nothing in the graph is trainable any more.
PassReport FoldConstants(Graph& g, ParamStore& params,
                         const std::function<bool(const Graph&, ValueId)>& which = {});

}  // namespace graft
