// Measures what memory gives to kernels, level by level: the slopes of rooflines.
#pragma once
#include <cstddef>
#include <vector>

namespace graft {

// What `threads` threads read and write per second where everything lies in one level. They compute
// the triad a = b + 3 c over arrays of each thread's own, which together fill half of the level (of
// L3 half of a thread's share); for DRAM they have three times the size of L3.
struct LevelRate {
  const char* level = "";       // "L1", "L2", "L3", "DRAM"
  size_t bytes = 0;             // of the three arrays of a thread
  double bytes_per_second = 0;  // of all threads together
};
// Returns the best of several samples of a millisecond or more. L3 is left out where a thread's
// share of it is no larger than its L2. Takes some tenths of a second. Throws Error if there is no
// memory.
std::vector<LevelRate> MeasureLevels(int threads);
// The same of L1 and L2 alone, in some hundredths of a second and a few MiB.
std::vector<LevelRate> MeasureSmallLevels(int threads);

}  // namespace graft
