// Rounds f32 to the nearest bf16 (ties to even), in files that are compiled once per SIMD target;
// Highway 1.0.3 truncates. With kNative it is the instruction of CPUs that multiply bf16; that one
// takes denormal numbers as 0, as their products do.
#if defined(GRAFT_OPS_BF16_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRAFT_OPS_BF16_INL_H_
#undef GRAFT_OPS_BF16_INL_H_
#else
#define GRAFT_OPS_BF16_INL_H_
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
using Bf16Vec = hn::Vec<hn::Rebind<uint16_t, D>>;

template <bool kNative, class D, class V>
HWY_INLINE Bf16Vec<D> ToBf16Vec(D, V v) {
  const hn::Rebind<uint16_t, D> d16;
#if HWY_TARGET == HWY_AVX3
  if constexpr (kNative) {
    Bf16Vec<D> out;
    __asm__("vcvtneps2bf16 %1, %0" : "=v"(out.raw) : "v"(v.raw));
    return out;
  }
#endif
  const hn::RebindToUnsigned<D> du;
  const hn::RebindToSigned<D> di;
  const auto bits = hn::BitCast(du, v);
  const auto even = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(hn::Set(du, 0x7FFF), even)));
  rounded = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), hn::Set(du, 0x7FC0), rounded);
  return hn::DemoteTo(d16, hn::BitCast(di, rounded));
}

// Stores them side by side.
template <bool kNative, class D, class V>
HWY_INLINE void StoreBf16(D d, V v, uint16_t* out) {
  const hn::Rebind<uint16_t, D> d16;
  hn::StoreU(ToBf16Vec<kNative>(d, v), d16, out);
}

// Stores pairs of 32 bits, `low` in their lower half.
template <bool kNative, class D, class V>
HWY_INLINE void StoreBf16Pairs(D d, V low, V high, uint32_t* out) {
  const hn::RebindToUnsigned<D> du;
  const auto a = hn::PromoteTo(du, ToBf16Vec<kNative>(d, low));
  const auto b = hn::PromoteTo(du, ToBf16Vec<kNative>(d, high));
  hn::StoreU(hn::Or(a, hn::ShiftLeft<16>(b)), du, out);
}

}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // GRAFT_OPS_BF16_INL_H_
