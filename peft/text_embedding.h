// The embedding of a text model and the blocks behind it, for methods that add tokens:
//
//   sum = word(ids) + type(types) + position(0, 1, ...);  the first block reads norm(sum)
#pragma once
#include <map>

#include "peft/method.h"
#include "peft/sites.h"

namespace graft {

struct TextEmbedding {
  ValueId words, word_rows;  // the table [V,D], and its rows of the tokens [T,D]
  ValueId types, type_rows;
  ValueId positions;  // the table
  ValueId sum;        // [T,D], before the norm
};
// Throws Error (kUsage), naming `method`, for a model that reads no texts.
TextEmbedding FindTextEmbedding(const Graph& g, std::string_view method);

// The row [D] for type 0.
ValueId FirstType(Graph& g, const TextEmbedding& e);

// The sum of texts that have `rows` [P,D] of words, of type 0, before row `at` of each; all tokens
// have new positions. `longer` are the offsets of these texts.
ValueId LongerSum(Graph& g, const TextEmbedding& e, ValueId rows, ValueId longer, int64_t at);

// The result of the last block over longer sequences that begin with `values`.
ValueId RunLonger(Graph& g, const std::vector<BlockSite>& blocks, std::map<ValueId, ValueId> values,
                  ValueId longer);
// Lets all readers of `last` read x without the `count` rows from row `at` of each sequence.
void GiveRest(Graph& g, ValueId last, ValueId x, ValueId longer, int64_t at, int64_t count);

}  // namespace graft
