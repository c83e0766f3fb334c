// The inputs of a profiled step: how many sequences it has, and how they are cut into
// micro-batches.
#pragma once
#include <algorithm>
#include <vector>

#include "runtime/cut_batch.h"
#include "tools/lib/noise_inputs.h"
#include "train/capacity.h"

namespace graft {

// Texts have `length` tokens; 0 for images.
struct StepInputs {
  const ModelConfig& model;
  int64_t length, batch;

  Counts Of(int64_t sequences) const { return {sequences, sequences * length}; }
  // The largest micro-batch; chosen as everywhere else if the user leaves it open.
  Counts Capacity(int64_t wanted) const {
    if (wanted) return Of(std::min(wanted, batch));
    return Of(MicroBatch(ChooseCapacity(model, length, batch)));
  }
  // The same of a step that trains a graph.
  Counts Capacity(int64_t wanted, const Graph& graph, const PassOptions& passes) const {
    if (wanted) return Of(std::min(wanted, batch));
    return Of(MicroBatch(ChooseTrainingCapacity(model, graph, passes, length, batch)));
  }
  // How many sequences are within the capacity.
  int64_t MicroBatch(const Counts& capacity) const {
    return length ? std::min(capacity.sequences, capacity.tokens / length) : capacity.sequences;
  }
  std::vector<Counts> Parts(int64_t micro_batch) const {
    if (!length) return CutBatch(batch, Of(micro_batch), {});
    return CutBatch(batch, Of(micro_batch), [this](int64_t) { return length; });
  }
  // Fills the inputs once for all micro-batches, as a smaller one reads their beginning.
  void Fill(Session& session) const {
    for (int worker = 0; worker < session.options().workers; ++worker)
      FillWithNoise(session, length, model, worker);
  }
};

}  // namespace graft
