#include "runtime/affinity.h"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <cstddef>

namespace graft {
namespace {

// None if OpenMP does not bind.
std::vector<int> CpusOfPlaces() {
  std::vector<int> cpus;
  if (omp_get_proc_bind() == omp_proc_bind_false) return cpus;
  for (int place = 0; place < omp_get_num_places(); ++place) {
    std::vector<int> ids(static_cast<size_t>(std::max(0, omp_get_place_num_procs(place))));
    omp_get_place_proc_ids(place, ids.data());
    cpus.insert(cpus.end(), ids.begin(), ids.end());
  }
  return cpus;
}

}  // namespace

std::vector<int> AllowedCpus() {
  std::vector<int> cpus = CpusOfPlaces();
  if (!cpus.empty()) return cpus;
  // On machines with more than 1024 CPUs the mask has to grow until that of the kernel fits.
  for (int capacity = 1024; capacity <= 1 << 18; capacity *= 4) {
    cpu_set_t* mask = CPU_ALLOC(static_cast<size_t>(capacity));
    if (mask == nullptr) break;
    const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(capacity));
    const bool fits = sched_getaffinity(0, bytes, mask) == 0;
    for (int cpu = 0; fits && cpu < capacity; ++cpu)
      if (CPU_ISSET_S(static_cast<size_t>(cpu), bytes, mask)) cpus.push_back(cpu);
    CPU_FREE(mask);
    if (fits) break;
  }
  return cpus;
}

void UnbindThread() {
  const std::vector<int> cpus = CpusOfPlaces();
  if (cpus.empty()) return;
  const auto capacity = static_cast<size_t>(*std::ranges::max_element(cpus) + 1);
  cpu_set_t* mask = CPU_ALLOC(capacity);
  if (mask == nullptr) return;
  const size_t bytes = CPU_ALLOC_SIZE(capacity);
  CPU_ZERO_S(bytes, mask);
  for (const int cpu : cpus) CPU_SET_S(static_cast<size_t>(cpu), bytes, mask);
  sched_setaffinity(0, bytes, mask);  // if it is refused, the thread stays where it is
  CPU_FREE(mask);
}

}  // namespace graft
