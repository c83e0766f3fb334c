// Shows the progress of a command: lines of a training run, and how far other long work is.
#pragma once
#include <string>
#include <thread>

#include "tools/lib/options.h"
#include "train/trainer.h"

namespace graft {

// Shows a line for each epoch, and on a terminal a bar between them. The caller shows the banner.
TrainHooks ProgressHooks(const CommonOptions& options);

// Shows on standard error how far work is; nothing with --quiet.
WorkHook ProgressOf(const CommonOptions& options);

// While it lives, shows how long a piece of work has taken whose length nobody knows: after two
// seconds, as other progress does. Shows nothing with --quiet.
class Heartbeat {
 public:
  Heartbeat(const CommonOptions& options, const std::string& what);
  ~Heartbeat();

 private:
  std::jthread thread_;
};

}  // namespace graft
