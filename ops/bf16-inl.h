// f32 to the nearest bf16 (ties to even) for files compiled once per SIMD target: Highway 1.0.3
// truncates.
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

// The bits of each number in the lower half of 32.
template <class D, class V>
HWY_INLINE hn::Vec<hn::RebindToUnsigned<D>> Bf16Bits(D, V v) {
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::BitCast(du, v);
  const auto even = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
  const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(hn::Set(du, 0x7FFF), even)));
  return hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), hn::Set(du, 0x7FC0), rounded);
}

// Stores them side by side.
template <class D, class V>
HWY_INLINE void StoreBf16(D d, V v, uint16_t* out) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToSigned<D> di;
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, Bf16Bits(d, v))), d16, out);
}

}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // GRAFT_OPS_BF16_INL_H_
