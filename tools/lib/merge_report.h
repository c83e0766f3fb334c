// What fuse and export --merged report of a merge, and the type in which they write it.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "adapters/fused_model.h"

namespace graft {

inline constexpr const char* kWeightsHelp =
    "type of the merged model's weights: f32 (default), f16, bf16, or base, the base's";

// Parses --weights f32|f16|bf16|base. Throws Error (kUsage) for another word, for `base` if that
// has several types, and for a type that its form cannot hold.
FileDType ParseWeights(const std::string& word, const LoadedModel& base);

nlohmann::json ProofJson(const FusedModel& fused);
std::vector<std::string> ProofLines(const FusedModel& fused, const std::string& inputs);

}  // namespace graft
