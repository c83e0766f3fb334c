// What commands say of the examples that they leave out.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <span>

#include "tools/lib/options.h"
#include "train/dataset.h"

namespace graft {

// A list of {path, reason}.
nlohmann::json SkippedJson(std::span<const Skipped> skipped);
// A line for each.
void SaySkipped(const CommonOptions& options, std::span<const Skipped> skipped);

}  // namespace graft
