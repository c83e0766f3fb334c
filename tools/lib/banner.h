// What a person wants to know when a run begins.
#pragma once
#include "train/trainer.h"

namespace graft {

// The lines of a training that begins or goes on in `run`: model, data, method, steps, rate.
std::string StartBanner(const BeginReport& report, const std::string& run);
// The line about memory, which is known once the step is planned.
std::string PlanLine(const PlanReport& report);
// All settings as "key=value", in one line.
std::string AllSettings(const RunConfig& config);

}  // namespace graft
