// Counts what the processor does while a program runs: instructions, cycles, misses of the last
// cache.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace graft {

struct CounterValues {
  std::string why_not;  // one line, if nothing was counted; else ""
  double instructions = 0, cycles = 0, cache_references = 0, cache_misses = 0;
  // 64 bytes for each miss of the last cache; what the hardware fetches ahead is not in it.
  double dram_bytes() const { return 64 * cache_misses; }
};

// Counts for all threads that this process has when it is made (perf_event_open of each), in user
// code alone, which is what an unprivileged process may ask for.
class HardwareCounters {
 public:
  HardwareCounters();
  HardwareCounters(const HardwareCounters&) = delete;
  ~HardwareCounters();
  void Start();
  CounterValues Stop();

 private:
  std::vector<int> counters_[4];  // by thread
  std::string why_not_;
};

// A text such as "2.31 instructions a cycle, 0.4 % of 120,000 last-level references miss", or why
// there is none.
std::string CountersText(const CounterValues& values);

}  // namespace graft
