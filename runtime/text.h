// The text form of a graph, printed and parsed back; also a before/after diff.
//
//   input @image : f32[s,3,16,16]
//   param @head.weight : f32[5,24] trainable
//   %7 = matmul(%6, @head.weight) {ta=0 tb=1} : f32[s,5]  # head
//   output logits = %7
//   update @head.weight = %9
//
// Nodes of the update phase are marked with '!' after the operator's name; several results are
// separated by commas on the left and types by commas on the right. `# scope` ends the line.
#pragma once
#include "runtime/op.h"

namespace graft {

// Values are numbered in printing order, so equal graphs print equally whatever their history.
std::string ToText(const Graph& g);

// The inverse of ToText. `ops` are the operators that it knows (AllOps() of ops/ops.h). Throws
// Error that names the line.
Graph ParseGraph(std::string_view text, std::span<const OpDef* const> ops);

// A line-by-line diff of two text forms that ignores value numbers. Lines begin with "  " where
// both have them, with "- " if only `before` has them and with "+ " if only `after` does; runs of
// more than `context` equal lines are folded into "  ...". With kOperations lines are equal if they
// compute the same: names of intermediates make no difference, nor do dimensions that follow the
// batch, such as those of a block whose sequences have grown.
enum class DiffOf { kEverything, kOperations };
std::string DiffText(const Graph& before, const Graph& after, int context = 1,
                     DiffOf what = DiffOf::kEverything);

}  // namespace graft
