// What this machine gives to this process: cores, caches, memory in use. Linux.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace graft {

struct CpuInfo {
  std::string model = "unknown";  // "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"
  int physical_cores = 1;         // that the affinity mask allows, siblings counted once
  double quota = 0;               // CPUs that the container (cgroup v1 or v2) may use; 0: no limit
  // Where the system tells nothing, the smallest sizes in use today; never 0.
  size_t l1d_bytes = 32 << 10, l2_bytes = 256 << 10, l3_bytes = 4 << 20;
};

// Reads `root`/proc and `root`/sys, where `cpus` are the allowed CPUs; for tests.
CpuInfo ReadCpuInfo(const std::string& root, const std::vector<int>& cpus);
// This machine, read once.
const CpuInfo& Cpu();

// Threads that neither share a core nor exceed the quota: physical cores allowed by affinity, at
// most the quota rounded up, at least 1.
int DefaultThreads(const CpuInfo& info);
int DefaultThreads();

// Memory of this process; 0 if the system does not tell.
size_t ResidentBytes();
size_t PeakResidentBytes();

// Since this process began, loading of the program included; 0 if the system does not tell.
double SecondsSinceStart();

}  // namespace graft
