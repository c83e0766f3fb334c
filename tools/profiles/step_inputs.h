// The inputs of a profiled step: how many sequences it has, and how they are cut into
// micro-batches.
#pragma once
#include <algorithm>
#include <vector>

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
    std::vector<Counts> parts;
    for (int64_t done = 0; done < batch; done += micro_batch)
      parts.push_back(Of(std::min(micro_batch, batch - done)));
    return parts;
  }
  // How many times the work at capacity, for which costs are counted, a step does.
  double Share(const Counts& capacity) const {
    return length ? static_cast<double>(batch * length) / static_cast<double>(capacity.tokens)
                  : static_cast<double>(batch) / static_cast<double>(capacity.sequences);
  }
  // Fills the inputs once for all micro-batches, as a smaller one reads their beginning.
  void Fill(Session& session) const {
    for (int worker = 0; worker < session.options().workers; ++worker)
      FillWithNoise(session, length, model, worker);
  }
};

}  // namespace graft
