// Features: what the frozen layers in front of everything that trains make of an example. They are
// the same in every epoch, so they are computed once (linear probing then costs one pass).
#pragma once
#include <functional>
#include <optional>
#include <vector>

#include "train/budget.h"
#include "train/evaluator.h"
#include "train/run_config.h"

namespace graft {

// A training graph in two parts: `frozen` has the output "features" [S, ...], and `rest` takes them
// as an input.
struct FeatureCut {
  Graph frozen, rest;  // frozen: optimised
  size_t size = 0;     // floats of one example
  size_t bytes = 0;    // of all examples
};
// Returns nothing if the graph has no frozen first layers or if its results take more than 1 GiB.
std::optional<FeatureCut> CutFeatures(const Graph& graph, const RunConfig& config,
                                      const BatchSource& data);

struct Features {
  std::vector<float> values;  // [examples, size]
  size_t size = 0;
  double seconds = 0;
  bool interrupted = false;  // stop() said so; the values are not complete
  bool from_cache = false;   // of an earlier run (feature_cache.h)

  const float* of(size_t example) const { return &values[example * size]; }
};
// Runs a session with the output "features" over all of `data`; the values of `features` have room
// for them.
void FillFeatures(Features* features, Session& session, BatchSource& data,
                  const std::function<bool()>& stop = {}, const WorkHook& progress = {},
                  ProcessGroup* group = nullptr);
// Runs the frozen graph over all of `data`, beside `held_bytes`, unless an earlier run has done so.
// The processes of a group divide the examples among them. Throws Error if the run's memory budget
// is too small.
Features ComputeFeatures(const FeatureCut& cut, LoadedModel& model, const RunConfig& config,
                         BatchSource& data, size_t held_bytes, const std::function<bool()>& stop,
                         const WorkHook& progress = {}, ProcessGroup* group = nullptr);

// The examples of `data` with their features in the place of images or texts, for a graph that
// takes "features".
std::unique_ptr<BatchSource> MakeFeatureData(Features features, const BatchSource& data);

// Whether a run that holds the features stays within its budget, both in the pass that computes
// them and in the steps. `step` is the request of the steps; its held_bytes leave out the features
// and what ComputeFeatures holds.
BudgetFit FeaturesFit(const FeatureCut& cut, LoadedModel& model, const RunConfig& config,
                      const BatchSource& data, const BudgetRequest& step);

}  // namespace graft
