// What this machine can do: measured once, kept in the user's cache, and checked from time to time.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ops/bandwidth.h"
#include "ops/peak.h"

namespace graft {

struct MachineFacts {
  MachinePeak peak;
  std::vector<LevelRate> levels;  // of the caches that there are, then DRAM
  double age_seconds = 0;         // since they were measured
  bool stored = false;            // by an earlier process
  double load_average = 0;        // of the last minute, when asked for; -1 if not told
  double peak_now = 0;            // GFLOP/s in f32 at the moment of asking
};

// The facts for the threads and the SIMD target in use. They are kept in CacheDirectory()/machine,
// in one file for each CPU, caches, SIMD target, threads and version. They are measured (which
// takes about half a second) if there is none, if it is damaged or of other facts, and with
// `refresh`. The multiply-adds in f32, L1 and L2 are sampled each time, and where they are now
// faster than they were found to be, all is measured again and the better of both rates kept. A
// cache that cannot be read or written only costs time.
MachineFacts AskMachine(bool refresh);

// The level that a thread's kernel reads from and writes to, if all of its `bytes` stay there.
const LevelRate& LevelFor(const MachineFacts& machine, double bytes);

// Why figures of this moment may be worse than the machine's, a sentence for each reason.
std::vector<std::string> Disturbances(const MachineFacts& machine);
// Of the last minute; -1 if not told. What it says of other programs.
double LoadAverage();
std::vector<std::string> LoadDisturbances(double load_average);

std::string MachineText(const MachineFacts& machine);
// CPU, caches, SIMD target, threads and rates, as `--json` prints them.
nlohmann::json MachineJson(const MachineFacts& machine);
std::string AgeText(double seconds);  // "3 hours"

}  // namespace graft
