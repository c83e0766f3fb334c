// What graft train says of a run at its end.
#pragma once
#include <nlohmann/json.hpp>

#include "tools/lib/options.h"
#include "train/trainer.h"

namespace graft {

// The object of --json, but for what only the command knows.
nlohmann::json TrainJson(const std::string& run, const TrainSummary& summary);
void SayDone(const TrainSummary& summary, const CommonOptions& common);

}  // namespace graft
