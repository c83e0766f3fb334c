#include "tools/profiles/counters.h"

#include <fmt/format.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "runtime/io/listing.h"
#include "tools/lib/report.h"

namespace graft {
namespace {

constexpr uint64_t kEvents[] = {PERF_COUNT_HW_INSTRUCTIONS, PERF_COUNT_HW_CPU_CYCLES,
                                PERF_COUNT_HW_CACHE_REFERENCES, PERF_COUNT_HW_CACHE_MISSES};

int Open(uint64_t event, int thread) {
  perf_event_attr attr{};
  attr.size = sizeof(attr);
  attr.type = PERF_TYPE_HARDWARE, attr.config = event;
  attr.disabled = 1, attr.exclude_kernel = 1, attr.exclude_hv = 1;
  attr.read_format = PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING;
  return static_cast<int>(
      syscall(SYS_perf_event_open, &attr, thread, -1, -1, PERF_FLAG_FD_CLOEXEC));
}

std::vector<int> ThreadsOfProcess() {
  std::vector<int> threads;
  for (const DirectoryEntry& entry : ListIfReadable("/proc/self/task"))
    threads.push_back(std::atoi(entry.name.c_str()));
  return threads;
}

// With fewer counters than events, the kernel lets them take turns, and tells for how long each was
// counted.
double CounterValue(int fd) {
  struct {
    uint64_t value, enabled, running;
  } read_values{};
  if (read(fd, &read_values, sizeof(read_values)) != sizeof(read_values) ||
      read_values.running == 0)
    return 0;
  return static_cast<double>(read_values.value) * static_cast<double>(read_values.enabled) /
         static_cast<double>(read_values.running);
}

std::string WhyNot(int error) {
  const std::string reason = std::system_category().message(error);
  if (error == ENOENT || error == EOPNOTSUPP || error == ENODEV)
    return reason + "; the machine, often a virtual one, shows no counters";
  if (error == EACCES || error == EPERM)
    return reason + "; see /proc/sys/kernel/perf_event_paranoid, and the container's seccomp rules";
  return reason;
}

}  // namespace

HardwareCounters::HardwareCounters() {
  for (const int thread : ThreadsOfProcess())
    for (size_t i = 0; i < std::size(kEvents); ++i) {
      const int fd = Open(kEvents[i], thread);
      if (fd >= 0)
        counters_[i].push_back(fd);
      else if (i < 2)  // some machines have no cache events
        why_not_ = WhyNot(errno);
    }
  if (counters_[0].empty() && why_not_.empty()) why_not_ = "/proc/self/task cannot be read";
}

HardwareCounters::~HardwareCounters() {
  for (const std::vector<int>& counters : counters_)
    for (const int fd : counters) close(fd);
}

void HardwareCounters::Start() {
  for (const std::vector<int>& counters : counters_)
    for (const int fd : counters) ioctl(fd, PERF_EVENT_IOC_ENABLE, 0);
}

CounterValues HardwareCounters::Stop() {
  CounterValues v;
  double* const values[] = {&v.instructions, &v.cycles, &v.cache_references, &v.cache_misses};
  for (size_t i = 0; i < std::size(kEvents); ++i)
    for (const int fd : counters_[i]) {
      ioctl(fd, PERF_EVENT_IOC_DISABLE, 0);
      *values[i] += CounterValue(fd);
    }
  v.why_not = why_not_;
  if (v.why_not.empty() && v.cycles == 0) v.why_not = "the counters stayed at 0";
  return v;
}

std::string CountersText(const CounterValues& v) {
  if (!v.why_not.empty()) return "no hardware counters: " + v.why_not;
  std::string text = fmt::format("{:.2f} instructions a cycle", v.instructions / v.cycles);
  if (v.cache_references > 0)
    text += fmt::format(", {} of {} references to the last cache miss ({} from memory)",
                        Percent(v.cache_misses / v.cache_references),
                        Grouped(static_cast<int64_t>(v.cache_references)),
                        Megabytes(static_cast<size_t>(v.dram_bytes())));
  return text;
}

}  // namespace graft
