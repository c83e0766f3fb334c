// graft profile: what a step costs, node by node, beside what the machine can do.
#include <algorithm>
#include <chrono>
#include <map>

#include "ops/isa.h"
#include "ops/peak.h"
#include "runtime/cpu.h"
#include "runtime/threads.h"
#include "tools/lib/common.h"
#include "tools/lib/memory_budget.h"
#include "tools/lib/task.h"

namespace graft {
namespace {

using Clock = std::chrono::steady_clock;
double MsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

struct ProfileOptions {
  std::string model, method, arch;
  int64_t batch = 16, micro_batch = 0, steps = 5, classes = 10, top = 20;
  bool machine = false;
};

struct Measured {
  std::vector<double> step_ms;
  double compile_ms = 0;
  Cost cost;                                   // of a step
  size_t planned_bytes = 0, needed_bytes = 0;  // needed: with weights and optimizer state
  int64_t micro_batch = 0, trainable = 0, recomputed = 0;
  std::string plan;
  std::vector<StepInfo> nodes;
};

void FillNoise(Session& session) {
  for (int worker = 0; worker < session.options().workers; ++worker) {
    const Tensor image = session.Input("image", worker);
    for (int64_t i = 0; i < image.shape.size(); ++i)
      image.f32()[i] = static_cast<float>((i * 7919) % 1000) / 500 - 1;
  }
}

Measured MeasureTraining(const ProfileOptions& o, const CommonOptions& common, LoadedModel& model) {
  Measured m;
  const Clock::time_point start = Clock::now();
  const Graph g = MethodGraph(model.config, {.loss = true}, ParseMethod(o.method), model.params, 0);
  m.micro_batch =
      o.micro_batch ? std::min(o.micro_batch, o.batch) : ChooseMicroBatch(model.vit(), o.batch);
  CompiledStep compiled = CompileWithinBudget(g, model.params, {},
                                              {.wanted = {m.micro_batch, 0},
                                               .budget = common.memory_budget,
                                               .disabled = common.disabled_passes});
  TrainStep& step = compiled.step;
  m.compile_ms = MsSince(start);
  m.plan = PlanText(compiled);
  m.needed_bytes = compiled.needed_bytes;
  m.recomputed = compiled.recompute.nodes;
  m.micro_batch = step.micro_batch();
  Session& session = step.session();
  if (!session.HasInput("image"))
    throw Error("profile: nothing of the model depends on the images");
  FillNoise(session);
  auto fill = [&](int64_t first, int64_t count, int worker) {
    int32_t* labels = session.Input("labels", worker).i32();
    for (int64_t i = 0; i < count; ++i)
      labels[i] = static_cast<int32_t>((first + i) % model.vit().classes);
  };
  step.Run(o.batch, 0, 1e-4, fill);  // touches all memory once
  session.EnableProfile(true);
  for (int64_t i = 0; i < o.steps; ++i) {
    const Clock::time_point t = Clock::now();
    step.Run(o.batch, i + 1, 1e-4, fill);
    m.step_ms.push_back(MsSince(t));
  }
  const Cost main = session.cost(Phase::kMain), update = session.cost(Phase::kUpdate);
  const double share = static_cast<double>(o.batch) / static_cast<double>(m.micro_batch);
  m.cost = {main.flops * share + update.flops, main.bytes * share + update.bytes};
  m.planned_bytes = session.planned_bytes();
  m.trainable = TrainableCount(g);
  m.nodes = session.steps();
  return m;
}

Measured MeasureInference(const ProfileOptions& o, const CommonOptions& common,
                          LoadedModel& model) {
  Measured m;
  const Clock::time_point start = Clock::now();
  Graph g = BuildVit(model.vit());
  InferencePasses(common.disabled_passes).Run(g);
  const int64_t wanted =
      o.micro_batch ? std::min(o.micro_batch, o.batch) : ChooseMicroBatch(model.vit(), o.batch);
  SessionOptions options =
      OptionsWithinBudget(g, model.params, {wanted, 0}, 0, common.memory_budget);
  m.micro_batch = options.capacity.sequences;
  m.plan = fmt::format("micro-batch {}", m.micro_batch);
  const int64_t runs = (o.batch + m.micro_batch - 1) / m.micro_batch;
  if (runs < options.workers) options.workers = 1;
  Session session(g, model.params, options);
  m.compile_ms = MsSince(start);
  FillNoise(session);
  auto run = [&] {
    ForEachRun(session, runs, [&](int64_t i, int worker) {
      session.Run({std::min(m.micro_batch, o.batch - i * m.micro_batch), 0}, worker);
    });
  };
  run();
  session.EnableProfile(true);
  for (int64_t i = 0; i < o.steps; ++i) {
    const Clock::time_point t = Clock::now();
    run();
    m.step_ms.push_back(MsSince(t));
  }
  const double share = static_cast<double>(o.batch) / static_cast<double>(m.micro_batch);
  m.cost = {session.cost(Phase::kMain).flops * share, session.cost(Phase::kMain).bytes * share};
  m.planned_bytes = session.planned_bytes();
  m.needed_bytes = m.planned_bytes + model.params.bytes().owned;
  m.nodes = session.steps();
  return m;
}

// Nodes of one kind (operator, layer without its block number, kernel) taken together.
struct Group {
  std::string name;
  double seconds = 0, flops = 0, bytes = 0;
  int64_t calls = 0;
};

std::vector<Group> GroupNodes(const std::vector<StepInfo>& nodes) {
  std::map<std::string, Group> groups;
  for (const StepInfo& s : nodes) {
    if (s.calls == 0) continue;
    std::string scope = s.scope;
    if (scope.starts_with("blocks.")) {
      const size_t dot = scope.find('.', 7);
      scope = "blocks.*" + (dot == std::string::npos ? "" : scope.substr(dot));
    }
    const std::string name = fmt::format("{:<14} {:<26} {}", s.op, scope, s.impl);
    Group& group = groups[name];
    group.name = name;
    group.seconds += s.seconds;
    group.flops += s.cost.flops * static_cast<double>(s.calls);
    group.bytes += s.cost.bytes * static_cast<double>(s.calls);
    group.calls += s.calls;
  }
  std::vector<Group> sorted;
  for (auto& [name, group] : groups) sorted.push_back(group);
  std::sort(sorted.begin(), sorted.end(),
            [](const Group& a, const Group& b) { return a.seconds > b.seconds; });
  return sorted;
}

void PrintNodes(const CommonOptions& common, const Measured& m, const MachinePeak& peak,
                int64_t top) {
  const std::vector<Group> groups = GroupNodes(m.nodes);
  double total = 0;
  for (const Group& g : groups) total += g.seconds;
  Say(common, fmt::format("{:<62} {:>6} {:>9} {:>8} {:>8} {:>9}",
                          "operator       layer                      kernel", "time", "GFLOP/s",
                          "of peak", "GB/s", "of roof"));
  for (size_t i = 0; i < groups.size() && i < static_cast<size_t>(top); ++i) {
    const Group& g = groups[i];
    const double gflops = g.flops / g.seconds * 1e-9, rate = g.bytes / g.seconds;
    // Attainable: the lower of the peak and what memory can feed.
    const double roof = std::max(g.flops / (peak.gflops * 1e9), g.bytes / peak.bytes_per_second);
    Say(common, fmt::format("{:<62} {:>5.1f}% {:>9.1f} {:>7.1f}% {:>8.1f} {:>8.0f}%", g.name,
                            100 * g.seconds / total, gflops, 100 * gflops / peak.gflops,
                            rate * 1e-9, 100 * roof / g.seconds));
  }
}

nlohmann::json NodesJson(const Measured& m) {
  nlohmann::json nodes = nlohmann::json::array();
  for (const StepInfo& s : m.nodes)
    nodes.push_back({{"op", s.op},
                     {"scope", s.scope},
                     {"impl", s.impl},
                     {"seconds", s.seconds},
                     {"calls", s.calls},
                     {"flops", s.cost.flops},
                     {"bytes", s.cost.bytes}});
  return nodes;
}

void Machine(const CommonOptions& common, const MachinePeak& peak) {
  const CpuInfo& cpu = Cpu();
  Say(common,
      fmt::format(
          "{}\n  {} cores usable, {} threads, SIMD {}; caches L1 {} KiB, L2 {} KiB, L3 {} MiB",
          cpu.model, cpu.physical_cores, Threads(), ActiveIsa(), cpu.l1d_bytes >> 10,
          cpu.l2_bytes >> 10, cpu.l3_bytes >> 20));
  Say(common, fmt::format("  measured: {:.1f} GFLOP/s f32, {:.1f} GB/s", peak.gflops,
                          peak.bytes_per_second * 1e-9));
}

void Run(ProfileOptions& o, const CommonOptions& common) {
  ApplyCommonOptions(common);
  if (o.machine) {
    const MachinePeak peak = MeasurePeak(Threads());
    Machine(common, peak);
    return PrintJson(common, {{"peak_gflops", peak.gflops},
                              {"gb_per_second", peak.bytes_per_second * 1e-9},
                              {"threads", Threads()},
                              {"isa", ActiveIsa()},
                              {"cpu", Cpu().model}});
  }
  if (o.model.empty())
    FailUsage("profile needs --model, e.g. init:vit_base_patch16_224 (or --machine)");
  if (!o.method.empty()) ParseMethod(o.method);
  LoadedModel model = LoadModel(o.model, o.arch, static_cast<uint64_t>(common.seed));
  if (!o.method.empty()) {
    std::vector<std::string> labels;
    for (int64_t i = 0; i < o.classes; ++i) labels.push_back(std::to_string(i));
    AdaptModel(model, model.vit().image_size, labels, static_cast<uint64_t>(common.seed));
  }
  const MachinePeak peak = MeasurePeak(Threads());
  Machine(common, peak);
  Measured m =
      o.method.empty() ? MeasureInference(o, common, model) : MeasureTraining(o, common, model);
  std::sort(m.step_ms.begin(), m.step_ms.end());
  const double median = m.step_ms[m.step_ms.size() / 2], gflops = m.cost.flops / median * 1e-6;
  const double rate = 1e3 * static_cast<double>(o.batch) / median;
  Say(common, fmt::format("{} {} batch {} ({}): {:.1f} ms a step (min {:.1f}), {:.2f} "
                          "images/s, {:.1f} GFLOP/s = "
                          "{:.1f} % of peak",
                          model.architecture(), o.method.empty() ? "inference" : o.method, o.batch,
                          m.plan, median, m.step_ms[0], rate, gflops, 100 * gflops / peak.gflops));
  Say(common,
      fmt::format("compiled in {:.1f} ms; planned {} MiB, peak memory of the process {} MiB",
                  m.compile_ms, m.planned_bytes >> 20, PeakResidentBytes() >> 20));
  PrintNodes(common, m, peak, o.top);
  PrintJson(common, {{"step_ms", median},
                     {"step_ms_min", m.step_ms[0]},
                     {"examples_per_second", rate},
                     {"gflops", gflops},
                     {"share_of_peak", gflops / peak.gflops},
                     {"peak_gflops", peak.gflops},
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
                     {"nodes", NodesJson(m)}});
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
  command->add_option("--batch-size", o->batch, "images of a step")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  command->add_option("--micro-batch", o->micro_batch, "images computed at once (default: chosen)")
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
      "Example:\n  graft profile --model init:vit_base_patch16_224 --method \"lora(r=8)\" "
      "--batch-size 16");
  command->callback([o, &common] { Run(*o, common); });
}

}  // namespace graft
