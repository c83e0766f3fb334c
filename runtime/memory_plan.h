// Packs buffers with known lifetimes into one arena. Pure functions, which know nothing of graphs.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace graft {

struct Interval {
  size_t bytes = 0;
  int first = 0, last = 0;  // inclusive positions in execution order
};
struct MemoryPlan {
  std::vector<size_t> offset;  // by interval, multiples of the alignment
  size_t bytes = 0;            // of the arena
  size_t lower_bound = 0;      // the largest sum of intervals alive at one position
};
// Returns the bytes of the intervals that are alive at each position (and at one past the last).
std::vector<size_t> LiveBytes(std::span<const Interval> intervals, size_t alignment = 64);
MemoryPlan PlanMemory(std::span<const Interval> intervals, size_t alignment = 64);

}  // namespace graft
