// graft plan: what training costs with each method, before any training.
#include "adapters/open_model.h"
#include "ops/low_precision.h"
#include "runtime/threads.h"
#include "tools/commands.h"
#include "tools/lib/model_options.h"
#include "tools/lib/output.h"
#include "tools/lib/report.h"
#include "tools/profiles/machine.h"
#include "tools/profiles/step_plan.h"
#include "train/complete_config.h"
#include "train/dataset.h"

namespace graft {
namespace {

struct PlanOptions {
  RunConfig config;
  std::vector<std::string> methods;
  int64_t length = 0, classes = 10;
};

constexpr int64_t kUsualLength = 64;

// A training set as graft train would have it. Every method gets its own graph; the one that the
// configuration is completed with has no needs of its own.
PlannedTraining OfData(const PlanOptions& o, const CommonOptions& common) {
  if (o.length) FailUsage("--length {}: --data has texts of their own lengths", o.length);
  RunConfig c = o.config;
  c.method = "linear";
  std::vector<std::string> notes;
  PlannedTraining t{.config = CompleteRunConfig(c, &notes), .model = {}, .data = nullptr};
  for (const std::string& note : notes) Say(common, "note: " + note);
  t.config.new_head = true;
  Dataset data(t.config);
  t.model = OpenAdapted(t.config);
  t.data = data.Load(t.config.train_split, static_cast<size_t>(t.config.limit), t.model, t.config);
  return t;
}

PlannedTraining OfBatch(const PlanOptions& o) {
  for (const auto& [flag, given] : {std::pair("--columns", !o.config.columns.empty()),
                                    {"--train-split", !o.config.train_split.empty()},
                                    {"--limit", o.config.limit > 0}})
    if (given) FailUsage("{}: goes with --data", flag);
  PlannedTraining t{.config = o.config, .model = {}, .data = nullptr};
  if (t.config.task == kTaskByData) t.config.task = kClassify;
  CheckFacts(t.config);
  const auto seed = static_cast<uint64_t>(t.config.seed);
  t.model = LoadModel(t.config.model, t.config.arch, seed);
  std::vector<std::string> labels;
  for (int64_t i = 0; i < o.classes; ++i) labels.push_back(std::to_string(i));
  AdaptClasses(t.model, labels, seed, true, t.config.task);
  CheckKeep(BuildModel(t.model.config), PassesOf(t.config).precision);
  if (!t.model.is_bert() && o.length)
    FailUsage("--length goes with a model that reads texts; {} reads images", t.model.source);
  if (t.model.is_bert()) {
    const int64_t positions = t.model.bert().positions;
    if (o.length > positions)
      FailUsage("--length {}: {} has {} positions", o.length, t.model.source, positions);
    t.length = o.length ? o.length : std::min(kUsualLength, positions);
  }
  return t;
}

std::vector<std::string> MethodsOf(const PlanOptions& o) {
  if (o.methods.empty()) {
    std::vector<std::string> all;
    for (const MethodRecord* record : AllMethods()) all.emplace_back(record->name);
    return all;
  }
  for (const std::string& method : o.methods) ParseMethod(method);  // a wrong one before the work
  return o.methods;
}

// "deit_tiny, batches of 64, 1,000 images to learn from; 2 threads, 250.0 GFLOP/s in f32, ..."
std::string Heading(const PlannedTraining& t, const MachinePace& pace) {
  std::string peaks = fmt::format("{:.1f} GFLOP/s in f32", pace.machine.peak.gflops);
  for (const auto& [dtype, rate] :
       {std::pair{"bf16", pace.machine.peak.bf16_gflops}, {"int8", pace.machine.peak.int8_gflops}})
    if (t.config.dtype == dtype && rate > 0) peaks += fmt::format(", {:.1f} in {}", rate, dtype);
  return fmt::format(
      "{}, batches of {}{}; {} threads, {}; a forward pass gets {:.0f} % of what "
      "the machine can do{}",
      t.model.architecture(), t.config.batch_size,
      t.data ? fmt::format(", {} {} to learn from", Grouped(static_cast<int64_t>(t.data->size())),
                           t.data->unit())
             : "",
      Threads(), peaks, 100 * pace.efficiency,
      pace.any_low ? fmt::format(" in f32, its products in {} {:.0f} %", t.config.dtype,
                                 100 * pace.low_efficiency)
                   : "");
}

void Run(PlanOptions& o, const CommonOptions& common) {
  RunConfig& c = o.config;
  if (c.model.empty()) FailUsage("plan needs --model; example: graft plan --help");
  if (!common.memory_budget.empty())
    FailUsage("--memory-budget: a plan is of a training without one; graft train plans within it");
  if (c.data.empty() && c.batch_size == kBatchByKind)
    FailUsage("plan needs --data, or --batch-size");
  const std::vector<std::string> methods = MethodsOf(o);
  ApplyCommonOptions(common);
  c.seed = common.seed, c.disabled_passes = common.disabled_passes;
  TakePrecision(common, &c);
  SayDtype(common);
  CheckIsModel(c.model);
  PlannedTraining t = c.data.empty() ? OfBatch(o) : OfData(o, common);
  SayNotices(common, t.model.notices);
  const MachinePace pace = MeasurePace(t, AskMachine(false));
  for (const std::string& disturbance : Disturbances(pace.machine))
    Say(common, "warning: " + disturbance);
  const bool epochs = t.data != nullptr;
  Say(common, Heading(t, pace));
  std::vector<StepPlan> plans;
  for (const std::string& method : methods) plans.push_back(PlanStep(method, t, pace));
  Say(common, PlanTable(plans, epochs));
  for (const StepPlan& p : plans)
    if (const std::string none = NoneIsIn(c.dtype, p.products); p.problem.empty() && !none.empty())
      Say(common, fmt::format("note: {}: {}", p.method, none));
  PrintJson(common,
            {{"model", c.model},
             {"data", epochs ? nlohmann::json(c.data) : nlohmann::json()},
             {"batch_size", t.config.batch_size},
             {"examples", epochs ? nlohmann::json(t.data->size()) : nlohmann::json()},
             {"steps_per_epoch", epochs ? nlohmann::json(t.steps_per_epoch()) : nlohmann::json()},
             {"dtype", c.dtype},
             {"keep", c.keep},
             {"peak_gflops", pace.machine.peak.gflops},
             {"peak_gflops_bf16", pace.machine.peak.bf16_gflops},
             {"peak_gflops_int8", pace.machine.peak.int8_gflops},
             {"peak_gb_per_second", pace.machine.peak.bytes_per_second * 1e-9},
             {"levels", MachineJson(pace.machine).at("levels")},
             {"efficiency", pace.efficiency},
             {"low_efficiency", pace.low_efficiency},
             {"threads", Threads()},
             {"methods", PlansJson(plans, epochs)}});
}

}  // namespace

void AddPlanCommand(CLI::App& app, CommonOptions& common) {
  CLI::App* command = app.add_subcommand(
      "plan",
      "parameters, work, memory and time of a training by each method, before any training");
  auto o = std::make_shared<PlanOptions>();
  RunConfig& c = o->config;
  c.batch_size = kBatchByKind, c.task = kTaskByData, c.holdout = kHoldoutByDefault;
  c.best_metric.clear();
  command->add_option("--model", c.model, "safetensors file, Hugging Face directory, or init:ARCH");
  command->add_option("--data", c.data,
                      "a data set, as of graft train: its size and lengths count");
  command->add_option("--methods", o->methods, "methods (default: all, with their own options)");
  command
      ->add_option("--batch-size", c.batch_size,
                   "examples of a step (default: as graft train; needed without --data)")
      ->check(CLI::Range(1, 65536));
  command
      ->add_option("--length", o->length,
                   "without --data: tokens of a text (default: 64, or the model's positions)")
      ->check(CLI::Range(1, 65536));
  command->add_option("--classes", o->classes, "without --data: outputs of the head")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  command->add_option("--arch", c.arch, "architecture, where the checkpoint does not tell");
  command->add_option("--task", c.task, "classify, regression or multi-label, as of graft train");
  command->add_option("--train-split", c.train_split, "training list, as of graft train");
  command->add_option("--columns", c.columns, "of tables, as of graft train");
  command->add_option("--limit", c.limit, "N training examples only")
      ->check(CLI::Range(int64_t{0}, int64_t{1'000'000'000'000}));
  command->add_option("--tokenizer", c.tokenizer, "of texts, as of graft train");
  AddCommonOptions(*command, common);
  command->get_option("--memory-budget")->group("");  // refused, with what to do instead
  command->footer(
      "Examples:\n  graft plan --model deit_tiny_patch16_224.safetensors --data photos/\n"
      "  graft plan --model init:bert_base --batch-size 16 --length 128 --methods full "
      "\"lora(r=8)\"");
  command->callback([o, &common] { Run(*o, common); });
}

}  // namespace graft
