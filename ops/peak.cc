#include "ops/peak.h"

#include <algorithm>
#include <cstdint>
#include <ctime>
#include <vector>

#include "ops/each.h"
#include "ops/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/peak.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "ops/gemm_micro-inl.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace {

// Runs multiply-adds on registers alone, in as many chains as a tile has; returns their number in
// lanes.
template <Dot kDot>
int64_t Chains(int64_t steps, float* sink) {
  const GemmTag d;
  constexpr size_t kChains = 12;
  hn::Vec<GemmTag> acc[kChains];
  const auto x = hn::Set(d, 0.999f), y = hn::Set(d, 1e-6f);
  // Unknown to the compiler, which would merge equal chains.
  GRAFT_EACH(i, kChains) acc[i] = hn::Set(d, sink[i]);
  for (int64_t s = 0; s < steps; ++s) {
    GRAFT_EACH(i, kChains) {
      if constexpr (kDot == Dot::kF32) {
        acc[i] = hn::MulAdd(acc[i], x, y);
      } else {
        acc[i] = TileDot<kDot>(x, y, acc[i]);
      }
    }
  }
  GRAFT_EACH(i, kChains - 1) acc[0] = hn::Add(acc[0], acc[i + 1]);
  hn::StoreU(acc[0], d, sink);
  return steps * static_cast<int64_t>(kChains) * kGemmLanes;
}

// The number of multiply-adds; 0 where the CPU has no instruction for such cells.
int64_t MultiplyAdds(Dot dot, int64_t steps, float* sink) {
  switch (dot) {
    case Dot::kF32:
      return Chains<Dot::kF32>(steps, sink);
    case Dot::kBf16:
      return 2 * Chains<Dot::kBf16>(steps, sink);
    case Dot::kInt8:
      return 4 * Chains<Dot::kInt8>(steps, sink);
    default:
      return 0;
  }
}

}  // namespace
}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft {
namespace {

HWY_EXPORT(MultiplyAdds);

double Now(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double Triad(int threads) {
  constexpr int64_t kFloats = int64_t{8} << 20;  // 32 MiB each
  std::vector<float> a(kFloats), b(kFloats, 1.0f), c(kFloats, 2.0f);
  double best = 0;
  for (int run = 0; run < 4; ++run) {
    const double start = Now(CLOCK_MONOTONIC);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < kFloats; ++i) a[i] = b[i] + 3 * c[i];
    best = std::max(best, 12.0 * kFloats / (Now(CLOCK_MONOTONIC) - start));
  }
  return best;
}

}  // namespace

double PeakOf(const MachinePeak& peak, std::string_view impl) {
  if (impl.ends_with(":bf16") && peak.bf16_gflops > 0) return peak.bf16_gflops;
  if (impl.ends_with(":int8") && peak.int8_gflops > 0) return peak.int8_gflops;
  return peak.gflops;
}

double SamplePeak(int threads, CellType cell) {
  constexpr int64_t kSteps = 200000;
  const Dot dot = DotOf(cell);
  int64_t done = 0;
  const clockid_t clock = threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
  const double start = Now(clock);
#pragma omp parallel num_threads(threads) reduction(+ : done)
  {
    HWY_ALIGN float sink[64] = {1.0f};
    done += HWY_DYNAMIC_DISPATCH(MultiplyAdds)(dot, kSteps, sink);
  }
  return 2e-9 * static_cast<double>(done) / (Now(clock) - start);
}

MachinePeak MeasurePeak(int threads, double seconds) {
  MachinePeak peak;
  const double end = Now(CLOCK_MONOTONIC) + seconds;
  do {
    peak.gflops = std::max(peak.gflops, SamplePeak(threads));
    for (const CellType cell : {CellType::kBf16, CellType::kInt8})
      if (double& low = cell == CellType::kBf16 ? peak.bf16_gflops : peak.int8_gflops;
          HasCells(cell))
        low = std::max(low, SamplePeak(threads, cell));
  } while (Now(CLOCK_MONOTONIC) < end);
  peak.bytes_per_second = Triad(threads);
  return peak;
}

}  // namespace graft
#endif  // HWY_ONCE
