// Tells from the graph alone which sequence a row belongs to.
// The rows of a batch stand in the order of its sequences (docs/ir.md), so their number says where
// each sequence begins: of a*s rows every sequence has a; of a*s + t rows it has a more than the
// input "offsets" says. Code that adds a random node asks here and passes no offsets of its own.
#pragma once
#include "ops/ops.h"

namespace graft {

class RowSets {
 public:
  // `g` must outlive the object, which may be made before the rest of the graph is built.
  explicit RowSets(Graph& g) : g_(g) {}

  // The offsets [1+S] of the rows of x [R,C]: those that the graph has, or a new node. Throws Error
  // for rows that belong to no sequence, such as those of a parameter.
  ValueId OffsetsOf(ValueId x);

  // Adds dropout of x, and the input "rng" if the graph does not have it.
  ValueId Drop(ValueId x, DropoutAttrs attrs);

 private:
  struct Known {
    int64_t length = 0;
    bool tokens = false;
    ValueId offsets;
  };
  void Learn();
  ValueId TokenOffsets(const Shape& rows);

  Graph& g_;
  std::vector<Known> known_;
  uint32_t seen_ = 0;  // nodes that Learn has looked at
  ValueId token_offsets_, rng_;
};

}  // namespace graft
