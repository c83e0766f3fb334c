// Progress of a command: lines of a training run, and how far other long work is.
#pragma once
#include "tools/lib/options.h"
#include "train/trainer.h"

namespace graft {

// A line per epoch, and on a terminal a bar between them. The banner is the caller's.
TrainHooks ProgressHooks(const CommonOptions& options);

// Shows on standard error how far work is; nothing with --quiet.
WorkHook ProgressOf(const CommonOptions& options);

}  // namespace graft
