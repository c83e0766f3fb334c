// The transform of hadamard.h in registers, for files compiled once per SIMD target.
#if defined(GRAFT_OPS_HADAMARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRAFT_OPS_HADAMARD_INL_H_
#undef GRAFT_OPS_HADAMARD_INL_H_
#else
#define GRAFT_OPS_HADAMARD_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "hwy/highway.h"
#include "ops/bf16-inl.h"
#include "ops/each.h"
#include "ops/hadamard.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_AVX3

// Butterflies of strides 1, 2 and 4: the lower of two numbers gets their sum, the upper one
// lower - upper.
template <class D, class V>
HWY_INLINE V HadamardOfEight(D d, V v) {
  HWY_ALIGN static constexpr float kOdd[4] = {1, -1, 1, -1}, kSecond[4] = {1, 1, -1, -1};
  v = hn::MulAdd(v, hn::LoadDup128(d, kOdd), hn::Shuffle2301(v));
  v = hn::MulAdd(v, hn::LoadDup128(d, kSecond), hn::Shuffle1032(v));
  const auto upper = hn::Set(d, -1.0f), lower = hn::Set(d, 1.0f);
  return hn::MulAdd(v, hn::OddEvenBlocks(upper, lower), hn::SwapAdjacentBlocks(v));
}

template <size_t kVecs, class T, class F>
HWY_INLINE void HadamardGroup(const T* x, float* out, const F& see) {
  const hn::ScalableTag<float> d;
  constexpr size_t kStep = static_cast<size_t>(kHadamardStep);
  hn::Vec<decltype(d)> v[kVecs];
  GRAFT_EACH(i, kVecs) v[i] = LoadNumbers(d, x + i * kStep);
  const auto stage = [&](auto stride) HWY_ATTR __attribute__((always_inline)) {
    constexpr size_t kStride = decltype(stride)::value;
    if constexpr (kStride < kVecs) {
      GRAFT_EACH(j, kVecs / 2) {
        const size_t lower = j / kStride * 2 * kStride + j % kStride;
        const auto sum = hn::Add(v[lower], v[lower + kStride]);
        v[lower + kStride] = hn::Sub(v[lower], v[lower + kStride]);
        v[lower] = sum;
      }
    }
  };
  stage(std::integral_constant<size_t, 1>());
  stage(std::integral_constant<size_t, 2>());
  stage(std::integral_constant<size_t, 4>());
  stage(std::integral_constant<size_t, 8>());
  GRAFT_EACH(i, kVecs) {
    const auto y = HadamardOfEight(d, v[i]);
    see(y);
    hn::StoreU(y, d, out + i * kStep);
  }
}

template <size_t kVecs, class T, class F>
HWY_INLINE void HadamardGroups(const T* x, int64_t k, float* out, const F& see) {
  constexpr int64_t kGroup = static_cast<int64_t>(kVecs) * kHadamardStep;
  for (int64_t i = 0; i < k; i += kGroup) HadamardGroup<kVecs>(x + i, out + i, see);
}

// out = H x; HadamardVectors(k) > 0. see(v) is called for every vector of results.
template <class T, class F>
HWY_INLINE void HadamardOf(const T* x, int64_t k, float* out, const F& see) {
  switch (HadamardVectors(k)) {
    case 1:
      return HadamardGroups<1>(x, k, out, see);
    case 2:
      return HadamardGroups<2>(x, k, out, see);
    case 4:
      return HadamardGroups<4>(x, k, out, see);
    case 8:
      return HadamardGroups<8>(x, k, out, see);
    default:
      return HadamardGroups<16>(x, k, out, see);
  }
}

#else  // no CPU of this target multiplies bytes here

template <class T, class F>
HWY_INLINE void HadamardOf(const T* x, int64_t k, float* out, const F& see) {
  const hn::ScalableTag<float> d;
  WidenNumbers(x, k, out);
  Hadamard(out, k);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < k; i += lanes) see(hn::LoadU(d, out + i));
}

#endif

}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // GRAFT_OPS_HADAMARD_INL_H_
