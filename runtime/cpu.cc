#include "runtime/cpu.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>

#include "runtime/affinity.h"
#include "runtime/error.h"

namespace graft {
namespace {

std::string ReadText(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return file ? text.str() : "";
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::optional<int64_t> ParseInt(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

// The value in the first line of the form "key<spaces>: value".
std::string Field(const std::string& text, std::string_view key) {
  for (const std::string& line : Lines(text)) {
    const size_t colon = line.find(':');
    if (!line.starts_with(key) || colon == std::string::npos) continue;
    if (line.find_first_not_of(" \t", key.size()) != colon) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

int CountCores(const std::string& root, const std::vector<int>& cpus) {
  std::set<std::string> cores;
  for (const int cpu : cpus) {
    const std::string topology =
        root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
    std::string siblings = ReadText(topology + "core_cpus_list");
    if (siblings.empty()) siblings = ReadText(topology + "thread_siblings_list");
    cores.insert(siblings.empty() ? "cpu" + std::to_string(cpu) : siblings);
  }
  return std::max<int>(1, static_cast<int>(cores.size()));
}

// The number of CPUs that one group may use; 0 if it has no limit.
double GroupQuota(const std::string& directory, bool v2) {
  std::istringstream text(v2 ? ReadText(directory + "/cpu.max")
                             : ReadText(directory + "/cpu.cfs_quota_us") + " " +
                                   ReadText(directory + "/cpu.cfs_period_us"));
  std::string quota, period;
  text >> quota >> period;
  const auto q = ParseInt(quota), p = ParseInt(period);  // "max" and "-1" mean no limit
  return q && p && *q > 0 && *p > 0 ? static_cast<double>(*q) / static_cast<double>(*p) : 0;
}

// The smallest quota of the group and all groups around it. In a container without a namespace of
// its own the path is that of the host and is not mounted, so the search ends at the mount.
double SmallestQuota(const std::string& mount, std::string path, bool v2) {
  double smallest = 0;
  while (true) {
    const double quota = GroupQuota(mount + path, v2);
    if (quota > 0) smallest = smallest > 0 ? std::min(smallest, quota) : quota;
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return smallest;
    path.resize(slash);
  }
}

double ReadQuota(const std::string& root) {
  const std::string base = root + "/sys/fs/cgroup";
  double smallest = 0;
  for (const std::string& line :
       Lines(ReadText(root + "/proc/self/cgroup"))) {  // id:controllers:path
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    const bool v2 = controllers.empty();
    if (!v2 && ("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
    for (const char* mount : {"", "/unified", "/cpu", "/cpu,cpuacct", "/cpuacct,cpu"}) {
      const bool v1_mount = std::string_view(mount).starts_with("/cpu");
      if (v1_mount == v2) continue;
      const double quota = SmallestQuota(base + mount, path, v2);
      if (quota > 0) smallest = smallest > 0 ? std::min(smallest, quota) : quota;
    }
  }
  return smallest;
}

void ReadCaches(const std::string& root, int cpu, CpuInfo* info) {
  for (int i = 0; i < 10; ++i) {
    const std::string cache = root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                              "/cache/index" + std::to_string(i) + "/";
    const std::string text = ReadText(cache + "size"), type = ReadText(cache + "type");
    const int64_t level = ParseInt(ReadText(cache + "level")).value_or(0);
    int64_t bytes = ParseInt(text).value_or(0);
    if (bytes <= 0 || bytes > (int64_t{1} << 32) || type.starts_with("Instruction")) continue;
    if (text.find('K') != std::string::npos) bytes <<= 10;
    if (text.find('M') != std::string::npos) bytes <<= 20;
    if (level == 1) info->l1d_bytes = static_cast<size_t>(bytes);
    if (level == 2) info->l2_bytes = static_cast<size_t>(bytes);
    if (level == 3) info->l3_bytes = static_cast<size_t>(bytes);
  }
}

size_t StatusBytes(std::string_view key) {
  return static_cast<size_t>(ParseInt(Field(ReadText("/proc/self/status"), key)).value_or(0) *
                             1024);
}

}  // namespace

CpuInfo ReadCpuInfo(const std::string& root, const std::vector<int>& cpus) {
  CpuInfo info;
  const std::string cpuinfo = ReadText(root + "/proc/cpuinfo");
  if (std::string model = Field(cpuinfo, "model name"); !model.empty()) info.model = model;
  info.physical_cores = CountCores(root, cpus);
  info.quota = ReadQuota(root);
  ReadCaches(root, cpus.empty() ? 0 : cpus.front(), &info);
  return info;
}

const CpuInfo& Cpu() {
  static const CpuInfo info = ReadCpuInfo("", AllowedCpus());
  return info;
}

void CheckInstructions() {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("sse4.2") || !__builtin_cpu_supports("aes") ||
      !__builtin_cpu_supports("pclmul"))
    Fail("this CPU ({}) lacks SSE4.2, AES or PCLMUL, which Graft's kernels need", Cpu().model);
#endif
}

int DefaultThreads(const CpuInfo& info) {
  int threads = info.physical_cores;
  if (info.quota > 0 && info.quota < threads) threads = static_cast<int>(std::ceil(info.quota));
  return std::max(1, threads);
}

int DefaultThreads() { return DefaultThreads(Cpu()); }

size_t ResidentBytes() { return StatusBytes("VmRSS"); }
size_t PeakResidentBytes() { return StatusBytes("VmHWM"); }

void ForgetPeakResident() {
  std::ofstream("/proc/self/clear_refs") << "5";  // proc(5)
}

double SecondsSinceStart() {
  // The name of the program stands in parentheses and may have spaces; field 22 is the 20th after
  // it.
  const std::string stat = ReadText("/proc/self/stat");
  std::istringstream fields(stat.substr(std::min(stat.rfind(')') + 1, stat.size())));
  std::string field;
  for (int i = 0; i < 20; ++i) fields >> field;
  const std::optional<int64_t> ticks = ParseInt(field);
  timespec now{};
  if (!fields || !ticks || clock_gettime(CLOCK_BOOTTIME, &now) != 0) return 0;
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec) -
         static_cast<double>(*ticks) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace graft
