#include "tools/profiles/measure.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "runtime/cpu.h"
#include "runtime/threads.h"
#include "tools/lib/output.h"
#include "tools/profiles/step_inputs.h"
#include "train/budget.h"
#include "train/evaluator.h"

namespace graft {
namespace {

using Clock = std::chrono::steady_clock;
double MsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}
int64_t Nanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch())
      .count();
}

bool ReadsInputs(const Session& session) {
  return session.HasInput("image") || session.HasInput("ids");
}

constexpr size_t kMostEvents = size_t{1} << 18;  // of a worker

// Times steps; run() does one, in these parts. The first step touches all memory and is not timed.
template <class F>
void TimeSteps(Session& session, const Graph& graph, const Precision& precision, int64_t steps,
               std::span<const Counts> parts, bool events, const F& run, Profile* p) {
  run();
  session.EnableProfile(true);
  NodeTimes times(session, graph, precision, parts);
  const size_t calls = static_cast<size_t>(steps) * (parts.size() + 2) * session.steps().size();
  std::optional<CallLog> log;
  if (events) log.emplace(session.options().workers, std::min(kMostEvents, calls));
  HardwareCounters counters;
  counters.Start();
  for (int64_t i = 0; i < steps; ++i) {
    const int64_t begin = Nanoseconds();
    run();
    p->step_ns.emplace_back(begin, Nanoseconds());
    p->step_ms.push_back(1e-6 * static_cast<double>(p->step_ns.back().second - begin));
    times.AddStep();
  }
  p->counters = counters.Stop();
  p->products = DtypeOfProducts(graph);
  if (log) p->events = log->events(), p->lost_events = log->lost();
  p->workers = RunsBesideEachOther(session, std::ssize(parts)) ? session.options().workers : 1;
  p->nodes = times.Nodes();
  for (const ProfiledNode& n : p->nodes)
    p->cost.flops += n.of_step.flops, p->cost.bytes += n.of_step.bytes;
}

Profile MeasureTraining(const ProfileWork& o, const CommonOptions& common, LoadedModel& model,
                        const StepInputs& inputs, bool events) {
  Profile m;
  const Clock::time_point start = Clock::now();
  const Graph g = MethodGraph(model.config, {.loss = true}, ParseMethod(o.method), model.params, 0);
  CompiledStep compiled =
      CompileWithinBudget(g, model.params, {},
                          {.wanted = inputs.Capacity(o.micro_batch, g, PassesOf(common)),
                           .longest = inputs.length,
                           .budget = common.memory_budget,
                           .passes = PassesOf(common)});
  TrainStep& step = compiled.step;
  m.compile_ms = MsSince(start);
  m.plan = PlanText(compiled);
  m.needed_bytes = compiled.needed_bytes;
  m.recomputed = compiled.recompute.nodes;
  Session& session = step.session();
  m.micro_batch = inputs.MicroBatch(session.options().capacity);
  if (!ReadsInputs(session)) throw Error("profile: nothing of the model depends on its inputs");
  inputs.Fill(session);
  const std::vector<Counts> parts = inputs.Parts(m.micro_batch);
  int64_t done = 0;
  const auto run = [&] {
    step.Run(parts, done++, 1e-4, [](int64_t, int64_t, int) {});  // the inputs are there
  };
  TimeSteps(session, step.graph(), PassesOf(common).precision, o.steps, parts, events, run, &m);
  m.planned_bytes = session.planned_bytes();
  m.trainable = TrainableCount(g);
  return m;
}

Profile MeasureInference(const ProfileWork& o, const CommonOptions& common, LoadedModel& model,
                         const StepInputs& inputs, bool events) {
  Profile m;
  const Clock::time_point start = Clock::now();
  Graph g = BuildModel(model.config);
  g.EraseUnusedInputs();
  InferencePasses(PassesOf(common)).Run(g);
  SessionOptions options = OptionsWithinBudget(g, model.params, inputs.Capacity(o.micro_batch),
                                               inputs.length, common.memory_budget)
                               .options;
  m.micro_batch = inputs.MicroBatch(options.capacity);
  m.plan = fmt::format("micro-batch {}", m.micro_batch);
  const std::vector<Counts> parts = inputs.Parts(m.micro_batch);
  if (std::ssize(parts) < options.workers) options.workers = 1;
  Session session(g, model.params, options);
  m.compile_ms = MsSince(start);
  inputs.Fill(session);
  const auto run = [&] {
    ForEachPart(session, parts,
                [&](size_t i, int64_t, int worker) { session.Run(parts[i], worker); });
  };
  TimeSteps(session, g, PassesOf(common).precision, o.steps, parts, events, run, &m);
  m.planned_bytes = session.planned_bytes();
  m.needed_bytes = m.planned_bytes + model.params.bytes().owned;
  return m;
}

}  // namespace

int64_t TextLength(const ProfileWork& o, const LoadedModel& model) {
  if (!model.is_bert()) {
    if (o.length)
      FailUsage("--length goes with a model that reads texts; {} reads images", model.source);
    return 0;
  }
  constexpr int64_t kUsual = 64;
  const int64_t positions = model.bert().positions;
  if (o.length > positions)
    FailUsage("--length {}: {} has {} positions", o.length, model.source, positions);
  return o.length ? o.length : std::min(kUsual, positions);
}

LoadedModel ProfiledModel(const ProfileWork& o, const CommonOptions& common) {
  if (!o.method.empty()) ParseMethod(o.method);
  CheckIsModel(o.model);
  LoadedModel model = LoadModel(o.model, o.arch, static_cast<uint64_t>(common.seed));
  SayNotices(common, model.notices);
  TextLength(o, model);
  if (!o.method.empty() || !model.params.Has("head.weight")) {
    std::vector<std::string> labels;
    for (int64_t i = 0; i < o.classes; ++i) labels.push_back(std::to_string(i));
    AdaptClasses(model, labels, static_cast<uint64_t>(common.seed));
  }
  return model;
}

Profile MeasureProfile(const ProfileWork& o, const CommonOptions& common, LoadedModel& model,
                       bool events) {
  CheckKeep(BuildModel(model.config), PassesOf(common).precision);
  const StepInputs inputs{model.config, TextLength(o, model), o.batch};
  Profile p = o.method.empty() ? MeasureInference(o, common, model, inputs, events)
                               : MeasureTraining(o, common, model, inputs, events);
  p.peak_bytes = PeakResidentBytes();
  p.architecture = model.architecture();
  p.length = inputs.length;
  return p;
}

}  // namespace graft
