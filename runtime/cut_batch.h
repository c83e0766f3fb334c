// How a batch is cut into micro-batches.
#pragma once
#include <functional>
#include <vector>

#include "runtime/tensor_type.h"

namespace graft {

// Cuts a batch of `n` sequences in order into micro-batches within the capacity, where tokens(i) is
// the length of a text (null for images): one, or an even number of about the same size, the larger
// ones first, so that two threads end together; where that does not fit, as few as do. A pure
// function of its arguments. REQUIRES: every sequence is within the capacity.
std::vector<Counts> CutBatch(int64_t n, const Counts& capacity,
                             const std::function<int64_t(int64_t i)>& tokens);

}  // namespace graft
