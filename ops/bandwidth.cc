#include "ops/bandwidth.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "ops/targets.h"
#include "runtime/cpu.h"
#include "runtime/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/bandwidth.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// Computes a = b + 3 c over `count` floats, so many times. All arrays are aligned, and the count is
// a multiple of 64.
void Triads(int64_t times, int64_t count, const float* b, const float* c, float* a) {
  const hn::CappedTag<float, 16> d;  // four of them divide the count
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto three = hn::Set(d, 3.0f);
  for (int64_t t = 0; t < times; ++t)
    for (int64_t i = 0; i < count; i += 4 * lanes)
      for (int64_t at = i; at < i + 4 * lanes; at += lanes)
        hn::Store(hn::MulAdd(hn::Load(d, c + at), three, hn::Load(d, b + at)), d, a + at);
}

}  // namespace
}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft {
namespace {

HWY_EXPORT(Triads);

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct FreeFloats {
  void operator()(float* p) const { std::free(p); }
};
using AlignedFloats = std::unique_ptr<float, FreeFloats>;
AlignedFloats AllocateFloats(int64_t count) {
  const size_t bytes = static_cast<size_t>(count) * sizeof(float);
  AlignedFloats floats(static_cast<float*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64)));
  if (!floats) Fail("no memory to measure bandwidth: {} MiB", bytes >> 20);
  return floats;
}

// The best rate of triads over three arrays of a thread's own, of `bytes` in all. A sample does
// enough of them to last a millisecond, which is long beside the time that threads take to begin.
double LevelTriad(int threads, size_t bytes) {
  constexpr int kSamples = 8;
  const int64_t count = static_cast<int64_t>(bytes / 12 / 64 * 64);
  std::vector<AlignedFloats> arrays;
  for (int t = 0; t < threads; ++t) arrays.push_back(AllocateFloats(3 * count));
  double best = 0;
  // At least so many bytes are moved, because on a busy machine a sample of a few triads takes
  // long, too.
  constexpr int64_t kLeastBytes = int64_t{64} << 20;
  int64_t times = std::max<int64_t>(1, kLeastBytes / (12 * count));
  for (int sample = -1; sample < kSamples;) {
    const double start = Seconds();
#pragma omp parallel for schedule(static, 1) num_threads(threads)
    for (int t = 0; t < threads; ++t) {
      float* x = arrays[static_cast<size_t>(t)].get();
      if (sample < 0) std::fill_n(x, 3 * count, 1.0f);  // pages of the thread that uses them
      HWY_DYNAMIC_DISPATCH(Triads)(times, count, x + count, x + 2 * count, x);
    }
    const double seconds = Seconds() - start;
    if (sample >= 0 && seconds < 1e-3) {
      times *= 2;
      continue;
    }
    const double moved = 12.0 * static_cast<double>(count * times * threads);
    if (sample++ >= 0) best = std::max(best, moved / seconds);
  }
  return best;
}

}  // namespace

std::vector<LevelRate> MeasureSmallLevels(int threads) {
  const CpuInfo& cpu = Cpu();
  std::vector<LevelRate> levels{{"L1", cpu.l1d_bytes / 2}, {"L2", cpu.l2_bytes / 2}};
  for (LevelRate& level : levels) level.bytes_per_second = LevelTriad(threads, level.bytes);
  return levels;
}

std::vector<LevelRate> MeasureLevels(int threads) {
  const CpuInfo& cpu = Cpu();
  // Threads without a core of their own take turns, and leave what they read to the next.
  const size_t n = static_cast<size_t>(std::min(threads, DefaultThreads()));
  const size_t share = cpu.l3_bytes / n, small = 2;
  std::vector<LevelRate> levels = MeasureSmallLevels(threads);
  if (share > cpu.l2_bytes) levels.push_back({"L3", std::max(share / 2, cpu.l2_bytes)});
  constexpr size_t kLeast = size_t{96} << 20, kMost = size_t{1} << 30;
  levels.push_back({"DRAM", std::clamp(3 * cpu.l3_bytes, kLeast, kMost) / n});
  for (LevelRate& level : std::span(levels).subspan(small))
    level.bytes_per_second = LevelTriad(threads, level.bytes);
  return levels;
}

}  // namespace graft
#endif  // HWY_ONCE
