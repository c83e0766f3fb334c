// Pages of mapped files that are given back: they leave the process and keep their bytes.
#include "runtime/io/mapped_file.h"

#include <gtest/gtest.h>

#include <fstream>
#include <numeric>

#include "tests/test_util.h"

namespace graft::mapped_file_test {
namespace {

constexpr int64_t kMiB = 1 << 20;

// Reads how many bytes of mapped files this process has in memory.
int64_t ResidentFileBytes() {
  std::ifstream file("/proc/self/status");
  for (std::string word; file >> word;)
    if (word == "RssFile:") {
      int64_t kib = 0;
      file >> kib;
      return kib * 1024;
    }
  return -1;
}

int64_t Sum(std::span<const std::byte> bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), int64_t{0}, [](int64_t sum, std::byte b) {
    return sum + std::to_integer<int64_t>(b);
  });
}

TEST(MappedFile, GivesBackWholePagesOfFilesAlone) {
  TempDir temp;
  std::string text(16 * kMiB, 'x');
  text.front() = 'a', text.back() = 'b';
  temp.Write("weights", text);
  const auto file = MappedFile::Open(temp / "weights");
  const std::span<const std::byte> bytes = file->bytes();
  const int64_t sum = Sum(bytes), all = ResidentFileBytes();
  ASSERT_GT(all, 16 * kMiB);
  GiveBackPages(bytes.data() + 5, bytes.size() / 2);
  const int64_t half = ResidentFileBytes();
  EXPECT_NEAR(static_cast<double>(all - half), 8.0 * kMiB, 0.5 * kMiB);
  GiveBackPages(bytes.data(), bytes.size() + 1);  // more than is of the file: not understood
  EXPECT_NEAR(static_cast<double>(ResidentFileBytes()), static_cast<double>(half), 0.5 * kMiB);
  EXPECT_EQ(Sum(bytes), sum);
  EXPECT_GT(ResidentFileBytes(), 16 * kMiB);

  std::vector<float> own(1 << 20, 1.5f);
  GiveBackPages(own.data(), own.size() * sizeof(float));
  EXPECT_EQ(std::accumulate(own.begin(), own.end(), 0.0), 1.5 * (1 << 20));
}

}  // namespace
}  // namespace graft::mapped_file_test
