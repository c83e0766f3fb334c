#include "tools/lib/fuser.h"

#include <sys/stat.h>

#include <filesystem>

#include "runtime/io/atomic_file.h"
#include "runtime/io/json.h"
#include "tools/lib/memory_budget.h"

namespace graft {
namespace {

constexpr size_t kMostTokenizerBytes = size_t{1} << 30;
constexpr size_t kProofExamples = 64, kRandomExamples = 16;

// Inputs for the proof: of a data set if there is one, else random.
std::unique_ptr<TaskData> ProofData(const OpenedModel& opened, const std::string& data_path,
                                    bool* random) {
  const RunConfig& c = opened.config;
  const std::string path = data_path.empty() ? c.data : data_path;
  struct stat s;
  *random = data_path.empty() && stat(path.c_str(), &s) != 0;
  if (*random) return MakeRandomData(kRandomExamples, opened.model, static_cast<uint64_t>(c.seed));
  const TaskDataset data(path, c.columns);
  std::string split = data.DefaultTestSplit();
  if (split.empty()) split = data.split_names().front();
  return data.Load(split, kProofExamples, opened.model, c);
}

}  // namespace

FusedModel Fuse(OpenedModel opened, const std::string& data, const CommonOptions& common) {
  if (opened.method.empty()) FailUsage("{}: a plain model, nothing to merge", opened.description);
  const ModelConfig& config = opened.model.config;
  FusedModel fused;
  const std::unique_ptr<TaskData> inputs = ProofData(opened, data, &fused.random_inputs);
  const Counts capacity =
      ChooseCapacity(config, inputs->longest(), static_cast<int64_t>(inputs->size()));
  // Without passes: the graphs as they are.
  const auto logits = [&](const Graph& g, ParamStore& params) {
    const SessionOptions options =
        OptionsWithinBudget(g, params, capacity, inputs->longest(), common.memory_budget);
    return Evaluator(g, params, options, PassNames()).Logits(*inputs);
  };
  FusedWeights weights = Fuse(config, opened.method, opened.model.params, logits, opened.seed);
  fused.params = std::move(weights.params), fused.proof = weights.proof;
  fused.config = std::move(opened.config), fused.model = std::move(opened.model);
  return fused;
}

namespace {

// preprocessor_config.json. Only CLIP's image processor scales the shorter side and then crops.
nlohmann::json HuggingFaceProcessor(const Preprocess& p) {
  nlohmann::json json{{"do_resize", true},
                      {"do_rescale", true},
                      {"do_normalize", true},
                      {"rescale_factor", 1.0 / 255},
                      {"resample", p.filter == Filter::kBicubic ? 3 : 2},
                      {"image_mean", p.mean},
                      {"image_std", p.std}};
  if (p.crop == 0) {
    json["image_processor_type"] = "ViTImageProcessor";
    json["size"] = {{"height", p.resize}, {"width", p.resize}};
  } else {
    json["image_processor_type"] = "CLIPImageProcessor";
    json["do_convert_rgb"] = true;
    json["size"] = {{"shortest_edge", p.resize}};
    json["do_center_crop"] = true;
    json["crop_size"] = {{"height", p.crop}, {"width", p.crop}};
  }
  return json;
}

}  // namespace

void CopyTokenizer(const std::string& from, const std::string& directory) {
  namespace fs = std::filesystem;
  const auto copy = [&](const fs::path& file, const char* name) {
    if (fs::is_regular_file(file))
      WriteFileAtomically(directory + "/" + name, ReadFile(file, kMostTokenizerBytes));
  };
  const fs::path file(from), folder = fs::is_directory(file) ? file : file.parent_path();
  if (folder == file) {
    for (const char* name : {"tokenizer.json", "vocab.txt"}) copy(folder / name, name);
  } else {
    copy(file, file.extension() == ".json" ? "tokenizer.json" : "vocab.txt");
  }
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"})
    copy(folder / name, name);  // it is read with those beside it
}

void SaveFused(const FusedModel& fused, const std::string& path) {
  SaveModel(fused.model, fused.params, path, ModelMetadata(fused.model, fused.config));
  if (fused.model.layout != Layout::kHuggingFace) return;
  if (fused.model.is_bert()) {
    const RunConfig& c = fused.config;
    if (!c.tokenizer.empty()) return CopyTokenizer(c.tokenizer, path);
    if (std::filesystem::is_directory(c.model)) CopyTokenizer(c.model, path);
    return;
  }
  const Preprocess p = ParsePreprocess(fused.config.preprocess);
  WriteFileAtomically(path + "/preprocessor_config.json",
                      DumpJson(HuggingFaceProcessor(p), 2) + "\n");
}

}  // namespace graft
