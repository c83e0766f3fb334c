// Vision-transformer checkpoints of others: which file tensor is which canonical parameter, in both
// directions, with a ledger of every key so that nothing is lost in silence.
#pragma once
#include <nlohmann/json.hpp>

#include "models/vit.h"
#include "runtime/io/safetensors.h"

namespace graft {

// The naming that a file uses. timm: fused qkv. Hugging Face: split, under `vit.` or `deit.` or
// without a prefix for bare backbones.
enum class Layout { kTimm, kHuggingFace };

// What happened to every key of the file and of the model.
struct KeyLedger {
  struct Reshaped {
    std::string key, from, to, why;
  };
  std::vector<std::string> matched;     // file keys
  std::vector<std::string> missing;     // canonical names that the file lacks
  std::vector<std::string> unexpected;  // file keys that the model does not use
  std::vector<Reshaped> reshaped;
};

// A model as it came: canonical parameters, its architecture and where each fact of it came from.
struct LoadedModel {
  VitConfig config;
  ParamStore params;
  KeyLedger ledger;
  Layout layout = Layout::kTimm;
  std::string prefix;                              // of Hugging Face keys, "vit."
  std::string source;                              // path or "init:ARCH"
  std::map<std::string, std::string> fact_source;  // "heads" -> "config.json", ...
  std::map<std::string, std::string> metadata;     // of the file
  nlohmann::json hf_config;                        // config.json as read, else null
  std::vector<std::string> labels;                 // class names, if the file knows them
  std::string architecture() const;                // "vit_tiny_patch16_224" or a description
};

// M of docs/cli.md: a safetensors file, a Hugging Face directory, or init:ARCH (seeded weights).
// `arch` is --arch or "". Throws Error for an unknown architecture, missing keys, wrong shapes,
// distilled DeiT. A missing head is not an error here: `ledger` tells and NeedHead() adds one.
LoadedModel LoadModel(const std::string& source, const std::string& arch, uint64_t seed);

// Makes the model fit a task: image size (positions are resampled) and classes (a fresh head,
// unless the model's labels are these already). Entries in the ledger say what was done.
void AdaptModel(LoadedModel& model, int64_t image_size, const std::vector<std::string>& labels,
                uint64_t seed);

// Writes canonical parameters back under the names, shapes and fusions of the layout that the model
// came in: a file for timm, a directory with config.json for Hugging Face.
void SaveModel(const LoadedModel& model, const ParamStore& params, const std::string& path,
               const StringMap& metadata);

}  // namespace graft
