// A run's configuration made complete before it begins.
#pragma once
#include "train/run_config.h"

namespace graft {

// Fills in what the user left open (learning rate, splits, preprocessing, labels, and the base's
// hash if it is known already) and checks the data: split names, labels, overlap, at least two
// classes.
RunConfig CompleteRunConfig(RunConfig config);

}  // namespace graft
