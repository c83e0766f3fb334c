#include "tools/lib/open_model.h"

#include <sys/stat.h>

#include <algorithm>

#include "runtime/io/json.h"
#include "tools/lib/adapter_file.h"
#include "tools/lib/hf_peft.h"
#include "tools/lib/run_dir.h"

namespace graft {
namespace {

[[noreturn]] void Usage(const std::string& message) { throw Error(message, ErrorKind::kUsage); }

OpenedModel OpenRun(const ModelChoice& choice) {
  const std::vector<std::string> checkpoints{"last", "best"};
  if (std::find(checkpoints.begin(), checkpoints.end(), choice.checkpoint) == checkpoints.end())
    Usage(fmt::format("--checkpoint: '{}'{}", choice.checkpoint,
                      DidYouMean(choice.checkpoint, checkpoints)));
  const RunDir dir = RunDir::Open(choice.run);
  OpenedModel opened;
  opened.config = dir.config();
  opened.description =
      fmt::format("{} ({}, {})", choice.run, opened.config.method, choice.checkpoint);
  opened.method = ParseMethod(opened.config.method);
  opened.seed = static_cast<uint64_t>(opened.config.seed);
  opened.model = OpenTaskModel(opened.config);
  opened.Inference(false);  // makes the method's parameters, which the checkpoint then fills
  opened.trained = dir.LoadWeights(choice.checkpoint, opened.model.params);
  opened.preprocess =
      ParsePreprocess(choice.preprocess.empty() ? opened.config.preprocess : choice.preprocess);
  return opened;
}

// A directory of `graft export --format graft` stands for the file in it.
OpenedModel OpenAdapter(const ModelChoice& choice) {
  struct stat s;
  const bool directory = stat(choice.adapter.c_str(), &s) == 0 && S_ISDIR(s.st_mode);
  const AdapterFile adapter =
      AdapterFile::Open(choice.adapter + (directory ? "/adapter.safetensors" : ""));
  OpenedModel opened;
  opened.config = adapter.config;
  opened.config.model = choice.model, opened.config.arch = choice.arch;
  opened.description = fmt::format("{} with {}", choice.model, choice.adapter);
  opened.method = ParseMethod(adapter.config.method);
  opened.seed = static_cast<uint64_t>(adapter.config.seed);
  opened.model = OpenTaskModel(opened.config);
  opened.Inference(false);
  opened.trained = adapter.LoadInto(opened.model.params);
  opened.preprocess =
      ParsePreprocess(choice.preprocess.empty() ? opened.config.preprocess : choice.preprocess);
  return opened;
}

Preprocess ChoosePreprocess(const ModelChoice& choice, const LoadedModel& m, InputKind kind) {
  const bool own = kind == InputKind::kImages || m.metadata.contains("graft.preprocess");
  return own ? ModelPreprocess(choice.preprocess, m) : DataPreprocess(choice.preprocess, m.vit());
}

// The classes of the adapter's head. peft stores no names; Graft adds them to the file's metadata.
void SetClasses(const PeftAdapter& adapter, const PeftOnModel& fitted, OpenedModel* opened) {
  LoadedModel& m = opened->model;
  if (!m.params.Has("head.weight"))
    Fail("{}: no head, and {} is a backbone without one", adapter.path, m.source);
  const bool same = fitted.classes == 0 || fitted.classes == m.vit().classes;
  if (fitted.classes > 0) m.vit().classes = fitted.classes;
  const StringMap& metadata = adapter.file.metadata();
  if (const auto it = metadata.find("graft.labels"); it != metadata.end())
    m.labels = ParseLabels(it->second, adapter.file.path() + " (metadata graft.labels)");
  else if (!same)
    m.labels.clear();
  if (static_cast<int64_t>(m.labels.size()) != m.vit().classes) m.labels.clear();
  opened->config.labels = m.labels;
  for (int64_t i = 0; m.labels.empty() && i < m.vit().classes; ++i)
    opened->config.labels.push_back(std::to_string(i));
}

OpenedModel OpenPeft(const ModelChoice& choice, const CommonOptions& common, InputKind kind) {
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
  m = LoadModel(choice.model, choice.arch, opened.seed);
  const PeftOnModel fitted = FitPeft(adapter, m, BuildVit(m.vit()));
  CheckPeftLedger(adapter, fitted);
  if (const auto it = metadata.find("graft.preprocess"); it != metadata.end())
    m.metadata["graft.preprocess"] = it->second;
  opened.preprocess = ChoosePreprocess(choice, m, kind);
  AdaptModel(m, opened.preprocess.size(), {}, opened.seed);  // positions, for another image size
  LoadPeft(adapter, fitted, m.params);
  SetClasses(adapter, fitted, &opened);
  for (const PeftOnModel::Tensor& t : fitted.tensors) opened.trained.push_back(t.parameter);
  opened.method = fitted.method;
  opened.peft = {fitted.naming, adapter.config.base, adapter.config.task_type};
  c.method = ToString(opened.method), c.preprocess = ToString(opened.preprocess);
  return opened;
}

OpenedModel OpenPlain(const ModelChoice& choice, const CommonOptions& common, InputKind kind) {
  if (!choice.model.starts_with("init:") && IsRunDirectory(choice.model))
    Usage(fmt::format("--model {0}: this is a run; hint: --run {0}", choice.model));
  OpenedModel opened;
  opened.description = choice.model;
  opened.seed = static_cast<uint64_t>(common.seed);
  opened.model = LoadModel(choice.model, choice.arch, opened.seed);
  LoadedModel& m = opened.model;
  if (!m.params.Has("head.weight"))
    Fail(
        "{0}: a backbone without a classification head; hint: train one with graft train --model "
        "{0} "
        "--method linear --data DATA --out RUN",
        choice.model);
  opened.preprocess = ChoosePreprocess(choice, m, kind);
  AdaptModel(m, opened.preprocess.size(), {}, opened.seed);  // positions, for another image size
  if (static_cast<int64_t>(m.labels.size()) != m.vit().classes) m.labels.clear();
  opened.config.model = choice.model, opened.config.labels = m.labels;
  opened.config.method.clear();
  opened.config.preprocess = ToString(opened.preprocess);
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

void AddModelOptions(CLI::App& command, ModelChoice& choice) {
  command.add_option("--run", choice.run, "run directory of graft train");
  command.add_option("--checkpoint", choice.checkpoint, "last or best, of the run")
      ->capture_default_str();
  command.add_option("--model", choice.model,
                     "safetensors file, Hugging Face directory, fused file, or init:ARCH");
  command.add_option("--adapter", choice.adapter,
                     "for --model: a directory of Hugging Face peft, or a file of graft export");
  command.add_option("--arch", choice.arch, "architecture, where the checkpoint does not tell");
  command.add_option("--preprocess", choice.preprocess,
                     "preset or full text; 'list' shows the presets");
}

OpenedModel OpenModel(const ModelChoice& choice, const CommonOptions& common, InputKind kind) {
  if (choice.run.empty() == choice.model.empty())
    Usage(choice.run.empty() ? "expected --run RUN or --model M"
                             : "expected one of --run and --model, found both");
  if (!choice.run.empty() && !choice.adapter.empty())
    Usage("--adapter goes with --model, not with --run");
  if (!choice.run.empty()) return OpenRun(choice);
  if (choice.adapter.empty()) return OpenPlain(choice, common, kind);
  return LooksLikePeft(choice.adapter) ? OpenPeft(choice, common, kind) : OpenAdapter(choice);
}

Graph OpenedModel::Inference(bool loss) {
  if (!method.empty()) return InferenceGraph(model.vit(), method, model.params, seed, loss);
  Graph g = BuildVit(model.vit(), {.loss = loss});
  g.EraseUnusedInputs();
  return g;
}

void CheckClasses(const OpenedModel& opened, const ImageDataset& data) {
  const int64_t model = opened.model.vit().classes, found = data.num_classes();
  if (model == found) return;
  Fail(
      "{} has {} classes, the data set {} has {}; hint: eval on the data it was trained for, or "
      "train a head: "
      "graft train --model M --data {} --method linear --out RUN",
      opened.description, model, data.directory(), found, data.directory());
}

int64_t InferenceBatch(const Graph& graph, OpenedModel& opened, int64_t images,
                       const CommonOptions& common) {
  int64_t batch = ChooseMicroBatch(opened.model.vit(), std::max<int64_t>(images, 1));
  if (common.memory_budget.empty()) return batch;
  const size_t budget = ParseBytes(common.memory_budget);
  Graph optimised = graph;
  InferencePasses(common.disabled_passes).Run(optimised);
  for (;; batch = (batch + 1) / 2) {
    const Session session(optimised, opened.model.params, {.capacity = {batch, 0}});
    const size_t need = session.planned_bytes() + opened.model.params.bytes().owned;
    if (need <= budget) return batch;
    if (batch == 1)
      Fail("--memory-budget {}: the smallest possible is {} MiB (one image at a time)",
           common.memory_budget, (need >> 20) + 1);
  }
}

}  // namespace graft
