// A run's configuration as config.json of its directory. Apart from run_config.h, so that programs
// that use the library need no JSON.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "train/run_config.h"

namespace graft {

nlohmann::json ToJson(const RunConfig& config);
// Throws Error naming the file and the key for a missing or mistyped one.
RunConfig RunConfigFromJson(const nlohmann::json& json, const std::string& where);

}  // namespace graft
