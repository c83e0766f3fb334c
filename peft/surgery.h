// Larger cuts into the graph: a part of it once more over other values, further keys of an
// attention, tokens that join every sequence.
#pragma once
#include <map>

#include "peft/method.h"
#include "peft/sites.h"

namespace graft {

// What `v` would be if some values were others: the nodes between them once more, of whatever types
// follow. kRows: over the same rows or more of them; names of edges move along, as the copies take
// the place of what they copy. kParameters: over rows that no sequence has, such as a prompt's;
// dropout is left out. Throws Error for kRows if random nodes lie between, whose rows are no longer
// those that they were made for.
enum class CloneAs { kRows, kParameters };
ValueId CloneWith(Graph& g, ValueId v, const std::map<ValueId, ValueId>& others, CloneAs as);

// attention(q, k, v)  ->  attention(q, [keys; k], [values; v]) with keys and values [P,D] of every
// sequence, in front of those that it has already. Takes the attention's place.
void AddKeys(Graph& g, NodeId attention, ValueId keys, ValueId values);

// x under dropout of branch `stream`; the mask is a function of sequence, row and stream.
ValueId DropBranch(const MethodArgs& a, ValueId x, const std::string& stream, double p);

// Offsets of sequences that have grown by `count` rows.
ValueId LongerOffsets(Graph& g, ValueId offsets, int64_t count);

// x [R,D] -> [R + P S, D]: tokens [P,D] go before row `position` of every sequence, under dropout
// of its own for each sequence where p > 0.
ValueId InsertDropped(const MethodArgs& a, ValueId x, ValueId tokens, ValueId offsets,
                      int64_t position, const std::string& stream, double p);

}  // namespace graft
