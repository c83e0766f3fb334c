// How many sequences a session handles at once.
#pragma once
#include <functional>

#include "adapters/method_graph.h"
#include "models/model.h"
#include "runtime/session.h"

namespace graft {

// The number of images that one Run handles, chosen as ChooseCapacity does.
int64_t ChooseMicroBatch(const VitConfig& config, int64_t batch);
// The largest micro-batch that one Run handles. A pure function of the model and the batch: the
// order of sums, and so the bits of the results, depend on it. `longest`: tokens (0 for images);
// `wanted`: sequences, 0 = chosen.
Counts ChooseCapacity(const ModelConfig& model, int64_t longest, int64_t batch, int64_t wanted = 0);
// The same of a step that trains `graph`, which micro-batches four times as large serve better
// where most parameters train in low precision.
Counts ChooseTrainingCapacity(const ModelConfig& model, const Graph& graph,
                              const PassOptions& passes, int64_t longest, int64_t batch,
                              int64_t wanted = 0);
// About half of `capacity`; the same if it is the smallest.
Counts SmallerCapacity(const Counts& capacity, int64_t longest);

// Cuts a batch of `n` sequences in order into micro-batches within the capacity, where tokens(i) is
// the length of a text (null for images): one, or an even number of about the same size, the larger
// ones first, so that two threads end together; where that does not fit, as few as do. A pure
// function of its arguments. REQUIRES: every sequence is within the capacity.
std::vector<Counts> CutBatch(int64_t n, const Counts& capacity,
                             const std::function<int64_t(int64_t i)>& tokens);

}  // namespace graft
