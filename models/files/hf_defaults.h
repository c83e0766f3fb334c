// What transformers takes where a config.json does not say. Those of the first releases, and
// Google's small BERTs, say little.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "models/files/checkpoint.h"

namespace graft {

// The model_type of tensors under Hugging Face's names.
std::string TypeOfTensors(const LoadedModel& model);

// Puts what is absent into `config`, and returns the keys of what the tensors do not tell. Throws
// Error for an absent size that is another one in the tensors.
std::vector<std::string> FillDefaults(const std::string& path, const LoadedModel& model,
                                      nlohmann::json* config);

// One notice that names them, and where each fact came from.
void NoteDefaults(const nlohmann::json& config, const std::string& path,
                  const std::vector<std::string>& assumed, LoadedModel* model);

}  // namespace graft
