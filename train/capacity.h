// How many sequences a session handles at once.
#pragma once
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

}  // namespace graft
