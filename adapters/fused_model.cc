#include "adapters/fused_model.h"

#include <filesystem>

#include "models/text/tokenizer_config.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/fresh_directory.h"
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

// Makes preprocessor_config.json. The class is one that takes a size of this form. It cannot say
// where an odd margin is cut; that stands in our metadata.
nlohmann::json HuggingFaceProcessor(const Preprocess& p) {
  nlohmann::json json{{"do_resize", true},
                      {"do_rescale", true},
                      {"do_normalize", true},
                      {"rescale_factor", 1.0 / 255},
                      {"resample", p.filter == Filter::kBicubic ? 3 : 2},
                      {"image_mean", p.mean},
                      {"image_std", p.std}};
  const auto square = [](int side) { return nlohmann::json{{"height", side}, {"width", side}}; };
  const bool shorter = p.crop > 0 && p.fit != Fit::kBoth;
  json["image_processor_type"] = p.crop == 0 ? "ViTImageProcessor"
                                 : shorter   ? "CLIPImageProcessor"
                                             : "DeiTImageProcessor";
  json["size"] = shorter ? nlohmann::json{{"shortest_edge", p.resize}} : square(p.resize);
  if (p.crop == 0) return json;
  json["do_resize"] = p.fit != Fit::kNone;
  json["do_convert_rgb"] = true;
  json["do_center_crop"] = true;
  json["crop_size"] = square(p.crop);
  return json;
}

// How a tokenizer.json is read depends on what is beside it, such as a model's config.json. If the
// copy would be read in another way than the original, its configuration says which class it is of.
void KeepClass(const std::string& from, const std::string& directory) {
  TokenizerConfig was;
  try {
    was = ReadTokenizerConfig(from, false);
  } catch (const Error&) {
    return;  // a tokenizer that is not supported; the model is, without texts
  }
  const TokenizerConfig now = ReadTokenizerConfig(directory, false);
  if (was.bert == now.bert && was.types == now.types) return;
  const std::string path = directory + "/tokenizer_config.json";
  Json config = std::filesystem::exists(path) ? ReadJson(path) : Json::object();
  config["tokenizer_class"] = was.bert ? "BertTokenizer" : "PreTrainedTokenizerFast";
  config["model_input_names"] = {"input_ids", "attention_mask"};
  if (was.types) config["model_input_names"].push_back("token_type_ids");
  WriteFileAtomically(path, DumpJson(config, 2) + "\n");
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
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"})
    copy(folder / name, name);  // it is read with those beside it
  if (fs::is_regular_file(directory + "/tokenizer.json")) KeepClass(folder, directory);
}

std::vector<std::string> OtherInTransformers(const FusedModel& fused) {
  const LoadedModel& m = fused.model;
  std::vector<std::string> notes;
  if (m.layout != Layout::kHuggingFace) return notes;
  if (m.is_bert()) {
    if (m.bert().pool != "pooler" && m.params.Has("head.weight"))
      notes.push_back(fmt::format(
          "transformers computes other logits from it: it classifies by a pooler alone, and this "
          "model pools by '{}'; Graft reads it as it was trained",
          m.bert().pool));
    return notes;
  }
  const Preprocess p = ParsePreprocess(fused.facts.preprocess);
  const bool even = p.fit == Fit::kBoth && (p.resize - p.crop) % 2 == 0;
  if (p.crop > 0 && p.center == Center::kRound && !even)
    notes.push_back(
        "transformers may crop an image a pixel off: it rounds an odd margin down, and this "
        "transform to the nearest; Graft reads it as it was trained");
  return notes;
}

void SaveFused(const FusedModel& fused, const std::string& path) {
  const StringMap metadata = ModelMetadata(fused.model, fused.facts);
  if (fused.model.layout != Layout::kHuggingFace)
    return SaveModel(fused.model, fused.params, path, metadata, fused.weights);
  FreshDirectory directory(path);
  SaveModel(fused.model, fused.params, directory.path(), metadata, fused.weights);
  if (fused.model.is_bert()) {
    const AdapterFacts& c = fused.facts;
    const bool own = c.tokenizer.empty();
    if (!own || std::filesystem::is_directory(c.model))
      CopyTokenizer(own ? c.model : c.tokenizer, directory.path());
  } else {
    const Preprocess p = ParsePreprocess(fused.facts.preprocess);
    WriteFileAtomically(directory.path() + "/preprocessor_config.json",
                        DumpJson(HuggingFaceProcessor(p), 2) + "\n");
  }
  directory.Keep();
}

}  // namespace graft
