// What a method did to a graph, short enough to read: equal changes in several blocks are shown
// once.
#pragma once
#include "runtime/graph.h"

namespace graft {

// DiffText with the changes of the first of all equally changed blocks, followed by
// "... the same in blocks 1 to 11". Empty if nothing changed.
std::string FoldedDiff(const Graph& before, const Graph& after);

// {0, 1, 2, 5} -> "0 to 2, 5".
std::string Ranges(const std::vector<int64_t>& sorted);

}  // namespace graft
