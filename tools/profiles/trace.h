// A profile as a trace that Chrome (about:tracing) and Perfetto (ui.perfetto.dev) open.
#pragma once
#include <string>

#include "tools/profiles/measure.h"

namespace graft {

// Writes Chrome's JSON trace format: one process with a track of steps, then one track for each
// thread with its kernel calls, named by operator and scope. `args` has phase, flops and bytes (the
// mean of the step's calls), shape and kernel. A thread's track has the micro-batches that it runs;
// a call that all threads make together is on the first.
std::string ChromeTrace(const ProfileWork& work, const Profile& profile);

}  // namespace graft
