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
#include "ops/low_cells.h"

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

template <class D, class V>
HWY_INLINE void StoreBf16(bool native, D d, V v, uint16_t* out) {
  native ? StoreBf16<true>(d, v, out) : StoreBf16<false>(d, v, out);
}

// Numbers as they come, f32 or bf16.
template <class D>
HWY_INLINE hn::Vec<D> LoadNumbers(D d, const float* x) {
  return hn::LoadU(d, x);
}
template <class D>
HWY_INLINE hn::Vec<D> LoadNumbers(D d, const uint16_t* bits) {
  const hn::RebindToUnsigned<D> du;
  const hn::Rebind<uint16_t, D> d16;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(d16, bits))));
}

// f(numbers) for those of x from `at` on, as const float* or const uint16_t*.
template <class F>
HWY_INLINE void WithNumbers(const Tensor& x, int64_t at, const F& f) {
  if (x.dtype == DType::kBf16)
    f(static_cast<const uint16_t*>(x.bf16() + at));
  else
    f(static_cast<const float*>(x.f32() + at));
}
inline float Number(const float* x) { return *x; }
inline float Number(const uint16_t* bits) { return FromBf16(*bits); }
inline uint16_t NearestBf16(const float* x) { return ToBf16(*x); }
inline uint16_t NearestBf16(const uint16_t* bits) { return *bits; }

template <class T>
HWY_INLINE void RoundNumbers(bool native, const T* x, int64_t count, uint16_t* out) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) StoreBf16(native, d, LoadNumbers(d, x + i), out + i);
  for (; i < count; ++i) out[i] = NearestBf16(x + i);
}
template <class T>
HWY_INLINE void WidenNumbers(const T* x, int64_t count, float* out) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(LoadNumbers(d, x + i), d, out + i);
  for (; i < count; ++i) out[i] = Number(x + i);
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
