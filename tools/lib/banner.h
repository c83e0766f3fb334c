// What a person wants to know when a run begins.
#pragma once
#include "train/trainer.h"

namespace graft {

// The lines of a training that begins or goes on in `run`: model, data, method, steps, rate.
std::string StartBanner(const BeginReport& report, const std::string& run);
// The lines about precision and memory, which are known once the step is planned.
std::string PlanLines(const PlanReport& report);
// All settings as "key=value", in one line.
std::string AllSettings(const RunConfig& config);

}  // namespace graft
