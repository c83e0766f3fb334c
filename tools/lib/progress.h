// Progress of a training run: a bar on a terminal, a line per epoch otherwise.
#pragma once
#include "tools/lib/options.h"
#include "train/trainer.h"

namespace graft {

TrainHooks ProgressHooks(const CommonOptions& options);

}  // namespace graft
