// What this machine gives to this process, as Linux tells it: cores, caches, memory in use.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace graft {

struct CpuInfo {
  std::string model = "unknown";  // "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"
  int physical_cores = 1;         // as many as the affinity mask allows
  double quota = 0;               // CPUs that the container (cgroup v1 or v2) may use, or 0
  // Where the system tells nothing, these are the smallest sizes in use today. They are never 0.
  size_t l1d_bytes = 32 << 10, l2_bytes = 256 << 10, l3_bytes = 4 << 20;
};

// Reads `root`/proc and `root`/sys; `root` and `cpus`, the allowed CPUs, are for tests.
CpuInfo ReadCpuInfo(const std::string& root, const std::vector<int>& cpus);
// Describes this machine. It is looked at once.
const CpuInfo& Cpu();

// Throws Error on an x86 CPU that lacks the instructions which kernels are compiled with at least:
// SSE4.2, AES and carry-less multiplication (Intel's Westmere of 2010, AMD's Bulldozer of 2011).
void CheckInstructions();

// How many threads neither share a core nor exceed the quota: as many as physical cores are allowed
// by affinity, at most the quota rounded up, and at least 1.
int DefaultThreads(const CpuInfo& info);
int DefaultThreads();

// The memory of this process in bytes, or 0 if the system does not tell.
size_t ResidentBytes();
size_t PeakResidentBytes();
// From here on the most is what is resident now, or comes. Where Linux refuses it, nothing changes.
void ForgetPeakResident();

// The time since this process began to load the program, or 0 if the system does not tell.
double SecondsSinceStart();

}  // namespace graft
