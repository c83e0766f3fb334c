// Include before any Highway header: limits the targets that SIMD files are compiled for, which
// halves compile time. AVX3, AVX2, SSE4 and the baseline remain on x86; with GRAFT_FEW_TARGETS (an
// option of CMake, for the sanitizers) SSE4 goes, too: its code is the baseline's, vector by
// vector. Vectors of a length unknown at compile time (SVE, RVV) cannot be kept in arrays of
// accumulators, so those machines run NEON or the baseline.
#pragma once
#ifdef GRAFT_FEW_TARGETS
#define HWY_DISABLED_TARGETS \
  (HWY_SSE4 | HWY_SSSE3 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#else
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#endif
