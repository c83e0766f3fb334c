#include "tools/lib/open_model.h"

#include <sys/stat.h>

#include <algorithm>

#include "runtime/io/json.h"
#include "tools/lib/adapter_file.h"
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
  dir.LoadWeights(choice.checkpoint, opened.model.params);
  opened.preprocess =
      ParsePreprocess(choice.preprocess.empty() ? opened.config.preprocess : choice.preprocess);
  return opened;
}

OpenedModel OpenAdapter(const ModelChoice& choice) {
  const AdapterFile adapter = AdapterFile::Open(choice.adapter);
  OpenedModel opened;
  opened.config = adapter.config;
  opened.config.model = choice.model, opened.config.arch = choice.arch;
  opened.description = fmt::format("{} with {}", choice.model, choice.adapter);
  opened.method = ParseMethod(adapter.config.method);
  opened.seed = static_cast<uint64_t>(adapter.config.seed);
  opened.model = OpenTaskModel(opened.config);
  opened.Inference(false);
  adapter.LoadInto(opened.model.params);
  opened.preprocess =
      ParsePreprocess(choice.preprocess.empty() ? opened.config.preprocess : choice.preprocess);
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
  const bool own = kind == InputKind::kImages || m.metadata.contains("graft.preprocess");
  opened.preprocess =
      own ? ModelPreprocess(choice.preprocess, m) : DataPreprocess(choice.preprocess, m.vit());
  AdaptModel(m, opened.preprocess.size(), {}, opened.seed);  // positions, for another image size
  if (static_cast<int64_t>(m.labels.size()) != m.vit().classes) m.labels.clear();
  opened.config.model = choice.model, opened.config.labels = m.labels;
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
  command.add_option("--adapter", choice.adapter, "adapter file of graft export, for --model");
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
  return choice.adapter.empty() ? OpenPlain(choice, common, kind) : OpenAdapter(choice);
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
