// What a training step of a method will cost, without training: counted from its graph, and timed
// by what this machine can do.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "ops/peak.h"
#include "train/batches.h"
#include "train/run_config.h"

namespace graft {

// What is trained, but for the method.
struct PlannedTraining {
  RunConfig config;
  LoadedModel model;  // with the head of the task
  // The training examples, or null: then a step is planned, and no epoch.
  std::unique_ptr<BatchSource> data;
  int64_t length = 0;  // without data: tokens of a text, 0 for images

  int64_t longest() const { return data ? data->longest() : length; }
  int64_t steps_per_epoch() const;  // 0 without data
  // A micro-batch as they are on average, within the capacity: costs are counted of it.
  Counts Typical(const Counts& capacity) const;
  // How often it is computed for all examples, or for one batch.
  double RunsOfEpoch(const Counts& typical) const;
  double RunsOfBatch(const Counts& typical) const;

 private:
  double Tokens() const;  // of all texts
};

// The machine, and how much of what it can do a model gets: the time that operators would take if
// each ran at the peak of its multiply-adds or of its bytes, whichever is longer, over the time
// that one forward pass took in the precision of the training.
struct MachinePace {
  MachinePeak peak;
  double efficiency = 1;
  // Of a call of one operator at the peak: that of the numbers which its kernel multiplies.
  double Seconds(const StepInfo& step) const;
};
// Runs the model forward on noise for a moment.
MachinePace MeasurePace(PlannedTraining& training, const MachinePeak& peak);

struct StepPlan {
  std::string method, problem;  // problem: why there is no plan; then the rest is 0
  int64_t trainable = 0, micro_batch = 0;
  double flops = 0;                            // of a step
  size_t planned_bytes = 0, needed_bytes = 0;  // needed: with weights and optimizer state
  double step_seconds = 0, epoch_seconds = 0;
  // Where frozen layers come first, their results are computed once, and epochs are without them.
  std::optional<double> features_seconds = {};
};
// Allocates no memory of the step.
StepPlan PlanStep(const std::string& method, PlannedTraining& training, const MachinePace& pace);

std::string PlanTable(const std::vector<StepPlan>& plans, bool epochs);
nlohmann::json PlansJson(const std::vector<StepPlan>& plans, bool epochs);

}  // namespace graft
