// What transformers assumes where a config.json does not say. Files of the first releases, and
// Google's small BERTs, say little.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "models/files/checkpoint.h"

namespace graft {

// The model_type that tensors under Hugging Face's names belong to.
std::string TypeOfTensors(const LoadedModel& model);

// Puts absent keys into `config`, and returns those whose values the tensors do not tell. Throws
// Error if an absent size would be another one than in the tensors.
std::vector<std::string> FillDefaults(const std::string& path, const LoadedModel& model,
                                      nlohmann::json* config);

// Adds one notice that names these keys, and records where each fact came from.
void NoteDefaults(const nlohmann::json& config, const std::string& path,
                  const std::vector<std::string>& assumed, LoadedModel* model);

}  // namespace graft
