#include "ops/row_sets.h"

#include <algorithm>

namespace graft {

// Looks at each node once, however often offsets are asked for.
void RowSets::Learn() {
  for (; seen_ < g_.num_nodes(); ++seen_) {
    const Node& n = g_.node({seen_});
    if (n.op == &kOffsets)
      known_.push_back({n.attrs.As<OffsetsAttrs>().length, false, n.out[0]});
    else if (n.op == &kShiftOffsets && g_.value(n.in[0]).name == "offsets")
      known_.push_back({n.attrs.As<ShiftAttrs>().by, true, n.out[0]});
  }
}

ValueId RowSets::TokenOffsets(const Shape& shape) {
  if (!token_offsets_.valid()) token_offsets_ = g_.FindLeaf("offsets");
  if (!token_offsets_.valid())
    Fail("rows {} belong to texts, but the graph has no input 'offsets'", ToString(shape));
  return token_offsets_;
}

ValueId RowSets::OffsetsOf(ValueId x) {
  const Shape& shape = g_.shape(x);
  const Dim rows = shape.empty() ? Dim() : shape[0];
  if (rows.constant != 0 || rows.sequences < 0 || rows.tokens < 0 || rows.tokens > 1 ||
      rows.fixed())
    Fail("rows {} belong to no sequence of the batch", ToString(shape));
  const bool tokens = rows.tokens == 1;
  if (tokens && rows.sequences == 0) return TokenOffsets(shape);
  Learn();
  for (const Known& k : known_)
    if (k.length == rows.sequences && k.tokens == tokens && g_.IsAlive(k.offsets)) return k.offsets;
  return tokens ? ShiftOffsets(g_, TokenOffsets(shape), rows.sequences)
                : Offsets(g_, rows.sequences);
}

ValueId RowSets::Drop(ValueId x, DropoutAttrs attrs) {
  if (!rng_.valid()) rng_ = g_.FindLeaf("rng");
  if (!rng_.valid()) rng_ = g_.AddInput("rng", {DType::kI32, {2}});
  return Dropout(g_, x, OffsetsOf(x), rng_, std::move(attrs));
}

}  // namespace graft
