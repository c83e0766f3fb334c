// Which CPUs the threads of this process may run on.
#pragma once
#include <vector>

namespace graft {

// Those of OpenMP's places, if it binds threads (OMP_PROC_BIND, OMP_PLACES, GOMP_CPU_AFFINITY),
// else those of the affinity mask. Where OpenMP binds, the mask does not tell: the main thread is
// bound to one core before main() begins.
std::vector<int> AllowedCpus();

// Lets the calling thread, and those that it starts, run on all of them.
void UnbindThread();

}  // namespace graft
