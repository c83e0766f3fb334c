// A run's configuration made complete before it begins.
#pragma once
#include "train/run_config.h"

namespace graft {

// Fills in what the user left open (learning rate, splits, preprocessing, labels, and the base's
// hash if it is known already) and checks the data: split names, labels, overlap, at least two
// classes. Chooses between the base's head and a fresh one; `notes` get what the user should know,
// a line each.
RunConfig CompleteRunConfig(RunConfig config, std::vector<std::string>* notes);

}  // namespace graft
