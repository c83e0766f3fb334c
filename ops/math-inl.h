// Elementary functions on f32 vectors: Exp, LogNear, Tanh, NormalCdf, the GELUs. Files that include
// this one are compiled once per SIMD target. All keep NaN, and overflow and saturate as the C
// library's do, which hwy/contrib/math does not (Exp(NaN) = 0, Exp(200) = 0).
//
// Greatest errors in units in the last place (tests/math_test.cc): Exp and ExpOfNegative 1.5,
// ExpNear 100, Tanh 4; NormalCdf and GeluErf 8 (40 without FMA), also in the negative tail, where
// results below 6e-35 may be 0; GeluTanh 200 in its tail, where the formula itself magnifies the
// rounding of w. Do not include hwy/contrib/math beside it: its functions have the same names. The
// polynomials are weighted minimax fits.
#if defined(GRAFT_OPS_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRAFT_OPS_MATH_INL_H_
#undef GRAFT_OPS_MATH_INL_H_
#else
#define GRAFT_OPS_MATH_INL_H_
#endif

#include <limits>

#include "hwy/highway.h"
#include "ops/gelu_near.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// c0 + x (c1 + x (c2 + ...))
template <class D, class V>
HWY_INLINE V Polynomial(D d, V, float c) {
  return hn::Set(d, c);
}
template <class D, class V, class... C>
HWY_INLINE V Polynomial(D d, V x, float c0, float c1, C... rest) {
  return hn::MulAdd(Polynomial(d, x, c1, rest...), x, hn::Set(d, c0));
}

// exp(x - n log 2) for an integer n near x / log 2.
template <class D, class V>
HWY_INLINE V ExpOfRemainder(D d, V x, V n) {
  // log 2 in two pieces, the first of few enough bits that n times it is exact.
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693145751953125f), x);
  r = hn::NegMulAdd(n, hn::Set(d, 1.42860677e-6f), r);
  const V p =
      Polynomial(d, r, 0.50000001f, 0.166665173f, 0.0416662011f, 0.00836907312f, 0.00139508072f);
  return hn::Add(hn::MulAdd(hn::Mul(r, r), p, r), hn::Set(d, 1.0f));
}

// exp(x) for any x: subnormal results are kept, overflow is infinity.
template <class D, class V>
HWY_INLINE V Exp(D d, V x) {
  const hn::RebindToSigned<D> di;
  // Beyond these bounds the result is 0 or infinity anyway. Min and Max may drop a NaN.
  const V bounded = hn::Min(hn::Max(x, hn::Set(d, -105.0f)), hn::Set(d, 90.0f));
  const auto q = hn::NearestInt(hn::Mul(bounded, hn::Set(d, 1.44269504f)));
  const V e = ExpOfRemainder(d, bounded, hn::ConvertTo(d, q));
  // 2^q in two factors, since neither 2^128 nor 2^-149 is a normal float.
  const auto half = hn::ShiftRight<1>(q);
  const auto one = hn::Set(di, 127);
  const V s1 = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(half, one)));
  const V s2 = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(q, half), one)));
  return hn::IfThenElse(hn::IsNaN(x), x, hn::Mul(hn::Mul(e, s1), s2));
}

// exp(x) for x <= 1, in two thirds of the work; 0 below -87, where it would be subnormal.
template <class D, class V>
HWY_INLINE V ExpOfNegative(D d, V x) {
  const auto q = hn::NearestInt(hn::Mul(x, hn::Set(d, 1.44269504f)));
  const V e = ExpOfRemainder(d, x, hn::ConvertTo(d, q));
  // The exponent of e grows by q. Results are dropped where q is not near x / log 2.
  const hn::RebindToSigned<D> di;
  const V y = hn::BitCast(d, hn::Add(hn::BitCast(di, e), hn::ShiftLeft<23>(q)));
  return hn::IfThenElse(hn::IsNaN(x), x, hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.0f)), y));
}

// exp(x - shift) to 1e-5 of it, in half of the work, for what is rounded to bf16 next; `shift` is
// log2(e) times a number, and x not +infinity.
constexpr float kLog2E = 1.44269504f;
template <class D, class V>
HWY_INLINE V ExpNear(D d, V x, V shift) {
#if HWY_TARGET == HWY_AVX3
  if constexpr (hn::MaxLanes(D()) == 16) {
    // 2^t = 2^floor(t) 2^(t - floor(t)). The instructions give 0 and 0 for -infinity, and underflow
    // to 0.
    const V t = hn::MulSub(x, hn::Set(d, kLog2E), shift);
    const V f{_mm512_reduce_ps(t.raw, _MM_FROUND_TO_NEG_INF)};
    const V p = Polynomial(d, f, 1.0000026f, 0.69300383f, 0.24144275f, 0.05201146f, 0.013534168f);
    return V{_mm512_scalef_ps(p.raw, t.raw)};
  }
#endif
  return Exp(d, hn::Sub(x, hn::Mul(shift, hn::Set(d, 1 / kLog2E))));
}

// log(x) to 3e-7 and 2e-7 of it, for normal x > 0; NaN for NaN.
template <class D, class V>
HWY_INLINE V LogNear(D d, V x) {
  // x = 2^n (1 + z), 1 + z in [sqrt(1/2), sqrt(2))
  const hn::RebindToSigned<D> di;
  const auto bits = hn::BitCast(di, x);
  const auto n = hn::ShiftRight<23>(hn::Sub(bits, hn::Set(di, 0x3f3504f3)));
  const V z = hn::Sub(hn::BitCast(d, hn::Sub(bits, hn::ShiftLeft<23>(n))), hn::Set(d, 1.0f));
  const V p = Polynomial(d, z, 1.00000322f, -0.50001967f, 0.333033f, -0.24881339f, 0.20604673f,
                         -0.18901981f, 0.11827483f);
  const V y = hn::MulAdd(hn::ConvertTo(d, n), hn::Set(d, 0.693147181f), hn::Mul(z, p));
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

template <class D, class V>
HWY_INLINE V Tanh(D d, V x) {
  const V one = hn::Set(d, 1.0f), a = hn::Abs(x), s = hn::Mul(x, x);
  const V p = Polynomial(d, s, -0.333333296f, 0.133331579f, -0.0539405628f, 0.021666345f,
                         -0.00809196438f, 0.00206466203f);
  const V small = hn::MulAdd(hn::Mul(a, s), p, a);
  const V e = Exp(d, hn::Add(a, a));
  const V large = hn::Sub(one, hn::Div(hn::Set(d, 2.0f), hn::Add(e, one)));
  return hn::CopySign(hn::IfThenElse(hn::Lt(a, hn::Set(d, 0.65f)), small, large), x);
}

// For u >= 0: q and e with  P(N < -u) = q e,  e = exp(-u^2 / 2)  for a standard normal N. Beyond
// 12.5, where q e would be 4e-36, e is 0: subnormal products cost 150 cycles each.
template <class D, class V>
HWY_INLINE void NormalTail(D d, V u, V& q, V& e) {
  const V limit = hn::Set(d, 12.5f);
  const auto near = hn::Lt(u, limit);
  u = hn::Min(u, limit);  // so that infinity - infinity does not arise below
  const V t = hn::Div(hn::Set(d, 1.0f), hn::MulAdd(u, hn::Set(d, 0.35f), hn::Set(d, 1.0f)));
  q = hn::Mul(
      t, Polynomial(d, t, 0.139621306f, 0.139863529f, 0.119821185f, 0.105552926f, -0.0232133914f,
                    0.15932125f, -0.255840399f, 0.144031609f, -0.0291580299f));
  // The rounding error of u^2 would be u^2 / 2 times as large in e; without FMA `low` is 0.
  const V square = hn::Mul(u, u), low = hn::MulSub(u, u, square);
  const V half = hn::Set(d, -0.5f);
  const V e0 = ExpOfNegative(d, hn::Mul(square, half));
  e = hn::IfThenElseZero(near, hn::MulAdd(hn::Mul(low, half), e0, e0));
}

// Phi(x) = P(N < x). `density_exp` gets exp(-x^2 / 2), which the derivative of GELU, Phi(x) + x
// exp(-x^2 / 2) / sqrt(2 pi), needs.
template <class D, class V>
HWY_INLINE V NormalCdf(D d, V x, V& density_exp) {
  V q;
  NormalTail(d, hn::Abs(x), q, density_exp);
  const V tail = hn::Mul(q, density_exp);
  const V cdf = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), tail, hn::Sub(hn::Set(d, 1.0f), tail));
  return hn::IfThenElse(hn::IsNaN(x), x, cdf);
}

// e = exp(-|x|) <= 1 and the logistic function of x, without overflow and with all digits of the
// tail.
template <class D, class V>
HWY_INLINE V Logistic(D d, V x, V& e) {
  e = Exp(d, hn::Neg(hn::Abs(x)));
  const V one = hn::Set(d, 1.0f);
  return hn::Div(hn::IfThenElse(hn::Lt(x, hn::Zero(d)), e, one), hn::Add(one, e));
}

// Returns x Phi(x). `slope` gets the derivative Phi(x) + x phi(x), where phi(x) is the density
// exp(-x^2 / 2) / sqrt(2 pi).
template <class D, class V>
HWY_INLINE V GeluErf(D d, V x, V& slope) {
  V e;
  const V cdf = NormalCdf(d, x, e);
  slope = hn::MulAdd(hn::Mul(x, hn::Set(d, 0.39894228040143268f)), e, cdf);
  return hn::Mul(x, cdf);
}

// GeluErf in a third of the work, for readers that round to bf16 or bytes: Phi and the slope are
// odd polynomials about 1/2, constant beyond |x| = 4. The first is at most 1.1e-4 off, the second
// 8e-4, while bf16 rounds by up to 3.9e-3.
template <class D, class V>
HWY_INLINE V GeluNear(D d, V x, V& slope) {
  const V half = hn::Set(d, 0.5f);
  const V t = hn::Max(hn::Set(d, -4.0f), hn::Min(hn::Set(d, 4.0f), x));
  const V u = hn::MulAdd(hn::Mul(t, t), hn::Set(d, 0.125f), hn::Set(d, -1.0f));
  const auto odd = [&](const float(&c)[8]) HWY_ATTR {
    const V p = Polynomial(d, u, c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]);
    return hn::MulAdd(t, p, half);
  };
  slope = hn::IfThenElse(hn::IsNaN(x), x, odd(kGeluNearSlope));
  return hn::Mul(x, odd(kGeluNearCdf));
}

// Returns x s for w = 2 sqrt(2 / pi) (x + 0.044715 x^3) and s = logistic(w). `slope` gets the
// derivative s + x s (1 - s) w'.
template <class D, class V>
HWY_INLINE V GeluTanh(D d, V x, V& slope) {
  const float c = 2 * 0.79788456080286536f, k = 0.044715f;
  const V square = hn::Mul(x, x), one = hn::Set(d, 1.0f);
  const V w = hn::Mul(x, hn::MulAdd(square, hn::Set(d, c * k), hn::Set(d, c)));
  const V dw = hn::MulAdd(square, hn::Set(d, 3 * c * k), hn::Set(d, c));
  V e;
  const V s = Logistic(d, w, e);
  const V t = hn::Div(hn::IfThenElse(hn::Lt(w, hn::Zero(d)), one, e), hn::Add(one, e));  // 1 - s
  slope = hn::MulAdd(hn::Mul(s, t), hn::Mul(x, dw), s);
  return hn::Mul(x, s);
}

}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // GRAFT_OPS_MATH_INL_H_
