// Features: what the frozen layers in front of everything that trains make of an example. They are
// the same in every epoch, so they are computed once (linear probing then costs one pass).
#pragma once
#include <functional>
#include <optional>
#include <vector>

#include "tools/lib/run_config.h"
#include "tools/lib/task.h"

namespace graft {

struct Features {
  std::vector<float> values;  // [examples, size]
  size_t size = 0;            // floats of one example
  double seconds = 0;
  bool interrupted = false;  // stop() said so; the values are not complete

  const float* of(size_t example) const { return &values[example * size]; }
};

// Cuts the frozen prefix off `graph`, which then takes an input "features" [S, ...], and runs it
// over all of `data`. Nothing, and the graph as it was, if there is no such prefix or if its
// results take more than 1 GiB. Throws Error if the run's memory budget is too small.
std::optional<Features> ComputeFeatures(Graph& graph, LoadedModel& model, const RunConfig& config,
                                        TaskData& data, const std::function<bool()>& stop);

}  // namespace graft
