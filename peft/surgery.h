// Larger cuts into the graph: a part of it built once more over other values, further keys of an
// attention, and tokens that join every sequence.
#pragma once
#include <functional>
#include <map>

#include "peft/method.h"
#include "peft/sites.h"

namespace graft {

// What `v` would be if some values were others: the nodes between them are built once more, with
// the types that follow. With kRows they run over the same rows or more of them, and names of edges
// move along, as the copies take the place of what they copy. With kParameters they run over rows
// that no sequence has, such as those of a prompt, and dropout is left out. Throws Error for kRows
// if random nodes lie between, as their rows are no longer those that they were made for.
enum class CloneAs { kRows, kParameters };
ValueId CloneWith(Graph& g, ValueId v, const std::map<ValueId, ValueId>& others, CloneAs as);

// Replaces attention(q, k, v) by attention(q, [keys; k], [values; v]), with keys and values [P,D]
// for every sequence, in front of those that it has already.
void AddKeys(Graph& g, NodeId attention, ValueId keys, ValueId values);

// Puts what `made` returns for the logits [S,K] in their place, in the scope of what makes them.
void ReplaceLogits(Graph& g, const std::function<ValueId(ValueId logits)>& made);

// x under the dropout of branch `stream`; the mask is a function of sequence, row and stream.
ValueId DropBranch(const MethodArgs& a, ValueId x, const std::string& stream, double p);

// The offsets of sequences that have grown by `count` rows.
ValueId LongerOffsets(Graph& g, ValueId offsets, int64_t count);

// x [R,D] -> [R + P S, D]: puts tokens [P,D] before row `position` of every sequence. Where p > 0,
// each sequence has a dropout mask of its own for them.
ValueId InsertDropped(const MethodArgs& a, ValueId x, ValueId tokens, ValueId offsets,
                      int64_t position, const std::string& stream, double p);

}  // namespace graft
