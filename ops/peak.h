// What this machine can do at most, measured: the denominators of every share of peak.
#pragma once

namespace graft {

struct MachinePeak {
  double gflops = 0;            // multiply-adds on registers, all threads together
  double bytes_per_second = 0;  // triad a = b + s c over arrays beyond the caches, all threads
};

// Takes about `seconds`. Uses `threads` threads; with one, it counts that thread's own CPU time.
MachinePeak MeasurePeak(int threads, double seconds = 0.3);

// The multiply-add rate of the calling thread in GFLOP/s, best of a few short runs.
double PeakOfOneCore();

}  // namespace graft
