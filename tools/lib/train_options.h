// The options of a training, which graft train, bench, ablate and search have in common.
#pragma once
#include "tools/lib/options.h"
#include "train/run_config.h"

namespace graft {

// Adds the options of the examples, the steps and the optimizer.
void AddStepOptions(CLI::App& command, RunConfig& config);
// Adds all options but those that say what is trained, on which splits, and where it is kept.
void AddTrainingOptions(CLI::App& command, RunConfig& config);

// Is called after parsing: options that were not given get the values that stand for a default.
// Throws Error (kUsage) for such a value on the command line.
void TakeDefaults(const CLI::App& command, RunConfig* config);

}  // namespace graft
