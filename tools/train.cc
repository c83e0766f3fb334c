// graft train
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "adapters/open_model.h"
#include "runtime/process_group.h"
#include "runtime/threads.h"
#include "tools/commands.h"
#include "tools/lib/banner.h"
#include "tools/lib/config_file.h"
#include "tools/lib/in_group.h"
#include "tools/lib/interrupts.h"
#include "tools/lib/lr_find.h"
#include "tools/lib/model_options.h"
#include "tools/lib/output.h"
#include "tools/lib/progress.h"
#include "tools/lib/replaced_run.h"
#include "tools/lib/seeds.h"
#include "tools/lib/train_options.h"
#include "tools/lib/train_report.h"
#include "train/complete_config.h"
#include "train/run_summary.h"

namespace graft {
namespace {

struct TrainOptions {
  RunConfig config;
  int64_t seeds = 0;  // 0: one run, in --out itself
  std::string out, resume, config_file;
  bool verbose = false, force = false, lr_find = false;
  int64_t resumed_epochs = 0;  // --epochs beside --resume; 0 = not given
};

void AddOptions(CLI::App& command, TrainOptions& o) {
  RunConfig& c = o.config;
  command.add_option("--model", c.model, "safetensors file, Hugging Face directory, or init:ARCH");
  command.add_option("--data", c.data, "VTAB-1k lists, one folder per class, or labelled texts");
  TextOrFile(command.add_option(
      "--method", c.method,
      "e.g. lora(r=8), linear, bitfit+ln, or @FILE; see graft inspect --methods"));
  command.add_option("--out", o.out, "run directory to create");
  command.add_option("--resume", o.resume,
                     "run directory to continue; with --epochs to extend, of a constant schedule");
  command.add_option("--config", o.config_file,
                     "options from this .json or .toml file, or a run's config.json; the command "
                     "line wins");
  c.task = kTaskByData;
  command.add_option("--task", c.task,
                     "classify: one class of several; regression: numbers, mean squared error; "
                     "multi-label: any of the classes at once (default: classify, unless labels "
                     "are arrays)");
  command.add_option("--train-split", c.train_split, "training list (default: train800 or train)");
  command.add_option("--val-split", c.val_split,
                     "validation list, or none (default: val200 or val)");
  c.holdout = kHoldoutByDefault;
  command.add_option("--holdout", c.holdout,
                     "share of the training examples to validate on instead, of every class "
                     "(default: 0.2 if there is no validation split)");
  AddTrainingOptions(command, c);
  command.add_option("--objective", c.objective,
                     "of a BERT, on plain texts, DIR/*.txt: mlm guesses masked words (--method "
                     "default: full); nsp, how near two sentences stand, and nss, which of six "
                     "follows, pre-train a prompt (default: prompt(head=frozen))");
  command.add_flag("--whole-words", c.whole_words, "of --objective mlm: mask whole words");
  command.add_option("--early-stopping", c.early_stopping,
                     "end after N epochs without a better --best-metric");
  command.add_option(
      "--best-metric", c.best_metric,
      "of the validation split, chooses the best epoch: accuracy, loss, macro_f1, "
      "mean_class_accuracy, matthews; of numbers mse, mae, r2, pearson, spearman; of "
      "several labels map, micro_f1, macro_f1, subset_accuracy (default: accuracy, "
      "mse, map)");
  command.add_option("--lanes", c.lanes,
                     "copies of the gradients, which threads and processes add to side by side "
                     "(default: chosen by their size); the bits of the sums depend on it");
  command.add_option("--trace", c.trace, "directory for a replay in another framework");
  command.add_flag("--allow-overlap", c.allow_overlap,
                   "let validation and training examples overlap");
  command
      .add_option("--seeds", o.seeds,
                  "train N times, with seeds from --seed on, into --out/seed-S; mean and spread")
      ->check(CLI::Range(1, 1000));
  command.add_flag(
      "--lr-find", o.lr_find,
      "train 100 steps with a rate that grows from 1e-6 to 1; a plot and a rate to try");
  command.add_flag("--verbose", o.verbose, "also print all settings");
  AddForceOption(command, &o.force, "replace a run that is in --out");
}

// What is told of a run.
struct Telling {
  bool verbose = false;
  std::string name;  // of a run like one that was told of before: this in the place of the banner
  std::function<void(const std::string&)> note;
};

TrainHooks HooksOf(const RunDir& dir, const CommonOptions& common, const Telling& telling) {
  TrainHooks hooks = ProgressHooks(common);
  hooks.note = telling.note;
  if (!telling.name.empty()) {
    hooks.on_start = [common, telling](const BeginReport&) { Say(common, telling.name); };
    return hooks;
  }
  hooks.on_start = [&dir, common, telling](const BeginReport& report) {
    Say(common, StartBanner(report, dir.path()));
    if (telling.verbose) Say(common, "  " + AllSettings(*report.config));
  };
  hooks.on_plan = [common](const PlanReport& report) { Say(common, PlanLines(report)); };
  return hooks;
}

// Trains, and removes a run that came to nothing worth keeping, so that the corrected command may
// use the same name.
TrainSummary TrainOrRemove(RunDir& dir, const CommonOptions& common, const Telling& telling,
                           ProcessGroup* group = nullptr) {
  try {
    TrainHooks hooks = HooksOf(dir, common, telling);
    hooks.group = group;
    return Train(dir, hooks);
  } catch (...) {
    if (!dir.resumed() && (!group || group->IsFirst())) {
      rmdir(dir.config().trace.c_str());  // if it is empty; it may be inside the run
      dir.RemoveIfNothingSaved();
    }
    throw;
  }
}

// A name that graft fuse accepts for a base of this layout.
const char* FusedName(const std::optional<Layout>& layout) {
  if (!layout) return "FUSED";
  return *layout == Layout::kHuggingFace ? "fused/"
         : *layout == Layout::kJax       ? "fused.npz"
                                         : "fused.safetensors";
}

// Refuses flags that a resumed run would ignore: everything that changes results comes from the
// run.
void CheckResume(const CLI::App& command) {
  constexpr std::string_view kFree[] = {"--resume", "--epochs", "--threads",
                                        "--json",   "--quiet",  "--verbose"};
  for (const CLI::Option* option : command.get_options())
    if (option->count() > 0 && std::ranges::find(kFree, option->get_name()) == std::end(kFree))
      FailUsage("{}: --resume takes everything from the run; leave it out", option->get_name());
}

// Refuses options of which no run could be made.
void CheckNewRun(const TrainOptions& o) {
  if (o.config.model.empty())
    FailUsage("train needs --model (or --resume RUN); example: graft train --help");
  if (o.config.data.empty()) FailUsage("train needs --data");
  if (o.out.empty() && !o.lr_find) FailUsage("train needs --out, the run directory to create");
  CheckIsModel(o.config.model);
  std::error_code none;
  if (!o.config.trace.empty() && std::filesystem::weakly_canonical(o.out, none) ==
                                     std::filesystem::weakly_canonical(o.config.trace, none))
    FailUsage("--trace {}: is --out too; expected another directory", o.config.trace);
}

// What --force replaces waits in `replaced`.
RunDir NewRun(const TrainOptions& o, const std::string& out, const Telling& telling,
              std::unique_ptr<ReplacedRun>* replaced) {
  if (!o.force && IsRunDirectory(out))
    Fail(
        "{}: the directory exists and is not empty; choose another one, --force to replace the "
        "run in it, or graft train --resume {}",
        out, ShellWord(out));
  std::vector<std::string> notes;
  const RunConfig complete = CompleteRunConfig(o.config, &notes);
  if (o.force) *replaced = std::make_unique<ReplacedRun>(out);
  RunDir dir = RunDir::Create(out, complete);
  for (const std::string& note : notes) telling.note("note: " + note);
  return dir;
}

// Opens the run to go on with. The first process of a group owns it, and no other reads before that
// is so.
RunDir ResumedRun(const TrainOptions& o, ProcessGroup* group) {
  std::optional<RunDir> dir;
  if (!group || group->IsFirst()) {
    dir = RunDir::Open(o.resume);
    dir->Lock();
    if (o.resumed_epochs > 0) ChangeEpochs(*dir, o.resumed_epochs);
  }
  if (group) group->Meet();
  return dir ? std::move(*dir) : RunDir::Follow(o.resume, true);
}

RunDir FreshRun(const TrainOptions& o, const Telling& telling, ProcessGroup* group,
                std::unique_ptr<ReplacedRun>* replaced) {
  std::optional<RunDir> dir;
  if (!group || group->IsFirst()) dir = NewRun(o, o.out, telling, replaced);
  if (group) group->Meet();
  return dir ? std::move(*dir) : RunDir::Follow(o.out, false);
}

[[noreturn]] void StopInterrupted(const RunDir& dir, int64_t step, const std::string& again) {
  throw Error(fmt::format("interrupted after step {}, {}; continue with: {}", step,
                          dir.HasState() ? "saved" : "nothing to save yet", again),
              ErrorKind::kInterrupted);
}

// Trains the same run with several seeds, each in a directory of its own in --out. Finished ones
// are kept, and interrupted ones go on.
void RunSeeds(TrainOptions& o, const CommonOptions& common) {
  nlohmann::json runs = nlohmann::json::array();
  Telling telling{.verbose = o.verbose, .name = "", .note = SayOnce(common)};
  for (int64_t i = 0; i < o.seeds; ++i) {
    o.config.seed = common.seed + i;
    const std::string out = fmt::format("{}/seed-{}", o.out, o.config.seed);
    std::error_code none;
    std::filesystem::create_directories(o.out, none);
    std::unique_ptr<ReplacedRun> replaced;
    std::optional<RunDir> dir;
    if (!o.force && IsRunDirectory(out)) {
      dir = RunDir::Open(out);
      std::vector<std::string> notes;
      CheckSameRun(dir->config(), CompleteRunConfig(o.config, &notes), out);
    } else {
      dir = NewRun(o, out, telling, &replaced);
    }
    if (i > 0) telling.name = fmt::format("seed {}: {}", o.config.seed, out);
    const TrainSummary s = TrainOrRemove(*dir, common, telling);
    if (s.interrupted) StopInterrupted(*dir, s.steps, "the same command");
    SayDone(s, common);
    runs.push_back(TrainJson(dir->path(), s));
    runs.back()["seed"] = o.config.seed;
  }
  const nlohmann::json json = SeedsJson(o.out, runs);
  PrintJson(common, json);
  Say(common, SeedsText(json));
  Say(common, fmt::format("next: graft runs {}", ShellWord(o.out)));
}

void FindRate(const TrainOptions& o, const CommonOptions& common) {
  for (const auto& [flag, given] :
       {std::pair("--lr", o.config.lr != 0), {"--out", !o.out.empty()}, {"--seeds", o.seeds > 0}})
    if (given) FailUsage("{}: --lr-find looks for a rate, and keeps no run", flag);
  std::vector<std::string> notes;
  const RunConfig complete = CompleteRunConfig(o.config, &notes);
  if (SearchedTerm(ParseMethod(complete.method)))
    FailUsage("--lr-find: method '{}' has no gradients", complete.method);
  const std::vector<RatePoint> points = TryRates(complete, ProgressHooks(common));
  const double suggestion = SuggestRate(points);
  nlohmann::json json{{"points", nlohmann::json::array()}, {"suggestion", nullptr}};
  for (const RatePoint& p : points) json["points"].push_back({{"lr", p.lr}, {"loss", p.loss}});
  if (suggestion > 0) json["suggestion"] = suggestion;
  PrintJson(common, json);
  Say(common, RatePlot(points, suggestion));
  Say(common,
      suggestion > 0
          ? fmt::format("the loss falls fastest at a rate of {0:.2g}: try --lr {0:.2g}", suggestion)
          : "the loss never falls; the data or the method may have nothing to learn");
}

void Run(TrainOptions& o, const CommonOptions& common, ProcessGroup* group) {
  if (o.config.preprocess == "list") return PrintPreprocessPresets(common);
  if (o.config.augment == "list") return PrintAugmentPresets(common);
  RunConfig& c = o.config;
  c.seed = common.seed, c.isa = common.isa, c.memory_budget = common.memory_budget;
  c.disabled_passes = common.disabled_passes;
  CommonOptions effective = SharingCores(common, group);
  std::unique_ptr<ReplacedRun> replaced;
  std::optional<RunDir> dir;
  const Telling telling{.verbose = o.verbose, .name = "", .note = SayOnce(common)};
  if (o.resume.empty()) {
    CheckNewRun(o);
    ApplyCommonOptions(effective);
    TakePrecision(common, &c);
    if (group && (o.lr_find || o.seeds > 0))
      FailUsage("{}: is for one process, and {} were started; hint: without mpirun",
                o.lr_find ? "--lr-find" : "--seeds", group->size());
    if (o.lr_find) {
      CatchInterrupts();
      return FindRate(o, common);
    }
    if (o.seeds > 0) {
      CatchInterrupts();
      return RunSeeds(o, common);
    }
    dir = FreshRun(o, telling, group, &replaced);
  } else {
    dir = ResumedRun(o, group);
    effective.isa = dir->config().isa;  // the plan of the run
    effective.dtype = dir->config().dtype;
    ApplyCommonOptions(effective);
    CheckDtypeOfRun(dir->path(), effective.dtype);
  }
  SayDtype(effective);
  CatchInterrupts();
  const TrainSummary s = TrainOrRemove(*dir, common, telling, group);
  nlohmann::json json = TrainJson(dir->path(), s);
  json["processes"] = group ? group->size() : 1;
  PrintJson(common, json);
  if (s.interrupted)
    StopInterrupted(*dir, s.steps, "graft train --resume " + ShellWord(dir->path()));
  SayDone(s, common);
  const std::string run = ShellWord(dir->path());
  const std::string eval = s.measurable ? fmt::format("graft eval --run {} --data {}\n      ", run,
                                                      ShellWord(s.config.data))
                                        : "";
  Say(common, fmt::format("next: {}graft fuse --run {} --out {}", eval, run, FusedName(s.layout)));
}

// Takes in everything that the options say, before anything is read or written.
void Settle(CLI::App& command, const CommonOptions& common, TrainOptions* o) {
  if (!o->resume.empty()) CheckResume(command);
  if (!o->config_file.empty()) {
    ApplyConfigFile(command, o->config_file);
    CheckCommonOptions(common);
  }
  TakeDefaults(command, &o->config);
  if (command.count("--best-metric") == 0) o->config.best_metric.clear();
  if (command.count("--epochs") > 0) o->resumed_epochs = o->config.epochs;
  if (!o->config.objective.empty() && command.count("--method") == 0)
    o->config.method = MasksWords(o->config) ? "full" : "prompt(head=frozen)";
  if (command.count("--holdout") > 0 && o->config.holdout < 0)  // -1 stands for its own
    FailUsage("--holdout: expected 0 to 0.9, found {}", o->config.holdout);
}

}  // namespace

void AddTrainCommand(CLI::App& app, CommonOptions& common) {
  CLI::App* command = app.add_subcommand("train", "fine-tune a model on labelled images or texts");
  auto options = std::make_shared<TrainOptions>();
  AddOptions(*command, *options);
  AddCommonOptions(*command, common);
  command->footer(
      "Example:\n  graft train --model deit_tiny_patch16_224.safetensors --data vtab-1k/eurosat "
      "--method \"lora(r=8)\" --train-split train800val200 --epochs 10 --out runs/a\n"
      "  graft train --model minilm/ --data text/sst2 --method \"lora(r=8)\" --epochs 3 "
      "--out runs/s");
  command->callback([options, &common, command] {
    RunInGroup([&](ProcessGroup* group) {
      Settle(*command, common, options.get());
      Run(*options, TellingFirst(common, group), group);
    });
  });
}

}  // namespace graft
