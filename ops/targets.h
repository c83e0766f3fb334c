// Include before any Highway header: limits the targets that SIMD files are compiled for, which
// halves compile time. AVX3, AVX2 and SSE4 remain on x86 (CMakeLists.txt makes SSE4 the baseline).
// Vectors of a length unknown at compile time (SVE, RVV) cannot be kept in arrays of accumulators,
// so those machines run NEON or the baseline. What Highway knows beyond AVX3 has bits 0 to 7, and
// other names from version to version; kernels of low precision are for AVX3 (gemm_micro-inl.h).
#pragma once
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | 0xFF | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
