// Commands that several processes run together, started by mpirun or srun.
#pragma once
#include <functional>

#include "tools/lib/options.h"

namespace graft {

class ProcessGroup;

// Runs what mpirun or srun has started several times, with the group of these processes, or null
// for a process that runs alone. One process tells the errors of all. The others end with 0 after
// they have heard them, as a launcher kills all processes when one ends with an error.
void RunInGroup(const std::function<void(ProcessGroup*)>& run);

// The options as this process takes them: only the first of a group tells, and without --threads
// those that share cores divide them.
CommonOptions TellingFirst(const CommonOptions& common, const ProcessGroup* group);
CommonOptions SharingCores(const CommonOptions& common, ProcessGroup* group);

}  // namespace graft
