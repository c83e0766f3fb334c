// The options of a training, which graft train, bench, ablate and search have in common.
#pragma once
#include "tools/lib/options.h"
#include "train/run_config.h"

namespace graft {

// Of the examples, the steps and the optimizer.
void AddStepOptions(CLI::App& command, RunConfig& config);
// All but those that say what is trained, on which splits, and where it is kept.
void AddTrainingOptions(CLI::App& command, RunConfig& config);

// Behind parsing: what was not given gets the values that stand for a default. Throws Error
// (kUsage) for such a value on the command line.
void TakeDefaults(const CLI::App& command, RunConfig* config);

}  // namespace graft
