// Predicts what a training step of a method will cost, without training: its work is counted from
// its graph, and timed by what this machine can do.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tools/profiles/machine.h"
#include "train/batches.h"
#include "train/run_config.h"

namespace graft {

// What is trained, without the method.
struct PlannedTraining {
  RunConfig config;
  LoadedModel model;  // with the head of the task
  // The training examples. If null, a step is planned, but no epoch.
  std::unique_ptr<BatchSource> data;
  int64_t length = 0;  // without data: tokens of a text, 0 for images

  int64_t longest() const { return data ? data->longest() : length; }
  int64_t steps_per_epoch() const;  // 0 without data
  // An average micro-batch within the capacity, for which costs are counted.
  Counts Typical(const Counts& capacity) const;
  // How often it is computed for all examples, and for one batch.
  double RunsOfEpoch(const Counts& typical) const;
  double RunsOfBatch(const Counts& typical) const;

 private:
  double Tokens() const;  // of all texts
};

// The machine, and how much of its peaks a model reaches: the time that operators would take if
// each ran at the peak of its multiply-adds or of its bytes, whichever takes longer, over the time
// that one forward pass took. Products of bf16 and int8 reach another share of their peak than all
// else does of its own.
struct MachinePace {
  MachineFacts machine;
  double efficiency = 1, low_efficiency = 1;
  bool any_low = false;  // whether a product of a forward pass is in a lower precision than f32
  // The seconds of a call of one operator.
  double Seconds(const StepInfo& step) const;
};
// Measures by running the model forward on noise for a moment.
MachinePace MeasurePace(PlannedTraining& training, const MachineFacts& machine);

struct StepPlan {
  std::string method, problem;  // problem: why there is no plan; then the rest is 0
  std::string products = {};    // the precision that they are in
  int64_t trainable = 0, micro_batch = 0;
  double flops = 0;                            // of a step
  size_t planned_bytes = 0, needed_bytes = 0;  // needed: with weights and optimizer state
  double step_seconds = 0, epoch_seconds = 0;
  // Set if frozen layers come first: their results are computed once, and the epochs go without
  // them.
  std::optional<double> features_seconds = {};
};
// Plans without allocating the memory of the step.
StepPlan PlanStep(const std::string& method, PlannedTraining& training, const MachinePace& pace);

std::string PlanTable(const std::vector<StepPlan>& plans, bool epochs);
nlohmann::json PlansJson(const std::vector<StepPlan>& plans, bool epochs);

}  // namespace graft
