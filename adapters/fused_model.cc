#include "adapters/fused_model.h"

#include <filesystem>

#include "runtime/io/atomic_file.h"
#include "runtime/io/json.h"

namespace graft {

FusedModel Fuse(OpenedModel opened, const LogitsOf& logits, FileDType weights) {
  if (opened.method.empty()) FailUsage("{}: a plain model, nothing to merge", opened.description);
  FusedWeights fused =
      Fuse(opened.model.config, opened.method, opened.model.params, logits, {opened.seed, weights});
  return {std::move(opened.model), std::move(fused.params), std::move(opened.facts), fused.proof,
          weights};
}

namespace {

constexpr size_t kMostTokenizerBytes = size_t{1} << 30;

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
  SaveModel(fused.model, fused.params, path, ModelMetadata(fused.model, fused.facts),
            fused.weights);
  if (fused.model.layout != Layout::kHuggingFace) return;
  if (fused.model.is_bert()) {
    const AdapterFacts& c = fused.facts;
    if (!c.tokenizer.empty()) return CopyTokenizer(c.tokenizer, path);
    if (std::filesystem::is_directory(c.model)) CopyTokenizer(c.model, path);
    return;
  }
  const Preprocess p = ParsePreprocess(fused.facts.preprocess);
  WriteFileAtomically(path + "/preprocessor_config.json",
                      DumpJson(HuggingFaceProcessor(p), 2) + "\n");
}

}  // namespace graft
