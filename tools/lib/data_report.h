// What commands say of examples that they leave out.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <span>

#include "tools/lib/options.h"
#include "train/dataset.h"

namespace graft {

// A list of objects {path, reason}.
nlohmann::json SkippedJson(std::span<const Skipped> skipped);
// Says one line for each.
void SaySkipped(const CommonOptions& options, std::span<const Skipped> skipped);

}  // namespace graft
