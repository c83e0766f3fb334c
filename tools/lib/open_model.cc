#include "tools/lib/open_model.h"

#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "models/hf_config.h"
#include "runtime/io/json.h"
#include "tools/lib/adapter_file.h"
#include "tools/lib/hf_peft.h"
#include "tools/lib/memory_budget.h"
#include "tools/lib/run_dir.h"

namespace graft {
namespace {

// The model of a run or adapter, for images of the size that the user wants, else of its own.
void OpenForTask(const ModelChoice& choice, const OpenBase& open, OpenedModel* opened) {
  RunConfig& c = opened->config;
  if (!choice.preprocess.empty()) c.preprocess = choice.preprocess;
  opened->seed = static_cast<uint64_t>(c.seed);
  opened->method = ParseMethod(c.method);
  opened->model = OpenTaskModel(c, open);
  if (!opened->model.is_bert()) opened->preprocess = ParsePreprocess(c.preprocess);
}

// Makes the method's parameters, which `load` then fills from `file` and names. One that the method
// trains and the file lacks would keep its random initial value.
template <class Load>
void FillTrained(OpenedModel& opened, const std::string& file, const Load& load) {
  const Graph g =
      MethodGraph(opened.model.config, {}, opened.method, opened.model.params, opened.seed);
  opened.trained = load();
  const std::set<std::string> found(opened.trained.begin(), opened.trained.end());
  for (ValueId v : g.Trainable())
    if (const std::string& name = g.value(v).name; !found.contains(name))
      Fail("{}: no tensor for '{}', which {} trains", file, name, opened.config.method);
}

// --run RUN, or --model M --adapter RUN.
OpenedModel OpenRun(const ModelChoice& choice, const OpenBase& open) {
  const std::vector<std::string> checkpoints{"last", "best"};
  if (std::find(checkpoints.begin(), checkpoints.end(), choice.checkpoint) == checkpoints.end())
    FailUsage("--checkpoint: '{}'{}", choice.checkpoint,
              DidYouMean(choice.checkpoint, checkpoints));
  const std::string& path = choice.run.empty() ? choice.adapter : choice.run;
  const RunDir dir = RunDir::Open(path);
  OpenedModel opened;
  opened.config = dir.config();
  RunConfig& c = opened.config;
  if (choice.run.empty()) {
    if (c.base_sha256.empty() && c.model != choice.model)
      Fail("{}: a run on {}, not on {}", path, c.model, choice.model);
    c.model = choice.model;
    if (!choice.arch.empty()) c.arch = choice.arch;
  }
  opened.description = fmt::format("{} ({}, {})", path, c.method, choice.checkpoint);
  OpenForTask(choice, open, &opened);
  FillTrained(opened, dir.file(choice.checkpoint + ".safetensors"),
              [&] { return dir.LoadWeights(choice.checkpoint, opened.model.params); });
  return opened;
}

OpenedModel OpenAdapter(const ModelChoice& choice, const OpenBase& open) {
  const AdapterFile adapter = AdapterFile::Open(choice.adapter);
  OpenedModel opened;
  opened.config = adapter.config;
  opened.config.model = choice.model, opened.config.arch = choice.arch;
  opened.description = fmt::format("{} with {}", choice.model, choice.adapter);
  OpenForTask(choice, open, &opened);
  FillTrained(opened, adapter.path, [&] { return adapter.LoadInto(opened.model.params); });
  return opened;
}

Preprocess ChoosePreprocess(const ModelChoice& choice, const LoadedModel& m, InputKind kind) {
  const bool own = kind == InputKind::kImages || m.metadata.contains("graft.preprocess");
  return own ? ModelPreprocess(choice.preprocess, m) : DataPreprocess(choice.preprocess, m.vit());
}

// The transform of images, and positions for their size.
void FitImages(const ModelChoice& choice, InputKind kind, OpenedModel* opened) {
  if (opened->model.is_bert()) return;
  opened->preprocess = ChoosePreprocess(choice, opened->model, kind);
  AdaptModel(opened->model, opened->preprocess.size(), {}, opened->seed);
  opened->config.preprocess = ToString(opened->preprocess);
}

// The classes of the adapter's head. peft stores no names; Graft adds them to the file's metadata.
void SetClasses(const ModelChoice& choice, const PeftAdapter& adapter, const PeftOnModel& fitted,
                OpenedModel* opened) {
  LoadedModel& m = opened->model;
  opened->headless = !m.params.Has("head.weight");
  if (opened->headless && !choice.headless)
    Fail(
        "{}: no head, and {} is a backbone without one; hint: graft export --format hf --merged, "
        "or hf-peft",
        adapter.path, m.source);
  if (opened->headless) return AdaptClasses(m, {"0", "1"}, opened->seed);
  const bool same = fitted.classes == 0 || fitted.classes == Classes(m.config);
  if (fitted.classes > 0) Classes(m.config) = fitted.classes;
  const StringMap& metadata = adapter.file.metadata();
  if (const auto it = metadata.find("graft.labels"); it != metadata.end()) {
    m.labels = ParseLabels(it->second, adapter.file.path() + " (metadata graft.labels)");
    DropProblemType(&m);
  } else if (!same) {
    m.labels.clear();
  }
  if (static_cast<int64_t>(m.labels.size()) != Classes(m.config)) m.labels.clear();
  opened->config.labels = m.labels;
  for (int64_t i = 0; m.labels.empty() && i < Classes(m.config); ++i)
    opened->config.labels.push_back(std::to_string(i));
}

OpenedModel OpenPeft(const ModelChoice& choice, const CommonOptions& common, InputKind kind,
                     const OpenBase& open) {
  const PeftAdapter adapter = PeftAdapter::Open(choice.adapter);
  const StringMap& metadata = adapter.file.metadata();
  OpenedModel opened;
  RunConfig& c = opened.config;
  opened.seed = static_cast<uint64_t>(common.seed);  // of init:ARCH
  opened.description = fmt::format("{} with {}", choice.model, choice.adapter);
  c.model = choice.model, c.arch = choice.arch;
  if (const auto it = metadata.find("graft.base_sha256"); it != metadata.end())
    c.base_sha256 = it->second;
  CheckBase(c);
  LoadedModel& m = opened.model;
  m = open(choice.model, choice.arch, opened.seed);
  const PeftOnModel fitted = FitPeft(adapter, m, BuildModel(m.config));
  CheckPeftLedger(adapter, fitted);
  if (const auto it = metadata.find("graft.preprocess"); it != metadata.end() && !m.is_bert())
    m.metadata["graft.preprocess"] =
        ToString(PreprocessOfMetadata(it->second, adapter.file.path()));
  c.max_length = MaxLengthOf(metadata, c.max_length, adapter.file.path());
  FitImages(choice, kind, &opened);
  LoadPeft(adapter, fitted, m.params);
  SetClasses(choice, adapter, fitted, &opened);
  for (const PeftOnModel::Tensor& t : fitted.tensors) opened.trained.push_back(t.parameter);
  opened.method = fitted.method;
  opened.peft = {fitted.naming, adapter.config.base, adapter.config.task_type, adapter.file, {}};
  for (const KeyLedger::Reshaped& copy : fitted.ledger.reshaped)
    opened.peft->copies.push_back(copy.key);
  c.method = ToString(opened.method);
  return opened;
}

OpenedModel OpenPlain(const ModelChoice& choice, const CommonOptions& common, InputKind kind,
                      const OpenBase& open) {
  OpenedModel opened;
  opened.description = choice.model;
  opened.seed = static_cast<uint64_t>(common.seed);
  opened.model = open(choice.model, choice.arch, opened.seed);
  LoadedModel& m = opened.model;
  opened.headless = !m.params.Has("head.weight");
  if (opened.headless && !choice.headless)
    Fail(
        "{0}: a backbone without a classification head; hint: train one with graft train --model "
        "{0} "
        "--method linear --data DATA --out RUN",
        choice.model);
  FitImages(choice, kind, &opened);
  if (static_cast<int64_t>(m.labels.size()) != Classes(m.config)) m.labels.clear();
  opened.config.model = choice.model, opened.config.labels = m.labels;
  opened.config.max_length = MaxLengthOf(m.metadata, opened.config.max_length, m.source);
  opened.config.method.clear();
  return opened;
}

}  // namespace

bool IsRunDirectory(const std::string& path) {
  struct stat s;
  const std::string file = path + "/config.json";
  if (stat(file.c_str(), &s) != 0) return false;
  const Json config = ReadJson(file);
  return config.is_object() && config.contains("base_sha256") && config.contains("method");
}

void CheckIsModel(const std::string& path, bool takes_adapter) {
  if (path.starts_with("init:")) return;
  const bool run = IsRunDirectory(path);
  if (!run && !LooksLikePeft(path) && !LooksLikeAdapter(path)) return;
  const std::string choice = run ? "--run " + path : "--model BASE --adapter " + path;
  FailUsage(
      "--model {}: this is {}; hint: {}", path, run ? "a run" : "an adapter",
      takes_adapter ? choice : fmt::format("merge it first: graft fuse {} --out FILE", choice));
}

void AddModelOptions(CLI::App& command, ModelChoice& choice, std::vector<std::string>* adapters) {
  command.add_option("--run", choice.run, "run directory of graft train");
  command.add_option("--checkpoint", choice.checkpoint, "last or best, of the run")
      ->capture_default_str();
  command.add_option("--model", choice.model,
                     "safetensors file, Hugging Face directory, fused file, or init:ARCH");
  const std::string adapter =
      "for --model: a directory of Hugging Face peft, a file of graft export, or a run on it";
  if (adapters)
    command.add_option("--adapter", *adapters, adapter + "; may be repeated")
        ->allow_extra_args(false);
  else
    command.add_option("--adapter", choice.adapter, adapter);
  command.add_option("--arch", choice.arch, "architecture, where the checkpoint does not tell");
  command.add_option("--preprocess", choice.preprocess,
                     "of images: preset or full text; 'list' shows the presets");
  command.add_option("--tokenizer", choice.tokenizer,
                     "of texts: vocab.txt or tokenizer.json (default: the model's)");
  command
      .add_option("--max-length", choice.max_length,
                  "of texts: most tokens of one (default: the run's, else 128 or, if fewer, the "
                  "model's positions)")
      ->check(CLI::Range(kLeastMaxLength, kMostMaxLength));
}

OpenedModel OpenModel(const ModelChoice& choice, const CommonOptions& common, InputKind kind,
                      const OpenBase& base) {
  if (choice.run.empty() == choice.model.empty())
    FailUsage("{}", choice.run.empty() ? "expected --run RUN or --model M"
                                       : "expected one of --run and --model, found both");
  if (!choice.run.empty() && !choice.adapter.empty())
    FailUsage("--adapter goes with --model, not with --run");
  if (!choice.run.empty() && !choice.arch.empty())
    FailUsage("--arch goes with --model; a run knows its architecture");
  const std::string& run = choice.run.empty() ? choice.adapter : choice.run;
  if (choice.checkpoint != "last" && (run.empty() || (choice.run.empty() && !IsRunDirectory(run))))
    FailUsage("--checkpoint {}: goes with a run, not with {}", choice.checkpoint,
              run.empty() ? choice.model : run);
  if (!choice.model.empty()) CheckIsModel(choice.model, true);
  const auto open = [&] {
    if (!choice.run.empty()) return OpenRun(choice, base);
    if (choice.adapter.empty()) return OpenPlain(choice, common, kind, base);
    if (LooksLikePeft(choice.adapter)) return OpenPeft(choice, common, kind, base);
    return IsRunDirectory(choice.adapter) ? OpenRun(choice, base) : OpenAdapter(choice, base);
  };
  OpenedModel opened = open();
  CheckInputOptions(opened.model, choice.preprocess, choice.tokenizer, choice.max_length);
  if (!choice.tokenizer.empty()) opened.config.tokenizer = choice.tokenizer;
  if (choice.max_length) opened.config.max_length = choice.max_length;
  opened.config.max_length = MaxLength(opened.config, opened.model);
  CheckRunConfig(opened.config);
  return opened;
}

Graph OpenedModel::Inference(bool loss) {
  if (!method.empty()) return InferenceGraph(model.config, method, model.params, seed, loss);
  Graph g = BuildModel(model.config, {.loss = loss});
  g.EraseUnusedInputs();
  return g;
}

void CheckProblem(const OpenedModel& opened) {
  const std::string problem = ProblemType(opened.model);
  const bool one = Classes(opened.model.config) == 1;
  if (!one && (problem.empty() || problem == "single_label_classification")) return;
  Fail(
      "{}: {}, expected a model that chooses one of several classes; hint: train such a head: "
      "graft train --model {} --data DATA --method linear --out RUN",
      opened.description, problem.empty() ? "a head with one output" : "problem_type " + problem,
      opened.config.model);
}

void CheckClasses(const OpenedModel& opened, TaskDataset* data) {
  CheckProblem(opened);
  const int64_t model = Classes(opened.model.config), found = data->num_classes();
  if (model != found)
    Fail(
        "{} has {} classes, the data set {} has {}; hint: eval on the data it was trained for, or "
        "train a head: "
        "graft train --model M --data {} --method linear --out RUN",
        opened.description, model, data->directory(), found, data->directory());
  data->NumberClassesAs(opened.labels(), opened.description);
}

SessionOptions InferenceOptions(const Graph& graph, ParamStore& params, const ModelConfig& config,
                                const TaskData& data, const CommonOptions& common) {
  const int64_t n = static_cast<int64_t>(std::max<size_t>(data.size(), 1));
  Graph optimised = graph;
  InferencePasses(common.disabled_passes).Run(optimised);
  return OptionsWithinBudget(optimised, params, ChooseCapacity(config, data.longest(), n),
                             data.longest(), common.memory_budget);
}

}  // namespace graft
