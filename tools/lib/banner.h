// What a person wants to know of a run that begins.
#pragma once
#include "train/trainer.h"

namespace graft {

// Lines of a training that begins or goes on in `run`: model, data, method, steps, rate.
std::string StartBanner(const BeginReport& report, const std::string& run);
// The line about memory, once that is planned.
std::string PlanLine(const PlanReport& report);
// All settings, "key=value" in one line.
std::string AllSettings(const RunConfig& config);

}  // namespace graft
