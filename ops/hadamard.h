// The Walsh-Hadamard transform H of rows of k numbers, H = H', H H = gain I. The product of H x and
// H w / gain is that of x and w, and numbers that are much larger than the others of their row are
// spread over up to 128 places before both are rounded to bytes of one scale (Chee et al. 2023,
// QuIP; Ashkboos et al. 2024, QuaRot).
//
// H consists of butterflies (x[i], x[i + s]) -> (x[i] + x[i + s], x[i] - x[i + s]), if 16 divides
// k: of strides s = 16, 32, 64 and 128, as long as 2 s divides k, and then of s = 1, 2 and 4.
// Strides from 16 on are whole vectors and cost an addition each. Other rows stay as they are.
#pragma once
#include <cstdint>

namespace graft {

constexpr int64_t kHadamardStep = 16;  // numbers that stay side by side

// Of k numbers: how many neighbours of kHadamardStep are turned into each other, a power of two, or
// 0 if the row stays as it is.
constexpr int64_t HadamardVectors(int64_t k) {
  if (k <= 0 || k % kHadamardStep != 0) return 0;
  int64_t n = 1;
  while (n < 16 && k / kHadamardStep % (2 * n) == 0) n *= 2;
  return n;
}

// A power of two.
constexpr float HadamardGain(int64_t k) {
  const int64_t n = HadamardVectors(k);
  return n == 0 ? 1 : static_cast<float>(8 * n);
}

// x = H x, one butterfly after the other; the kernel makes the same bits.
void Hadamard(float* x, int64_t k);

}  // namespace graft
