// Shows what a method did to a graph, short enough to read: changes that are equal in several
// blocks are shown once.
#pragma once
#include <set>

#include "runtime/graph.h"

namespace graft {

// DiffText (with DiffOf::kOperations) in which equally changed blocks are shown by the first of
// them, followed by "... the same in blocks 1 to 11". Empty if nothing changed.
std::string FoldedDiff(const Graph& before, const Graph& after);

// What changed in one block and outside of all blocks, without the head; "- " and "+ " are as
// above. Parameters are listed only if no node changed, and once. There are at most `most_lines`
// lines, the last of which then counts the others. Empty if nothing changed.
std::string BlockDiff(const Graph& before, const Graph& after, int64_t block, size_t most_lines);

// The nodes of `after`, which was made from `before`, that have no counterpart in `before`: no node
// with the same operator, attributes, scope and parameters that it reads.
std::set<NodeId> AddedNodes(const Graph& before, const Graph& after);

// Writes {0, 1, 2, 5} as "0 to 2, 5".
std::string Ranges(const std::vector<int64_t>& sorted);

}  // namespace graft
