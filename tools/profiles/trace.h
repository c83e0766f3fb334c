// A profile as a trace that Chrome (about:tracing) and Perfetto (ui.perfetto.dev) open.
#pragma once
#include <string>

#include "tools/profiles/measure.h"

namespace graft {

// Chrome's JSON trace format: one process; a track of steps, then one for each thread with its
// kernel calls, named by operator and scope. `args` has phase, flops and bytes (of a call at
// capacity), shape and kernel. A thread's track is that of the micro-batches it runs; where a call
// is made by all threads together it is on the first.
std::string ChromeTrace(const ProfileWork& work, const Profile& profile);

}  // namespace graft
