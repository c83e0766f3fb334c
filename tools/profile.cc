// graft profile: what a step costs, node by node, beside what the machine can do.
#include <algorithm>
#include <chrono>

#include "adapters/open_model.h"
#include "ops/isa.h"
#include "ops/peak.h"
#include "runtime/cpu.h"
#include "runtime/threads.h"
#include "tools/commands.h"
#include "tools/lib/noise_inputs.h"
#include "tools/lib/output.h"
#include "tools/lib/profile_table.h"
#include "train/budget.h"
#include "train/capacity.h"
#include "train/evaluator.h"

namespace graft {
namespace {

using Clock = std::chrono::steady_clock;
double MsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

struct ProfileOptions {
  std::string model, method, arch;
  int64_t batch = 16, micro_batch = 0, length = 0, steps = 5, classes = 10, top = 20;
  bool machine = false;
};

struct Measured {
  std::vector<double> step_ms;
  double compile_ms = 0;
  Cost cost;                                   // of a step
  size_t planned_bytes = 0, needed_bytes = 0;  // needed: with weights and optimizer state
  int64_t micro_batch = 0, trainable = 0, recomputed = 0;
  std::string plan;
  std::vector<ProfiledNode> nodes;
};

// Texts have `length` tokens; 0 for images.
struct StepInputs {
  const ModelConfig& model;
  int64_t length, batch;

  Counts Of(int64_t sequences) const { return {sequences, sequences * length}; }
  // The largest micro-batch, where the user leaves it open as everywhere else.
  Counts Capacity(int64_t wanted) const {
    if (wanted) return Of(std::min(wanted, batch));
    return Of(MicroBatch(ChooseCapacity(model, length, batch)));
  }
  // So many sequences are within the capacity.
  int64_t MicroBatch(const Counts& capacity) const {
    return length ? std::min(capacity.sequences, capacity.tokens / length) : capacity.sequences;
  }
  std::vector<Counts> Parts(int64_t micro_batch) const {
    std::vector<Counts> parts;
    for (int64_t done = 0; done < batch; done += micro_batch)
      parts.push_back(Of(std::min(micro_batch, batch - done)));
    return parts;
  }
  // A step's work is this many times that at capacity, for which costs are counted.
  double Share(const Counts& capacity) const {
    return length ? static_cast<double>(batch * length) / static_cast<double>(capacity.tokens)
                  : static_cast<double>(batch) / static_cast<double>(capacity.sequences);
  }
  // For all micro-batches: a smaller one reads the beginning.
  void Fill(Session& session) const {
    for (int worker = 0; worker < session.options().workers; ++worker)
      FillWithNoise(session, length, model, worker);
  }
};

bool ReadsInputs(const Session& session) {
  return session.HasInput("image") || session.HasInput("ids");
}

// run() is a step. The first one touches all memory and is not timed.
template <class F>
void TimeSteps(Session& session, const Graph& graph, int64_t steps, const F& run, Measured* m) {
  run();
  session.EnableProfile(true);
  NodeTimes times(session, graph);
  for (int64_t i = 0; i < steps; ++i) {
    const Clock::time_point start = Clock::now();
    run();
    m->step_ms.push_back(MsSince(start));
    times.AddStep();
  }
  m->nodes = times.Nodes();
}

Measured MeasureTraining(const ProfileOptions& o, const CommonOptions& common, LoadedModel& model,
                         const StepInputs& inputs) {
  Measured m;
  const Clock::time_point start = Clock::now();
  const Graph g = MethodGraph(model.config, {.loss = true}, ParseMethod(o.method), model.params, 0);
  CompiledStep compiled = CompileWithinBudget(g, model.params, {},
                                              {.wanted = inputs.Capacity(o.micro_batch),
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
  TimeSteps(session, step.graph(), o.steps, run, &m);
  const Cost main = session.cost(Phase::kMain), update = session.cost(Phase::kUpdate);
  const double share = inputs.Share(session.options().capacity);
  m.cost = {main.flops * share + update.flops, main.bytes * share + update.bytes};
  m.planned_bytes = session.planned_bytes();
  m.trainable = TrainableCount(g);
  return m;
}

Measured MeasureInference(const ProfileOptions& o, const CommonOptions& common, LoadedModel& model,
                          const StepInputs& inputs) {
  Measured m;
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
  if (static_cast<int64_t>(parts.size()) < options.workers) options.workers = 1;
  Session session(g, model.params, options);
  m.compile_ms = MsSince(start);
  inputs.Fill(session);
  const auto run = [&] {
    ForEachPart(session, parts,
                [&](size_t i, int64_t, int worker) { session.Run(parts[i], worker); });
  };
  TimeSteps(session, g, o.steps, run, &m);
  const Cost main = session.cost(Phase::kMain);
  const double share = inputs.Share(options.capacity);
  m.cost = {main.flops * share, main.bytes * share};
  m.planned_bytes = session.planned_bytes();
  m.needed_bytes = m.planned_bytes + model.params.bytes().owned;
  return m;
}

void Machine(const CommonOptions& common, const MachinePeak& peak) {
  const CpuInfo& cpu = Cpu();
  Say(common,
      fmt::format(
          "{}\n  {} cores usable, {} threads, SIMD {}; caches L1 {} KiB, L2 {} KiB, L3 {} MiB",
          cpu.model, cpu.physical_cores, Threads(), ActiveIsa(), cpu.l1d_bytes >> 10,
          cpu.l2_bytes >> 10, cpu.l3_bytes >> 20));
  std::string rates = fmt::format("{:.1f} GFLOP/s f32", peak.gflops);
  if (peak.bf16_gflops > 0) rates += fmt::format(", {:.1f} bf16", peak.bf16_gflops);
  if (peak.int8_gflops > 0) rates += fmt::format(", {:.1f} int8", peak.int8_gflops);
  Say(common, fmt::format("  measured: {}, {:.1f} GB/s", rates, peak.bytes_per_second * 1e-9));
}

// Tokens of a text; 0 for a model that reads images.
int64_t TextLength(const ProfileOptions& o, const LoadedModel& model) {
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

void Run(ProfileOptions& o, const CommonOptions& common) {
  ApplyCommonOptions(common);
  if (o.machine) {
    if (!o.model.empty()) FailUsage("--machine measures no model; leave --model out");
    const MachinePeak peak = MeasurePeak(Threads());
    Machine(common, peak);
    return PrintJson(common, {{"peak_gflops", peak.gflops},
                              {"peak_gflops_bf16", peak.bf16_gflops},
                              {"peak_gflops_int8", peak.int8_gflops},
                              {"gb_per_second", peak.bytes_per_second * 1e-9},
                              {"threads", Threads()},
                              {"isa", ActiveIsa()},
                              {"cpu", Cpu().model}});
  }
  if (o.model.empty())
    FailUsage("profile needs --model, e.g. init:vit_base_patch16_224 (or --machine)");
  SayDtype(common);
  if (!o.method.empty()) ParseMethod(o.method);
  CheckIsModel(o.model);
  LoadedModel model = LoadModel(o.model, o.arch, static_cast<uint64_t>(common.seed));
  SayNotices(common, model.notices);
  const StepInputs inputs{model.config, TextLength(o, model), o.batch};
  if (!o.method.empty() || !model.params.Has("head.weight")) {
    std::vector<std::string> labels;
    for (int64_t i = 0; i < o.classes; ++i) labels.push_back(std::to_string(i));
    AdaptClasses(model, labels, static_cast<uint64_t>(common.seed));
  }
  const MachinePeak peak = MeasurePeak(Threads());
  Machine(common, peak);
  Measured m = o.method.empty() ? MeasureInference(o, common, model, inputs)
                                : MeasureTraining(o, common, model, inputs);
  std::sort(m.step_ms.begin(), m.step_ms.end());
  const double median = m.step_ms[m.step_ms.size() / 2], gflops = m.cost.flops / median * 1e-6;
  const double rate = 1e3 * static_cast<double>(o.batch) / median;
  Say(common, fmt::format("{} {} batch {} ({}): {:.1f} ms a step (min {:.1f}), {:.2f} "
                          "{}/s, {:.1f} GFLOP/s = {:.1f} % of the f32 peak",
                          model.architecture(), o.method.empty() ? "inference" : o.method, o.batch,
                          m.plan, median, m.step_ms[0], rate, inputs.length ? "texts" : "images",
                          gflops, 100 * gflops / peak.gflops));
  Say(common,
      fmt::format("compiled in {:.1f} ms; planned {} MiB, peak memory of the process {} MiB",
                  m.compile_ms, m.planned_bytes >> 20, PeakResidentBytes() >> 20));
  Say(common, NodeTable(m.nodes, peak, o.top));
  PrintJson(common, {{"step_ms", median},
                     {"step_ms_min", m.step_ms[0]},
                     {"examples_per_second", rate},
                     {"gflops", gflops},
                     {"share_of_peak", gflops / peak.gflops},
                     {"peak_gflops", peak.gflops},
                     {"peak_gflops_bf16", peak.bf16_gflops},
                     {"peak_gflops_int8", peak.int8_gflops},
                     {"peak_gb_per_second", peak.bytes_per_second * 1e-9},
                     {"planned_bytes", m.planned_bytes},
                     {"needed_bytes", m.needed_bytes},
                     {"peak_memory_bytes", PeakResidentBytes()},
                     {"compile_ms", m.compile_ms},
                     {"threads", Threads()},
                     {"isa", ActiveIsa()},
                     {"micro_batch", m.micro_batch},
                     {"recomputed_nodes", m.recomputed},
                     {"trainable_parameters", m.trainable},
                     {"nodes", NodesJson(m.nodes)}});
}

}  // namespace

void AddProfileCommand(CLI::App& app, CommonOptions& common) {
  CLI::App* command =
      app.add_subcommand("profile", "time a training step or inference, node by node");
  auto o = std::make_shared<ProfileOptions>();
  command->add_option("--model", o->model, "model, e.g. init:vit_base_patch16_224");
  command->add_option("--method", o->method,
                      "profile a training step of this method (default: inference)");
  command->add_option("--arch", o->arch, "architecture, where the checkpoint does not tell");
  command->add_option("--batch-size", o->batch, "images or texts of a step")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  command
      ->add_option("--micro-batch", o->micro_batch,
                   "images or texts computed at once (default: chosen)")
      ->check(CLI::Range(1, 65536));
  command
      ->add_option("--length", o->length,
                   "tokens of a text (default: 64, or the model's positions if fewer)")
      ->check(CLI::Range(1, 65536));
  command->add_option("--steps", o->steps, "timed steps")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  command->add_option("--classes", o->classes, "of the head, with --method")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  command->add_option("--top", o->top, "rows of the table")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  command->add_flag("--machine", o->machine, "only what the machine can do");
  AddCommonOptions(*command, common);
  command->footer(
      "Examples:\n  graft profile --model init:vit_base_patch16_224 --method \"lora(r=8)\" "
      "--batch-size 16\n  graft profile --model init:minilm_l6 --batch-size 32 --length 128");
  command->callback([o, &common] { Run(*o, common); });
}

}  // namespace graft
