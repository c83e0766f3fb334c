#include "tools/profiles/step_plan.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "adapters/method_graph.h"
#include "runtime/threads.h"
#include "tools/lib/noise_inputs.h"
#include "tools/lib/progress_meter.h"
#include "tools/lib/report.h"
#include "train/budget.h"
#include "train/capacity.h"
#include "train/evaluator.h"
#include "train/features.h"
#include "train/target_scale.h"

namespace graft {
namespace {

// Sums the nodes that run for every batch.
double SecondsOf(const Session& session, Phase phase, const MachinePace& pace) {
  double seconds = 0;
  for (const StepInfo& info : session.steps())
    if (info.phase == phase && !info.once) seconds += pace.Seconds(info);
  return seconds;
}

// Emulated ones, too.
bool IsLow(const StepInfo& step) {
  return step.impl.find(":bf16") != step.impl.npos || step.impl.find(":int8") != step.impl.npos;
}

// At the peak of the numbers that the kernel multiplies, or of the smallest memory that holds all
// that a call reads and writes.
double SecondsAtPeak(const StepInfo& step, const MachineFacts& machine) {
  return std::max(step.cost.flops / PeakOf(machine.peak, step.impl) * 1e-9,
                  step.cost.bytes / LevelFor(machine, step.cost.bytes).bytes_per_second);
}

SessionOptions PlanOnly(SessionOptions options) {
  options.plan_only = true;
  return options;
}

// Refuses a method that cannot be trained step by step.
void CheckTrains(const Method& method) {
  if (const MethodTerm* term = SearchedTerm(method))
    Fail("'{}' is searched for without gradients; its 'budget' is its number of forward passes",
         term->name);
}

// Scales targets as training does; the numbers themselves cost nothing.
void ScaleTargets(const PlannedTraining& t, Graph* graph, ParamStore* params) {
  if (t.config.task != kRegression || !HeadTakesScale(*graph)) return;
  const int64_t columns = Classes(t.model.config);
  params->Set(kTargetMean, {columns}, std::vector<float>(static_cast<size_t>(columns)));
  params->Set(kTargetDeviation, {columns}, std::vector<float>(static_cast<size_t>(columns), 1.0f));
  StandardiseTargets(graph);
}

void PlanEpoch(const PlannedTraining& t, const MachinePace& pace, Graph* graph, ParamStore& params,
               StepPlan* plan) {
  std::optional<FeatureCut> cut;
  if (t.data && t.config.augment.empty()) cut = CutFeatures(*graph, t.config, *t.data);
  if (!cut) return;
  const Counts capacity = ChooseCapacity(t.model.config, t.longest(), t.config.batch_size);
  const Counts typical = t.Typical(capacity);
  const Session frozen(cut->frozen, params, PlanOnly({.capacity = typical}));
  plan->features_seconds = SecondsOf(frozen, Phase::kMain, pace) * t.RunsOfEpoch(typical);
  plan->needed_bytes += cut->bytes;
  plan->products = DtypeOfProducts(cut->frozen);
  *graph = std::move(cut->rest);
}

}  // namespace

int64_t PlannedTraining::steps_per_epoch() const {
  const int64_t n = data ? static_cast<int64_t>(data->size()) : 0;
  return (n + config.batch_size - 1) / config.batch_size;
}

double PlannedTraining::Tokens() const {
  double tokens = 0;
  for (size_t i = 0; i < data->size(); ++i) tokens += static_cast<double>(data->length(i));
  return tokens;
}

Counts PlannedTraining::Typical(const Counts& capacity) const {
  if (capacity.tokens == 0) return capacity;
  const double mean =
      data ? Tokens() / static_cast<double>(data->size()) : static_cast<double>(length);
  const auto most = static_cast<int64_t>(static_cast<double>(capacity.tokens) / mean);
  const int64_t sequences = std::clamp<int64_t>(most, 1, capacity.sequences);
  return {sequences, std::llround(mean * static_cast<double>(sequences))};
}

double PlannedTraining::RunsOfEpoch(const Counts& typical) const {
  if (!data) return 0;
  return typical.tokens == 0
             ? static_cast<double>(data->size()) / static_cast<double>(typical.sequences)
             : Tokens() / static_cast<double>(typical.tokens);
}

double PlannedTraining::RunsOfBatch(const Counts& typical) const {
  if (data) return RunsOfEpoch(typical) / static_cast<double>(steps_per_epoch());
  return typical.tokens
             ? static_cast<double>(config.batch_size * length) / static_cast<double>(typical.tokens)
             : static_cast<double>(config.batch_size) / static_cast<double>(typical.sequences);
}

double MachinePace::Seconds(const StepInfo& step) const {
  return SecondsAtPeak(step, machine) / (IsLow(step) ? low_efficiency : efficiency);
}

namespace {

// A forward pass: what it took, and what its nodes would at their peaks.
struct Forward {
  double seconds = 0, low_at_peak = 0, rest_at_peak = 0;
};

Forward RunForward(PlannedTraining& t, const MachineFacts& machine, const PassOptions& passes) {
  using Clock = std::chrono::steady_clock;
  constexpr double kSeconds = 0.5;
  constexpr int kLeastRuns = 3;
  Graph g = BuildModel(t.model.config);
  g.EraseUnusedInputs();
  InferencePasses(passes).Run(g);
  Counts counts = t.Typical(ChooseCapacity(t.model.config, t.longest(), t.config.batch_size));
  counts.tokens -= counts.tokens % counts.sequences;  // equally long texts
  // A step runs as in training: a micro-batch on each thread, and several for each of them.
  constexpr int kOfEach = 4;
  Session session(g, t.model.params, {.capacity = counts, .workers = Threads()});
  for (int worker = 0; worker < Threads(); ++worker)
    FillWithNoise(session, counts.tokens / counts.sequences, t.model.config, worker);
  const std::vector<Counts> parts(static_cast<size_t>(kOfEach * Threads()), counts);
  const auto run = [&] {
    ForEachPart(session, parts,
                [&](size_t i, int64_t, int worker) { session.Run(parts[i], worker); });
  };
  run();  // touches all memory
  double best = INFINITY, total = 0;
  for (int runs = 0; runs < kLeastRuns || total < kSeconds; ++runs) {
    const Clock::time_point start = Clock::now();
    run();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::min(best, seconds), total += seconds;
  }
  Forward forward{.seconds = best / static_cast<double>(parts.size())};
  for (const StepInfo& info : session.steps())
    if (info.phase == Phase::kMain && !info.once)
      (IsLow(info) ? forward.low_at_peak : forward.rest_at_peak) += SecondsAtPeak(info, machine);
  return forward;
}

}  // namespace

MachinePace MeasurePace(PlannedTraining& t, const MachineFacts& machine) {
  MachinePace pace{.machine = machine};
  PassOptions passes = PassesOf(t.config);
  const PassOptions own = passes;
  passes.precision = {};
  const Forward f32 = RunForward(t, machine, passes);
  pace.efficiency = pace.low_efficiency = f32.rest_at_peak / f32.seconds;
  if (own.precision.cell == CellType::kF32) return pace;
  const Forward low = RunForward(t, machine, own);
  pace.any_low = low.low_at_peak > 0;
  // What is left of the time for the products. The two passes ran at different moments, so it says
  // something only of products that are a large part of the work, and is kept within reason.
  constexpr double kLeastPart = 0.1;
  const double products = low.seconds - low.rest_at_peak / pace.efficiency;
  if (low.low_at_peak > kLeastPart * (low.low_at_peak + low.rest_at_peak))
    pace.low_efficiency = low.low_at_peak / std::max(products, 0.25 * low.seconds);
  return pace;
}

StepPlan PlanStep(const std::string& method, PlannedTraining& t, const MachinePace& pace) {
  StepPlan plan{.method = method, .problem = ""};
  try {
    const Method terms = ParseMethod(method);
    CheckTrains(terms);
    ParamStore params = t.model.params;
    Graph graph = MethodGraph(t.model.config, {.loss = true}, terms, params,
                              static_cast<uint64_t>(t.config.seed));
    plan.trainable = TrainableCount(graph);
    ScaleTargets(t, &graph, &params);
    PlanEpoch(t, pace, &graph, params, &plan);
    RunConfig config = t.config;
    config.method = method;
    const OptimizerConfig optimizer = OptimizerOf(config);
    const Counts capacity = ChooseTrainingCapacity(t.model.config, graph, PassesOf(t.config),
                                                   t.longest(), t.config.batch_size);
    const Graph step = TrainStep::BuildGraph(std::move(graph), params, optimizer,
                                             TrainingPasses(PassesOf(t.config)));
    const Session session(step, params, PlanOnly(TrainStep::Options(step, capacity, {})));
    const Counts usual = t.Typical(capacity);
    const Session typical(step, params, PlanOnly(TrainStep::Options(step, usual, {})));
    if (plan.products.empty() || plan.products == "f32") plan.products = DtypeOfProducts(step);
    const double runs = t.RunsOfBatch(usual);
    plan.micro_batch = usual.sequences;
    plan.flops = typical.cost(Phase::kMain).flops * runs + typical.cost(Phase::kUpdate).flops;
    plan.planned_bytes = session.planned_bytes();
    plan.needed_bytes += plan.planned_bytes + params.bytes().owned;
    plan.step_seconds =
        SecondsOf(typical, Phase::kMain, pace) * runs + SecondsOf(typical, Phase::kUpdate, pace);
    plan.epoch_seconds = plan.step_seconds * static_cast<double>(t.steps_per_epoch());
  } catch (const Error& e) {
    plan = {.method = method, .problem = e.what()};
  }
  return plan;
}

std::string PlanTable(const std::vector<StepPlan>& plans, bool epochs) {
  TextTable table({1, 2, 3, 4, 5, 6});
  std::vector<std::string> head{"method", "trainable", "GFLOP a step", "planned", "s a step"};
  if (epochs) head.insert(head.end(), {"an epoch", "once"});
  table.Add(head);
  std::string problems;
  for (const StepPlan& p : plans) {
    if (!p.problem.empty()) {
      problems += fmt::format("\n  {}: {}", p.method, p.problem);
      continue;
    }
    std::vector<std::string> row{
        p.method, Grouped(p.trainable), fmt::format("{:.1f}", p.flops * 1e-9),
        Megabytes(p.planned_bytes),
        p.step_seconds < 0.005 ? "<0.01" : fmt::format("{:.2f}", p.step_seconds)};
    if (epochs) {
      row.push_back(DurationText(p.epoch_seconds));
      row.push_back(p.features_seconds ? DurationText(*p.features_seconds) : "");
    }
    table.Add(std::move(row));
  }
  return table.Lines("  ") + (problems.empty() ? "" : "\nwithout a plan" + problems);
}

nlohmann::json PlansJson(const std::vector<StepPlan>& plans, bool epochs) {
  nlohmann::json json = nlohmann::json::array();
  for (const StepPlan& p : plans) {
    nlohmann::json row{{"method", p.method}, {"problem", nullptr}};
    const bool good = p.problem.empty();
    if (!good) row["problem"] = p.problem;
    const auto put = [&](const char* key, bool known, const nlohmann::json& value) {
      row[key] = known ? value : nlohmann::json();
    };
    put("dtype", good, p.products);
    put("trainable_parameters", good, p.trainable), put("flops_per_step", good, p.flops);
    put("micro_batch", good, p.micro_batch), put("planned_bytes", good, p.planned_bytes);
    put("needed_bytes", good, p.needed_bytes), put("step_seconds", good, p.step_seconds);
    put("epoch_seconds", good && epochs, p.epoch_seconds);
    put("features_seconds", p.features_seconds.has_value(), p.features_seconds.value_or(0));
    json.push_back(std::move(row));
  }
  return json;
}

}  // namespace graft
