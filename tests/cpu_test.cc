#include "runtime/cpu.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/test_util.h"

namespace graft::cpu_test {
namespace {

namespace fs = std::filesystem;

// A made-up /proc and /sys.
class FakeRoot {
 public:
  void Write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ + path).substr(0, (root_ + path).rfind('/')));
    std::ofstream(root_ + path) << text << '\n';
  }
  void Siblings(int cpu, const std::string& list) {
    Write("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list",
          list);
  }
  CpuInfo Read(const std::vector<int>& cpus) const { return ReadCpuInfo(root_, cpus); }

 private:
  TempDir temp_;
  const std::string root_ = temp_.path().string();
};

TEST(Cpu, NothingKnown) {
  const CpuInfo info = FakeRoot().Read({0, 1, 2});
  EXPECT_EQ(info.physical_cores, 3);  // without topology every CPU counts
  EXPECT_EQ(info.quota, 0);
  EXPECT_EQ(info.l1d_bytes, 32u << 10);
  EXPECT_EQ(DefaultThreads(info), 3);
  EXPECT_EQ(DefaultThreads(FakeRoot().Read({})), 1);
}

TEST(Cpu, SiblingsCountOnceAndOnlyIfAllowed) {
  FakeRoot root;
  for (int cpu = 0; cpu < 8; ++cpu)
    root.Siblings(cpu, std::to_string(cpu % 4) + "," + std::to_string(cpu % 4 + 4));
  EXPECT_EQ(root.Read({0, 1, 2, 3, 4, 5, 6, 7}).physical_cores, 4);
  EXPECT_EQ(root.Read({1, 5, 2}).physical_cores, 2);
}

TEST(Cpu, QuotaOfCgroupV2IsTheSmallestOnThePath) {
  FakeRoot root;
  root.Write("/proc/self/cgroup", "0::/a/b");
  EXPECT_EQ(root.Read({0}).quota, 0);
  root.Write("/sys/fs/cgroup/a/b/cpu.max", "max 100000");
  EXPECT_EQ(root.Read({0}).quota, 0);
  root.Write("/sys/fs/cgroup/a/cpu.max", "250000 100000");
  EXPECT_EQ(root.Read({0}).quota, 2.5);
  root.Write("/sys/fs/cgroup/cpu.max", "50000 100000");
  EXPECT_EQ(root.Read({0}).quota, 0.5);
  EXPECT_EQ(DefaultThreads(root.Read({0, 1, 2})), 1);
}

TEST(Cpu, QuotaOfCgroupV1) {
  FakeRoot root;
  // In a container without its own namespace the path is the host's; only the mount is visible.
  root.Write("/proc/self/cgroup", "5:cpuset:/x\n4:cpu,cpuacct:/docker/123\n0::/\n");
  root.Write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1");
  root.Write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000");
  EXPECT_EQ(root.Read({0}).quota, 0);
  root.Write("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "150000");
  EXPECT_EQ(root.Read({0}).quota, 1.5);
  EXPECT_EQ(DefaultThreads(root.Read({0, 1, 2, 3})), 2);  // rounded up
  EXPECT_EQ(DefaultThreads(root.Read({0})), 1);
}

TEST(Cpu, MalformedFilesMeanNoLimit) {
  FakeRoot root;
  root.Write("/proc/self/cgroup", "0::/\nnonsense\n::\n");
  for (const char* text : {"", "x y", "100000", "100000 0", "-5 100000"}) {
    root.Write("/sys/fs/cgroup/cpu.max", text);
    EXPECT_EQ(root.Read({0}).quota, 0) << text;
  }
}

TEST(Cpu, CachesAndFlags) {
  FakeRoot root;
  const auto cache = [&](int i, const char* level, const char* type, const char* size) {
    const std::string path = "/sys/devices/system/cpu/cpu3/cache/index" + std::to_string(i) + "/";
    root.Write(path + "level", level);
    root.Write(path + "type", type);
    root.Write(path + "size", size);
  };
  cache(0, "1", "Data", "48K");
  cache(1, "1", "Instruction", "64K");
  cache(2, "2", "Unified", "2048K");
  cache(3, "3", "Unified", "105M");
  root.Write("/proc/cpuinfo",
             "processor\t: 0\nmodel name\t: Some CPU @ 2.80GHz\nflags\t\t: fma avx2\n");
  const CpuInfo info = root.Read({3});
  EXPECT_EQ(info.model, "Some CPU @ 2.80GHz");
  EXPECT_EQ(info.l1d_bytes, 48u << 10);
  EXPECT_EQ(info.l2_bytes, 2048u << 10);
  EXPECT_EQ(info.l3_bytes, 105u << 20);
}

TEST(Cpu, ThisMachine) {
  EXPECT_GE(Cpu().physical_cores, 1);
  EXPECT_GE(DefaultThreads(), 1);
  EXPECT_GT(ResidentBytes(), 0u);
  EXPECT_GE(PeakResidentBytes(), ResidentBytes());
  const double since = SecondsSinceStart();
  EXPECT_GT(since, 0);
  EXPECT_LT(since, 3600);
  EXPECT_GE(SecondsSinceStart(), since);
}

}  // namespace
}  // namespace graft::cpu_test
