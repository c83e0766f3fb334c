#include "adapters/open_model.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "adapters/adapter_file.h"
#include "adapters/hf/peft_reader.h"
#include "adapters/method_graph.h"
#include "models/arch_text.h"
#include "models/files/architecture.h"
#include "peft/merge.h"
#include "runtime/io/json.h"
#include "runtime/io/near_path.h"

namespace graft {
namespace {

// Opens the model of a run or adapter, for images of the size that the user wants, else of its own.
void OpenForTask(const ModelChoice& choice, const OpenBase& open, OpenedModel* opened) {
  AdapterFacts& c = opened->facts;
  if (!choice.preprocess.empty())
    c.preprocess = choice.preprocess, c.preprocess_source = "--preprocess";
  if (!choice.tokenizer.empty()) c.tokenizer = choice.tokenizer;
  opened->seed = static_cast<uint64_t>(c.seed);
  opened->method = ParseMethod(c.method);
  opened->model = OpenAdapted(c, open);
  if (!opened->model.is_bert()) opened->preprocess = ParsePreprocess(c.preprocess);
}

// The same file means something else where other facts are assumed of it: throws Error if heads,
// eps, activation or pooling of `model` are not those of the model that `adapter` was trained on,
// or if that had seeded random weights (init:, no hash) and this one is a file.
void CheckSameFacts(const ModelConfig& trained, const std::string& base_sha256,
                    const std::string& adapter, const LoadedModel& model) {
  if (base_sha256.empty() && !model.source.starts_with("init:"))
    Fail("{}: trained on seeded random weights (init:), which {} has not", adapter, model.source);
  const char* kind = model.is_bert() ? "bert" : "vit";
  if (std::holds_alternative<BertConfig>(trained) != model.is_bert())
    Fail("{}: trained on another kind of model than {}, a {}", adapter, model.source, kind);
  std::vector<std::string> before, now;
  for (const char* fact : {"heads", "eps", model.is_bert() ? "activation" : "gelu", "pool"}) {
    const std::string was = FieldText(trained, fact), is = FieldText(model.config, fact);
    if (was == is) continue;
    before.push_back(fmt::format("{}={}", fact, was));
    now.push_back(fmt::format("{}={}", fact, is));
  }
  if (before.empty()) return;
  const std::string facts = fmt::format("{}", fmt::join(before, ","));
  Fail("{}: trained with {}, but {} is read with {}; hint: --arch \"{}({})\"", adapter, facts,
       model.source, fmt::join(now, ","), kind, facts);
}

// Makes the method's parameters and fills them from `file`. Refuses a file that lacks one that the
// method trains, as that would keep its random initial value.
void FillTrained(OpenedModel& opened, const std::string& file) {
  const Graph g = MethodGraph(opened.model.config, {}, opened.method, opened.model.params,
                              opened.seed, nullptr, true);
  opened.trained = LoadAdapterTensors(file, opened.model.params);
  const std::set<std::string> found(opened.trained.begin(), opened.trained.end());
  for (ValueId v : g.Trainable())
    if (const std::string& name = g.value(v).name; !found.contains(name))
      Fail("{}: no tensor for '{}', which {} trains", file, name, opened.facts.method);
}

std::string CheckpointOf(const std::string& run, const std::string& name) {
  const std::string file = fmt::format("{}/{}.safetensors", run, name);
  if (!std::filesystem::exists(file))
    Fail("{}: no {} checkpoint yet; hint: graft train --resume {}", run, name, ShellWord(run));
  return file;
}

// Opens what --run RUN, or --model M --adapter RUN, names.
OpenedModel OpenRun(const ModelChoice& choice, const OpenBase& open) {
  const std::vector<std::string> checkpoints{"last", "best"};
  if (const std::string& name = choice.checkpoint;
      !name.empty() && std::ranges::find(checkpoints, name) == checkpoints.end())
    FailUsage("--checkpoint: '{}'{}", choice.checkpoint,
              DidYouMean(choice.checkpoint, checkpoints));
  const std::string& path = choice.run.empty() ? choice.adapter : choice.run;
  OpenedModel opened;
  opened.facts = ReadRunFacts(path);
  AdapterFacts& c = opened.facts;
  if (choice.run.empty()) {
    if (c.base_sha256.empty() && c.model != choice.model)
      Fail("{}: a run on {}, not on {}", path, c.model, choice.model);
    c.model = choice.model;
    if (!choice.arch.empty() && choice.arch != c.arch)
      FailUsage("--arch {}: {} was trained {}", choice.arch, path,
                c.arch.empty() ? "without it" : "with --arch " + c.arch);
  }
  opened.checkpoint = choice.checkpoint.empty() ? UsualCheckpoint(path) : choice.checkpoint;
  opened.description = fmt::format("{} ({}, {})", path, c.method, opened.checkpoint);
  OfFile(path + "/config.json", [&] {
    OpenForTask(choice, open, &opened);
    FillTrained(opened, CheckpointOf(path, opened.checkpoint));
  });
  return opened;
}

OpenedModel OpenAdapter(const ModelChoice& choice, const OpenBase& open) {
  const AdapterFile adapter = AdapterFile::Open(choice.adapter);
  OpenedModel opened;
  opened.facts = adapter.facts;
  opened.facts.model = choice.model, opened.facts.arch = choice.arch;
  opened.description = fmt::format("{} with {}", choice.model, choice.adapter);
  OfFile(adapter.path, [&] {
    OpenForTask(choice, open, &opened);
    CheckSameFacts(adapter.architecture, adapter.facts.base_sha256, adapter.path, opened.model);
    FillTrained(opened, adapter.path);
  });
  return opened;
}

// Chooses the transform of images, and fits the positions to their size.
void FitImages(const ModelChoice& choice, InputKind kind, OpenedModel* opened) {
  if (opened->model.is_bert()) return;
  const ChosenPreprocess chosen = ChoosePreprocess(choice.preprocess, opened->model, kind);
  opened->preprocess = chosen.value;
  AdaptModel(opened->model, opened->preprocess.size(), {}, opened->seed);
  opened->facts.preprocess = ToString(opened->preprocess);
  opened->facts.preprocess_source = chosen.source;
}

// Sets the classes of the adapter's head. peft stores no names; Graft adds them to the file's
// metadata.
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
    TaskOf(m.config) = TaskOfMetadata(metadata, adapter.file.path());
  } else if (!same) {
    m.labels.clear();
    TaskOf(m.config) = Classes(m.config) == 1 ? kRegression : kClassify;  // as transformers
  }
  opened->facts.task = TaskOf(m.config);
  if (std::ssize(m.labels) != Classes(m.config)) m.labels.clear();
  opened->facts.labels = m.labels;
  for (int64_t i = 0; m.labels.empty() && i < Classes(m.config); ++i)
    opened->facts.labels.push_back(std::to_string(i));
}

OpenedModel OpenPeft(const ModelChoice& choice, InputKind kind, const OpenBase& open) {
  const PeftAdapter adapter = PeftAdapter::Open(choice.adapter);
  const StringMap& metadata = adapter.file.metadata();
  OpenedModel opened;
  AdapterFacts& c = opened.facts;
  opened.seed = static_cast<uint64_t>(choice.seed);  // of init:ARCH
  opened.description = fmt::format("{} with {}", choice.model, choice.adapter);
  c.model = choice.model, c.arch = choice.arch;
  if (const auto it = metadata.find("graft.base_sha256"); it != metadata.end())
    c.base_sha256 = it->second;
  CheckBase(c);
  LoadedModel& m = opened.model;
  m = open(choice.model, choice.arch, opened.seed);
  if (const auto it = metadata.find("graft.config"); it != metadata.end()) {
    const std::string file = adapter.file.path();
    CheckSameFacts(ParseModelConfig(it->second, file + " (metadata graft.config)"), c.base_sha256,
                   file, m);
  }
  const PeftOnModel fitted = FitPeft(adapter, m, BuildModel(m.config));
  CheckPeftLedger(adapter, fitted);
  if (const auto it = metadata.find("graft.preprocess"); it != metadata.end() && !m.is_bert()) {
    m.preprocess = ToString(PreprocessOfMetadata(it->second, adapter.file.path()));
    m.preprocess_source = "metadata graft.preprocess of the adapter", m.preprocess_problem.clear();
  }
  c.max_length = MaxLengthOf(metadata, c.max_length, adapter.file.path());
  TakeTexts(metadata, &c, adapter.file.path());
  FitImages(choice, kind, &opened);
  LoadPeft(adapter, fitted, m.params);
  SetClasses(choice, adapter, fitted, &opened);
  for (const PeftOnModel::Tensor& t : fitted.tensors) opened.trained.push_back(t.parameter);
  opened.method = fitted.method;
  opened.peft = {fitted.naming, adapter.config.base, adapter.config.task_type, adapter.file, {}};
  for (const KeyLedger::Reshaped& copy : fitted.ledger.reshaped)
    if (!copy.key.ends_with(".zeros")) opened.peft->copies.push_back(copy.key);  // of GLORA
  c.method = ToString(opened.method);
  return opened;
}

OpenedModel OpenPlain(const ModelChoice& choice, InputKind kind, const OpenBase& open) {
  OpenedModel opened;
  opened.description = choice.model;
  opened.seed = static_cast<uint64_t>(choice.seed);
  opened.model = open(choice.model, choice.arch, opened.seed);
  LoadedModel& m = opened.model;
  opened.facts.model = choice.model, opened.facts.tokenizer = choice.tokenizer;
  TakePrompt(m.metadata, &opened.facts, m.source);
  opened.facts.labels = m.labels, opened.facts.task = TaskOf(m.config);
  if (!opened.facts.head.empty())
    OfFile(m.source + " (metadata graft.template, graft.words)", [&] {
      CheckFacts(opened.facts);
      TakeHead(opened.facts, &m);
    });
  opened.headless = !m.params.Has("head.weight") && opened.facts.head.empty();
  if (opened.headless && !choice.headless)
    Fail(
        "{0}: a backbone without a classification head; hint: train one with graft train --model "
        "{0} "
        "--method linear --data DATA --out RUN",
        choice.model);
  FitImages(choice, kind, &opened);
  if (std::ssize(m.labels) != Classes(m.config)) m.labels.clear();
  opened.facts.labels = m.labels;
  opened.facts.max_length = MaxLengthOf(m.metadata, opened.facts.max_length, m.source);
  TakeTexts(m.metadata, &opened.facts, m.source);
  opened.facts.method.clear();
  return opened;
}

// Models are often named as they are elsewhere, where programs download them.
[[noreturn]] void FailNoModel(const std::string& path) {
  std::string hint = DidYouMeanPath(path);
  bool arch = false;
  try {
    arch = ParseArch(path).named;
  } catch (const Error&) {  // not one
  }
  const bool hub = std::ranges::count(path, '/') <= 1 && !path.starts_with('.') &&
                   !path.starts_with('/') && !std::filesystem::path(path).has_extension();
  if (arch)
    hint = fmt::format(
        "; hint: init:{} has seeded random weights; graft downloads none that are trained "
        "(docs/first_hour.md)",
        path);
  else if (hint.empty() && hub)
    hint = fmt::format(
        "; hint: graft downloads nothing; if it is a model of the Hugging Face hub: hf download {} "
        "--local-dir DIR, then --model DIR",
        ShellWord(path));
  Fail("{}: there is no such model{}", path, hint);
}

}  // namespace

std::string UsualCheckpoint(const std::string& run) {
  const Json config = ReadJson(run + "/config.json");
  const auto it = config.find("val_split");
  const bool validated = it != config.end() && it->is_string() && *it != "";
  return validated && std::filesystem::exists(run + "/best.safetensors") ? "best" : "last";
}

void CheckIsModel(const std::string& path, bool takes_adapter, bool has_adapter) {
  if (path.starts_with("init:")) return;
  if (std::error_code ignored; !std::filesystem::exists(path, ignored)) FailNoModel(path);
  const bool run = IsRunDirectory(path), both = HoldsModelToo(path);
  if (!run && !LooksLikePeft(path) && !LooksLikeAdapter(path)) return;
  if (both && has_adapter) return;
  const std::string choice =
      run ? "--run " + path : fmt::format("--model {} --adapter {}", both ? path : "BASE", path);
  FailUsage(
      "--model {}: this is {}; hint: {}", path,
      run    ? "a run"
      : both ? "a model and an adapter (adapter_config.json) in one directory"
             : "an adapter",
      takes_adapter ? choice : fmt::format("merge it first: graft fuse {} --out FILE", choice));
}

OpenedModel OpenModel(const ModelChoice& choice, InputKind kind, const OpenBase& base) {
  if (choice.run.empty() == choice.model.empty())
    FailUsage("{}", choice.run.empty() ? "expected --run RUN or --model M"
                                       : "expected one of --run and --model, found both");
  if (!choice.run.empty() && !choice.adapter.empty())
    FailUsage("--adapter goes with --model, not with --run");
  if (!choice.run.empty() && !choice.arch.empty())
    FailUsage("--arch goes with --model; a run knows its architecture");
  const std::string& run = choice.run.empty() ? choice.adapter : choice.run;
  if (!choice.checkpoint.empty() && (run.empty() || (choice.run.empty() && !IsRunDirectory(run))))
    FailUsage("--checkpoint {}: goes with a run, not with {}", choice.checkpoint,
              run.empty() ? choice.model : run);
  if (!choice.model.empty()) CheckIsModel(choice.model, true, !choice.adapter.empty());
  const auto open = [&] {
    if (!choice.run.empty()) return OpenRun(choice, base);
    if (choice.adapter.empty()) return OpenPlain(choice, kind, base);
    if (LooksLikePeft(choice.adapter)) return OpenPeft(choice, kind, base);
    return IsRunDirectory(choice.adapter) ? OpenRun(choice, base) : OpenAdapter(choice, base);
  };
  OpenedModel opened = open();
  CheckInputOptions(opened.model, choice.preprocess, choice.tokenizer, choice.max_length);
  if (!choice.tokenizer.empty()) opened.facts.tokenizer = choice.tokenizer;
  if (choice.max_length) opened.facts.max_length = choice.max_length;
  opened.facts.max_length = MaxLength(opened.facts, opened.model);
  CheckFacts(opened.facts);
  return opened;
}

Graph OpenedModel::Inference(bool loss) {
  if (!method.empty()) return InferenceGraph(model.config, method, model.params, seed, loss);
  Graph g = BuildModel(model.config, {.loss = loss});
  g.EraseUnusedInputs();
  return g;
}

Graph OpenedModel::ToRun(bool loss) {
  Graph g = Inference(loss);
  FoldScales(g, model.params);
  return g;
}

void CheckProblem(const OpenedModel& opened) {
  if (MasksWords(opened.facts))
    Fail("{}: learnt to guess masked words and has no classes; hint: graft eval measures how well",
         opened.description);
  if (TaskOf(opened.model.config) != kClassify || Classes(opened.model.config) > 1) return;
  Fail(
      "{}: a head with one output, which nothing says is a regression; hint: train a head: graft "
      "train --model {} --data DATA --method linear --out RUN",
      opened.description, opened.facts.model);
}

}  // namespace graft
