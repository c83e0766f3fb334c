// Loops without a branch, for files compiled once per SIMD target.
#if defined(GRAFT_OPS_UNROLL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRAFT_OPS_UNROLL_INL_H_
#undef GRAFT_OPS_UNROLL_INL_H_
#else
#define GRAFT_OPS_UNROLL_INL_H_
#endif

#include <cstddef>
#include <type_traits>
#include <utility>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {

// Calls f(0) ... f(N-1) with compile-time indices: gcc keeps an array of vectors in registers only
// if no loop over it is left.
template <size_t N, class F>
HWY_INLINE void Unroll(const F& f) {
  [&]<size_t... I>(std::index_sequence<I...>) HWY_ATTR __attribute__((always_inline)) {
    (f(std::integral_constant<size_t, I>()), ...);
  }
  (std::make_index_sequence<N>());
}

}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // GRAFT_OPS_UNROLL_INL_H_
