// graft search
#include <algorithm>
#include <cmath>
#include <filesystem>

#include "adapters/open_model.h"
#include "runtime/cpu.h"
#include "runtime/io/json.h"
#include "runtime/process_group.h"
#include "search/search_run.h"
#include "search/space.h"
#include "tools/commands.h"
#include "tools/lib/in_group.h"
#include "tools/lib/interrupts.h"
#include "tools/lib/model_options.h"
#include "tools/lib/output.h"
#include "tools/lib/progress.h"
#include "tools/lib/train_options.h"
#include "train/run_summary.h"

namespace graft {
namespace {

struct SearchFlags {
  RunConfig config;
  EvolutionOptions evolution;
  std::string space, ranks, max_params, out, resume;
};

void AddSpaceOptions(CLI::App& command, SearchFlags& o) {
  EvolutionOptions& e = o.evolution;
  TextOrFile(
      command.add_option("--space", o.space,
                         "glora, noah, or a METHOD with choices in braces, decided for each place: "
                         "\"lora(r={0|2|4},targets=attn.*)\"; @FILE reads it"));
  command.add_option("--ranks", o.ranks,
                     "of --space glora and noah: ranks to choose from (default: 4; 1,5,10)");
  command.add_option("--max-params", o.max_params,
                     "most parameters of a candidate besides the head, such as 500000 or 0.5M");
  command.add_option("--population", e.population, "candidates in each generation")
      ->capture_default_str();
  command.add_option("--generations", e.generations, "bred after the first, which is drawn")
      ->capture_default_str();
  command.add_option("--top", e.top, "best candidates, which are the parents")
      ->capture_default_str();
  command.add_option("--mutations", e.mutations, "mutants in each generation")
      ->capture_default_str();
  command.add_option("--crossovers", e.crossovers, "children of two in each generation")
      ->capture_default_str();
  command.add_flag("--random", e.random, "draw all candidates instead: what evolution has to beat");
  command.add_option("--out", o.out, "run directory to create");
  command.add_option("--resume", o.resume, "search to continue");
}

void AddSupernetOptions(CLI::App& command, RunConfig& c) {
  command.add_option("--model", c.model, "safetensors file, Hugging Face directory, or init:ARCH");
  command.add_option("--data", c.data, "VTAB-1k lists, one folder per class, or labelled texts");
  command.add_option("--train-split", c.train_split,
                     "what the supernet trains on (default: train800 or train)");
  command.add_option("--val-split", c.val_split,
                     "what candidates are measured on (default: val200 or val)");
  c.holdout = kHoldoutByDefault;
  command.add_option("--holdout", c.holdout,
                     "share of the training examples to measure on instead, of every class "
                     "(default: 0.2 if there is no validation split)");
  command.add_flag("--allow-overlap", c.allow_overlap,
                   "let validation and training examples overlap");
  AddStepOptions(command, c);
}

// Parses "500000", "0.5M" and "20k".
int64_t ParseCount(const std::string& text) {
  if (text.empty()) return 0;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string unit(end, text.data() + text.size());
  const double factor = unit.empty() ? 1 : unit == "k" || unit == "K" ? 1e3 : unit == "M" ? 1e6 : 0;
  if (error != std::errc() || factor == 0 || !(value * factor >= 1 && value * factor < 1e15))
    FailUsage("--max-params '{}': expected a number from 1 on, such as 500000, 500k or 0.5M", text);
  return static_cast<int64_t>(std::llround(value * factor));
}

std::string CandidateLine(const CandidateReport& r) {
  const auto percent = [](double accuracy) { return fmt::format("{:.1f} %", 100 * accuracy); };
  return fmt::format(
      "candidate {} of {} (generation {}, {}): {} parameters, {}, loss {:.4f}; best "
      "so far {} with {}",
      r.number, r.most, r.candidate->generation, r.candidate->origin, r.candidate->parameters,
      percent(r.candidate->fitness.accuracy), r.candidate->fitness.loss,
      percent(r.best.fitness.accuracy), r.best.parameters);
}

SearchHooks SearchHooksOf(const CommonOptions& common) {
  const TrainHooks progress = ProgressHooks(common);
  SearchHooks hooks;
  hooks.command = progress.command, hooks.note = progress.note;
  hooks.on_step = progress.on_step, hooks.stop = progress.stop;
  hooks.on_epoch = progress.on_epoch;
  hooks.on_start = [common](const SearchBegin& b) {
    Say(common,
        fmt::format("{}: {} genes, 10^{:.1f} candidates, the smallest of {} parameters; {} {} to "
                    "train on in {} steps, {} to measure on",
                    b.config->model, b.genes, b.log10_candidates, b.smallest, b.train, b.unit,
                    b.steps, b.validation));
  };
  hooks.on_candidate = [common](const CandidateReport& r) { Say(common, CandidateLine(r)); };
  return hooks;
}

nlohmann::json SearchJson(const RunDir& dir, const SearchConfig& search, const SearchSummary& s) {
  nlohmann::json json{{"run", dir.path()},
                      {"space", search.space},
                      {"random", search.evolution.random},
                      {"method", s.config.method},
                      {"parameters", s.parameters},
                      {"trainable_parameters", s.trainable_parameters},
                      {"val_accuracy", s.fitness.accuracy},
                      {"val_loss", s.fitness.loss},
                      {"evaluated", s.evaluated},
                      {"steps", s.steps},
                      {"seconds", s.seconds},
                      {"compile_ms", nullptr},
                      {"shared_work", nullptr},
                      {"peak_memory_bytes", PeakResidentBytes()},
                      {"interrupted", s.interrupted},
                      {"front", nlohmann::json::array()}};
  if (s.evaluated == 0)  // it was stopped before it had measured any
    for (const char* key :
         {"method", "parameters", "trainable_parameters", "val_accuracy", "val_loss"})
      json[key] = nullptr;
  if (s.compiled > 0)
    json["compile_ms"] = 1e3 * s.compile_seconds / static_cast<double>(s.compiled);
  if (s.passes > 0) json["shared_work"] = s.shared_passes / s.passes;
  // Where nothing was left to do, that of the session that did it.
  if (const nlohmann::json kept = ReadSummary(dir.path());
      s.passes == 0 && kept.is_object() && kept.contains("peak_memory_bytes"))
    json["peak_memory_bytes"] = kept["peak_memory_bytes"];
  for (const Evaluated& e : s.front)
    json["front"].push_back({{"parameters", e.parameters},
                             {"val_accuracy", e.fitness.accuracy},
                             {"val_loss", e.fitness.loss}});
  return json;
}

void CheckNewSearch(const SearchFlags& o, const CommonOptions& common) {
  const RunConfig& c = o.config;
  if (c.model.empty())
    FailUsage("search needs --model (or --resume RUN); example: graft search --help");
  if (c.data.empty()) FailUsage("search needs --data");
  if (o.space.empty()) FailUsage("search needs --space: glora, noah, or a METHOD with braces");
  if (o.out.empty()) FailUsage("search needs --out, the run directory to create");
  if (!common.memory_budget.empty())
    FailUsage(
        "--memory-budget: not supported by search, whose graphs are planned one by one; "
        "hint: --micro-batch");
  CheckIsModel(c.model);
}

int64_t Depth(const SearchFlags& o, const CommonOptions& common) {
  const LoadedModel model =
      LoadModel(o.config.model, o.config.arch, static_cast<uint64_t>(common.seed));
  return model.is_bert() ? model.bert().depth : model.vit().depth;
}

RunDir NewSearch(const SearchFlags& o, const CommonOptions& common, SearchConfig* search) {
  CheckNewSearch(o, common);
  const int64_t depth = WantsDepth(o.space) ? Depth(o, common) : 0;
  search->space = WrittenOut(o.space, o.ranks, depth);
  search->evolution = o.evolution;
  search->evolution.max_parameters = ParseCount(o.max_params);
  search->evolution.seed = static_cast<uint64_t>(common.seed);
  std::vector<std::string> notes;
  const RunConfig complete = CompleteSearch(o.config, *search, &notes);
  RunDir dir = RunDir::Create(o.out, complete);
  dir.Write(kSearchFile, DumpJson(ToJson(*search), 1) + "\n");
  for (const std::string& note : notes) Say(common, "note: " + note);
  return dir;
}

void CheckResumedSearch(const CLI::App& command) {
  constexpr std::string_view kFree[] = {"--resume", "--threads", "--json", "--quiet"};
  for (const CLI::Option* option : command.get_options())
    if (option->count() > 0 && std::ranges::find(kFree, option->get_name()) == std::end(kFree))
      FailUsage("{}: --resume takes everything from the search; leave it out", option->get_name());
}

// Removes the directory of a search that came to nothing.
void RemoveEmpty(RunDir& dir) {
  std::error_code none;
  if (std::filesystem::exists(dir.file("supernet.safetensors"), none)) return;
  std::filesystem::remove(dir.file(kSearchFile), none);
  dir.RemoveIfNothingSaved();
}

// The first process of a group makes the run and writes it; the others follow when it is there.
RunDir OpenRun(const SearchFlags& o, const CommonOptions& common, ProcessGroup* group,
               SearchConfig* search) {
  const bool resumes = !o.resume.empty(), first = !group || group->IsFirst();
  const std::string& path = resumes ? o.resume : o.out;
  std::optional<RunDir> dir;
  if (first && !resumes) dir = NewSearch(o, common, search);
  if (first && resumes) {
    dir = RunDir::OpenSearch(path);
    if (!std::filesystem::exists(dir->file(kSearchFile)))
      Fail("{}: no search here (no {})", path, kSearchFile);
    dir->Lock();
  }
  if (group) group->Meet();
  if (!dir) dir = RunDir::Follow(path, resumes);
  if (!first || resumes) *search = ReadSearchConfig(dir->file(kSearchFile));
  return std::move(*dir);
}

void Run(SearchFlags& o, const CommonOptions& common, ProcessGroup* group) {
  RunConfig& c = o.config;
  if (c.preprocess == "list") return PrintPreprocessPresets(common);
  if (c.augment == "list") return PrintAugmentPresets(common);
  c.seed = common.seed, c.isa = common.isa, c.disabled_passes = common.disabled_passes;
  CommonOptions effective = SharingCores(common, group);
  if (o.resume.empty()) {
    ApplyCommonOptions(effective);
    TakePrecision(common, &c);
  }
  SearchConfig search;
  RunDir dir = OpenRun(o, common, group, &search);
  if (!o.resume.empty()) {
    effective.isa = dir.config().isa, effective.dtype = dir.config().dtype;
    ApplyCommonOptions(effective);
    CheckDtypeOfRun(dir.path(), effective.dtype);
  }
  SayDtype(effective);
  CatchInterrupts();
  SearchHooks hooks = SearchHooksOf(common);
  hooks.group = group;
  SearchSummary s;
  try {
    s = Search(dir, search, hooks);
  } catch (...) {
    if (!dir.resumed() && (!group || group->IsFirst())) RemoveEmpty(dir);
    throw;
  }
  nlohmann::json json = SearchJson(dir, search, s);
  json["processes"] = group ? group->size() : 1;
  PrintJson(common, json);
  const std::string path = ShellWord(dir.path());
  if (s.interrupted)
    throw Error(fmt::format("interrupted after {} steps and {} candidates, saved; continue with: "
                            "graft search --resume {}",
                            s.steps, s.evaluated, path),
                ErrorKind::kInterrupted);
  Say(common, s.choices);
  Say(common, fmt::format("done: {} candidates in {:.1f} s; the best has {} parameters besides the "
                          "head, {:.1f} % on '{}'",
                          s.evaluated, s.seconds, s.parameters, 100 * s.fitness.accuracy,
                          s.config.val_split));
  if (s.shared_passes > 0)
    Say(common, fmt::format("{:.1f} % of the candidates' work was shared: their first layers were "
                            "those of others",
                            100 * s.shared_passes / s.passes));
  Say(common, fmt::format("next: graft eval --run {0} --data {1}\n      graft train --resume {0}\n"
                          "      graft train --method @{0}/METHOD ...",
                          path, ShellWord(s.config.data)));
}

}  // namespace

void AddSearchCommand(CLI::App& app, CommonOptions& common) {
  CLI::App* command =
      app.add_subcommand("search", "find a method for each layer by evolution over a supernet");
  auto o = std::make_shared<SearchFlags>();
  AddSupernetOptions(*command, o->config);
  AddSpaceOptions(*command, *o);
  AddCommonOptions(*command, common);
  command->get_option("--memory-budget")->group("");  // refused, with what to do instead
  command->footer(
      "Example:\n  graft search --model deit_tiny_patch16_224.safetensors --data vtab-1k/cifar "
      "--space glora --ranks 8,4 --max-params 0.5M --epochs 100 --out s\n"
      "  graft search --model deit_tiny_patch16_224.safetensors --data vtab-1k/cifar "
      "--space \"lora(r={0|2|4|8},targets=attn.*)+adaptformer(r={0|4|8})\" --out s2");
  command->callback([o, &common, command] {
    RunInGroup([&](ProcessGroup* group) {
      if (!o->resume.empty()) CheckResumedSearch(*command);
      TakeDefaults(*command, &o->config);
      Run(*o, TellingFirst(common, group), group);
    });
  });
}

}  // namespace graft
