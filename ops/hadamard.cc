#include "ops/hadamard.h"

namespace graft {
namespace {

void Butterflies(float* x, int64_t k, int64_t stride) {
  for (int64_t i = 0; i < k; ++i) {
    if ((i / stride) % 2 != 0) continue;
    const float lower = x[i], upper = x[i + stride];
    x[i] = lower + upper, x[i + stride] = lower - upper;
  }
}

}  // namespace

void Hadamard(float* x, int64_t k) {
  const int64_t vectors = HadamardVectors(k);
  if (vectors == 0) return;
  for (int64_t n = 1; n < vectors; n *= 2) Butterflies(x, k, n * kHadamardStep);
  for (int64_t stride = 1; stride <= 4; stride *= 2) Butterflies(x, k, stride);
}

}  // namespace graft
