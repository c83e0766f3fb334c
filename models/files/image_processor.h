// The transform of images that a checkpoint states. It is kept as the text of --preprocess, which
// docs/cli.md describes and data/preprocess.h reads: models/ does not see data/.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "models/files/checkpoint.h"

namespace graft {

// The largest side in pixels that a stated transform may ask for, as in --preprocess.
inline constexpr int64_t kMostStatedSide = 16384;

// The transform of a Hugging Face image processor (preprocessor_config.json). The `model_type` of
// config.json tells its class where the file names none. Throws Error naming `path` and the key for
// what --preprocess cannot express exactly.
std::string ProcessorText(const nlohmann::json& processor, const std::string& model_type,
                          const std::string& path);

// Whether the object has a value for the key.
bool Stated(const nlohmann::json& object, const char* key);

// Reads three numbers, or one for all channels, and returns them joined by '|' and divided by
// `divisor`. Throws Error naming `path` and the key unless they are finite and, for a deviation,
// positive.
std::string ChannelsText(const nlohmann::json& value, const std::string& key, double divisor,
                         const std::string& path);

// Fills preprocess, preprocess_source and preprocess_problem of a vision transformer whose other
// facts are known. The first of these sources that exists tells: metadata graft.preprocess,
// preprocessor_config.json, timm's pretrained_cfg in `config`, the config.json (null if none).
void ReadStatedPreprocess(const nlohmann::json& config, LoadedModel* model);

}  // namespace graft
