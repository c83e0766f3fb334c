// config.json of a model directory of timm's (timm.models.push_to_hf_hub, save_for_hf).
#pragma once
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace graft {

struct TimmConfig {
  std::string architecture;  // "vit_base_patch16_224", without the tag of its weights
  std::string global_pool;   // "" if nothing states it, "none" for ''
  int64_t classes = -1;      // of the classifier; 0 = a backbone, -1 = not stated
  // The model_args that the architecture was made with: numbers, words, "true", "false" and, for
  // null, "none"; lists and objects are kept as JSON.
  std::map<std::string, std::string> args;
  std::vector<std::string> labels;  // label_names, in order; empty if none or not one each
  std::string preprocess;           // text of --preprocess
  std::string preprocess_problem;   // why that cannot express the transform, else ""
};

// Returns nothing if `config` is not of this kind, which has "architecture" and no "model_type".
// Throws Error naming `path` and the key for wrong types and ranges, and for labels that are not as
// many as classes.
std::optional<TimmConfig> ReadTimmConfig(const nlohmann::json& config, const std::string& path);

}  // namespace graft
