// Measures what this machine can do at most: the denominator of every share of peak.
#pragma once
#include <string_view>

#include "ops/gemm_core.h"

namespace graft {

struct MachinePeak {
  double gflops = 0;       // multiply-adds on registers, all threads together
  double bf16_gflops = 0;  // the same of bf16 and of bytes; 0 without such instructions
  double int8_gflops = 0;
  double bytes_per_second = 0;  // triad a = b + s c over arrays beyond the caches, all threads
};

// Returns the multiply-add peak of the numbers that a kernel multiplies, by its name
// (StepInfo::impl).
double PeakOf(const MachinePeak& peak, std::string_view impl);

// Returns the best of samples that are taken for about `seconds`.
MachinePeak MeasurePeak(int threads, double seconds = 0.3);

// The multiply-add rate of `threads` threads at this moment, in GFLOP/s, from one sample of about
// half a millisecond. One thread counts its own CPU time; several count the wall time of the
// slowest, as does a kernel that waits for all of them.
double SamplePeak(int threads, CellType cell = CellType::kF32);

}  // namespace graft
