// Progress of a command: lines of a training run, and how far other long work is.
#pragma once
#include <string>
#include <thread>

#include "tools/lib/options.h"
#include "train/trainer.h"

namespace graft {

// A line per epoch, and on a terminal a bar between them. The banner is the caller's.
TrainHooks ProgressHooks(const CommonOptions& options);

// Shows on standard error how far work is; nothing with --quiet.
WorkHook ProgressOf(const CommonOptions& options);

// While it lives, says how long work goes on of which nobody knows how far it is: after two
// seconds, as other progress. Nothing with --quiet.
class Heartbeat {
 public:
  Heartbeat(const CommonOptions& options, const std::string& what);
  ~Heartbeat();

 private:
  std::jthread thread_;
};

}  // namespace graft
