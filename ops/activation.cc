// Activations and their gradients (x, dy) -> dx.
// Top half: kernels, compiled once per SIMD target. Bottom half (HWY_ONCE): the records.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "ops/gelu_near.h"
#include "ops/records.h"
#include "ops/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/activation.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "ops/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace {

// s + x s (1 - s) = s (1 + x (1 - s))
HWY_INLINE VF SiluSlope(VF x) {
  const DF d;
  const VF one = hn::Set(d, 1.0f);
  VF e;
  const VF s = Logistic(DF(), x, e);
  const VF t = hn::Div(hn::IfThenElse(hn::Lt(x, hn::Zero(d)), one, e), hn::Add(one, e));
  return hn::Mul(s, hn::MulAdd(x, t, one));
}

// e / (1 + e)^2, e = exp(-|x|)
HWY_INLINE VF SigmoidSlope(VF x) {
  const DF d;
  const VF e = Exp(d, hn::Neg(hn::Abs(x))), sum = hn::Add(hn::Set(d, 1.0f), e);
  return hn::Div(e, hn::Mul(sum, sum));
}

// 1 if x > 0, 0 if x <= 0, NaN for NaN
HWY_INLINE VF ReluSlope(VF x) {
  const DF d;
  const VF positive = hn::IfThenElseZero(hn::Gt(x, hn::Zero(d)), hn::Set(d, 1.0f));
  return hn::IfThenElse(hn::IsNaN(x), x, positive);
}

void GeluF32(const KernelArgs& a) {
  Map1(a, [](VF x) HWY_ATTR {
    VF slope;
    return GeluErf(DF(), x, slope);
  });
}
void GeluNearF32(const KernelArgs& a) {
  Map1(a, [](VF x) HWY_ATTR {
    VF slope;
    return GeluNear(DF(), x, slope);
  });
}
void GeluTanhF32(const KernelArgs& a) {
  Map1(a, [](VF x) HWY_ATTR {
    VF slope;
    return GeluTanh(DF(), x, slope);
  });
}
void ReluF32(const KernelArgs& a) {  // not Max, which may drop a NaN
  Map1(a,
       [](VF x) HWY_ATTR { return hn::IfThenElse(hn::Lt(x, hn::Zero(DF())), hn::Zero(DF()), x); });
}
void SiluF32(const KernelArgs& a) {
  Map1(a, [](VF x) HWY_ATTR {
    VF e;
    return hn::Mul(x, Logistic(DF(), x, e));
  });
}
void TanhF32(const KernelArgs& a) {
  Map1(a, [](VF x) HWY_ATTR { return Tanh(DF(), x); });
}
void SigmoidF32(const KernelArgs& a) {
  Map1(a, [](VF x) HWY_ATTR {
    VF e;
    return Logistic(DF(), x, e);
  });
}

// dx = dy f'(x). The product is taken where f' is 0, too, so that a NaN or an infinity in dy is not
// lost.
void GeluGradF32(const KernelArgs& a) {
  Map2(a, [](VF x, VF dy) HWY_ATTR {
    VF slope;
    GeluErf(DF(), x, slope);
    return hn::Mul(dy, slope);
  });
}
void GeluTanhGradF32(const KernelArgs& a) {
  Map2(a, [](VF x, VF dy) HWY_ATTR {
    VF slope;
    GeluTanh(DF(), x, slope);
    return hn::Mul(dy, slope);
  });
}
void ReluGradF32(const KernelArgs& a) {
  Map2(a, [](VF x, VF dy) HWY_ATTR { return hn::Mul(dy, ReluSlope(x)); });
}
void SiluGradF32(const KernelArgs& a) {
  Map2(a, [](VF x, VF dy) HWY_ATTR { return hn::Mul(dy, SiluSlope(x)); });
}
void TanhGradF32(const KernelArgs& a) {  // tanh'(x) = 4 logistic'(2 x)
  Map2(a, [](VF x, VF dy)
              HWY_ATTR { return hn::Mul(dy, hn::Mul(SetV(4.0f), SigmoidSlope(hn::Add(x, x)))); });
}
void SigmoidGradF32(const KernelArgs& a) {
  Map2(a, [](VF x, VF dy) HWY_ATTR { return hn::Mul(dy, SigmoidSlope(x)); });
}

}  // namespace
}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft {
namespace {

HWY_EXPORT(GeluF32);
HWY_EXPORT(GeluNearF32);
HWY_EXPORT(GeluTanhF32);
HWY_EXPORT(ReluF32);
HWY_EXPORT(SiluF32);
HWY_EXPORT(TanhF32);
HWY_EXPORT(SigmoidF32);
HWY_EXPORT(GeluGradF32);
HWY_EXPORT(GeluTanhGradF32);
HWY_EXPORT(ReluGradF32);
HWY_EXPORT(SiluGradF32);
HWY_EXPORT(TanhGradF32);
HWY_EXPORT(SigmoidGradF32);
#define GRAFT_KERNEL(f) +[](const KernelArgs& a) noexcept { HWY_DYNAMIC_DISPATCH(f)(a); }

template <double (*f)(double)>
void RefMap(const ReferenceArgs& a) {
  for (size_t i = 0; i < a.out[0].size(); ++i) a.out[0][i] = f(a.in[0][i]);
}
// dx = dy f(x), f the derivative
template <double (*f)(double)>
void RefGrad(const ReferenceArgs& a) {
  for (size_t i = 0; i < a.out[0].size(); ++i) a.out[0][i] = a.in[1][i] * f(a.in[0][i]);
}
template <const OpDef& kGrad>
std::vector<ValueId> GradientBy(const GradientArgs& v) {
  if (!v.need[0]) return {ValueId{}};
  return {v.g.Add1(kGrad, {v.in[0], v.cotangent[0]})};
}

double Phi(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }
double Density(double x) { return std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi); }
// Like ReLU's kernels, this keeps a NaN.
double Relu64(double x) { return x < 0 ? 0 : x; }
double ReluSlope64(double x) { return x > 0 ? 1.0 : x <= 0 ? 0.0 : x; }
double Sigmoid64(double x) { return 1 / (1 + std::exp(-x)); }
// The argument of tanh in the other GELU, and its derivative.
double Inner(double x) { return std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x); }
double InnerSlope(double x) { return std::sqrt(2 / std::numbers::pi) * (1 + 3 * 0.044715 * x * x); }

// The wide sample has both tails; kinks (ReLU at 0) are avoided by drawing from one side.
std::vector<Sample> UnaryIn(double lo, double hi) {
  return {{"one", {{{1}, lo, hi}}},
          {"odd", {{{3, 7}, lo, hi}}},
          {"prime", {{{13, 31}, lo, hi}}},
          {"empty", {{{0, 5}}}},
          {"wide", {{{5, 53}, 4 * lo, 4 * hi}}},
          {"large", {{{150, 257}, lo, hi}}},
          {"bench", {{{1576, 3072}, lo, hi}}}};
}
std::vector<Sample> Unary() { return UnaryIn(-2, 2); }
std::vector<Sample> UnaryRelu() {
  std::vector<Sample> samples = UnaryIn(0.1, 2);
  samples.push_back({"negative", {{{3, 7}, -2, -0.1}}});
  return samples;
}
std::vector<Sample> Binary() {
  std::vector<Sample> samples = Unary();
  for (Sample& s : samples) s.in.push_back({s.in[0].shape});
  return samples;
}
std::vector<ErrorSample> UnaryErrors() {
  return {{{}, {}, "expected 1 inputs, found 0"}, {{{DType::kI32, {3}}}, {}, "as f32"}};
}
std::vector<ErrorSample> BinaryErrors() {
  const TensorType x{DType::kF32, {3, 7}};
  return {{{x}, {}, "expected 2 inputs, found 1"},
          {{x, {DType::kI32, {3, 7}}}, {}, "as f32"},
          {{x, {DType::kF32, {7, 3}}}, {}, "expected equal shapes, found f32[3,7] and f32[7,3]"}};
}

// What the records of y = f(x) have in common, and those of dx = f'(x) dy.
constexpr OpDef Activation(OpDef op) {
  op.infer = SameShapes<1>;
  if (!op.samples) op.samples = Unary;
  op.error_samples = UnaryErrors;
  op.in_place = 0;
  op.row_inputs = 0b1;
  return op;
}
constexpr OpDef ActivationGrad(OpDef op) {
  op.infer = SameShapes<2>;
  op.samples = Binary;
  op.error_samples = BinaryErrors;
  op.in_place = 1;  // dy
  op.row_inputs = 0b11;
  return op;
}

}  // namespace

Activated64 Gelu64(double x) { return {x * Phi(x), Phi(x) + x * Density(x)}; }
Activated64 GeluNear64(double x) {
  const double t = x != x ? x : std::clamp(x, -4.0, 4.0), u = t * t / 8 - 1;
  const auto odd = [&](const float(&c)[8]) {
    double sum = 0;
    for (int i = 7; i >= 0; --i) sum = sum * u + double{c[i]};
    return 0.5 + t * sum;
  };
  return {x * odd(kGeluNearCdf), odd(kGeluNearSlope)};
}
Activated64 GeluTanh64(double x) {
  const double s = Sigmoid64(2 * Inner(x)), t = Sigmoid64(-2 * Inner(x));
  return {x * s, s + 2 * x * s * t * InnerSlope(x)};
}

constinit const OpDef kGelu = Activation({
    .name = "gelu",
    .reference = RefMap<[](double x) { return Gelu64(x).y; }>,
    .kernel = GRAFT_KERNEL(GeluF32),
    .gradient = GradientBy<kGeluGrad>,
    .cost = PerElement<30>,
});

constinit const OpDef kGeluNear = Activation({
    .name = "gelu_near",
    .reference = RefMap<[](double x) { return GeluNear64(x).y; }>,
    .kernel = GRAFT_KERNEL(GeluNearF32),
    .cost = PerElement<18>,
    .cancels = true,  // 1/2 and the polynomial, in the negative tail
});

constinit const OpDef kGeluTanh = Activation({
    .name = "gelu_tanh",
    .reference = RefMap<[](double x) { return GeluTanh64(x).y; }>,
    .kernel = GRAFT_KERNEL(GeluTanhF32),
    .gradient = GradientBy<kGeluTanhGrad>,
    .cost = PerElement<25>,
    .rtol = 1e-5,  // the error of w is multiplied by w, up to 30 in the negative tail
});

constinit const OpDef kRelu = Activation({
    .name = "relu",
    .reference = RefMap<Relu64>,
    .kernel = GRAFT_KERNEL(ReluF32),
    .gradient = GradientBy<kReluGrad>,
    .cost = PerElement<1>,
    .samples = UnaryRelu,
});

constinit const OpDef kSilu = Activation({
    .name = "silu",
    .reference = RefMap<[](double x) { return x * Sigmoid64(x); }>,
    .kernel = GRAFT_KERNEL(SiluF32),
    .gradient = GradientBy<kSiluGrad>,
    .cost = PerElement<20>,
});

constinit const OpDef kTanh = Activation({
    .name = "tanh",
    .reference = RefMap<[](double x) { return std::tanh(x); }>,
    .kernel = GRAFT_KERNEL(TanhF32),
    .gradient = GradientBy<kTanhGrad>,
    .cost = PerElement<30>,
});

constinit const OpDef kSigmoid = Activation({
    .name = "sigmoid",
    .reference = RefMap<Sigmoid64>,
    .kernel = GRAFT_KERNEL(SigmoidF32),
    .gradient = GradientBy<kSigmoidGrad>,
    .cost = PerElement<20>,
});

constinit const OpDef kGeluGrad = ActivationGrad({
    .name = "gelu_grad",
    .reference = RefGrad<[](double x) { return Gelu64(x).slope; }>,
    .kernel = GRAFT_KERNEL(GeluGradF32),
    .cost = PerElement<35>,
    .cancels = true,  // zero near -0.75
});

constinit const OpDef kGeluTanhGrad = ActivationGrad({
    .name = "gelu_tanh_grad",
    .reference = RefGrad<[](double x) { return GeluTanh64(x).slope; }>,
    .kernel = GRAFT_KERNEL(GeluTanhGradF32),
    .cost = PerElement<40>,
    .cancels = true,
});

constinit const OpDef kReluGrad = ActivationGrad({
    .name = "relu_grad",
    .reference = RefGrad<ReluSlope64>,
    .kernel = GRAFT_KERNEL(ReluGradF32),
    .cost = PerElement<1>,
});

constinit const OpDef kSiluGrad = ActivationGrad({
    .name = "silu_grad",
    .reference = RefGrad<[](double x) { return Sigmoid64(x) * (1 + x * Sigmoid64(-x)); }>,
    .kernel = GRAFT_KERNEL(SiluGradF32),
    .cost = PerElement<25>,
    .cancels = true,  // zero near -1.28
});

constinit const OpDef kTanhGrad = ActivationGrad({
    .name = "tanh_grad",
    .reference = RefGrad<[](double x) { return 1 / (std::cosh(x) * std::cosh(x)); }>,
    .kernel = GRAFT_KERNEL(TanhGradF32),
    .cost = PerElement<20>,
});

constinit const OpDef kSigmoidGrad = ActivationGrad({
    .name = "sigmoid_grad",
    .reference = RefGrad<[](double x) { return Sigmoid64(x) * Sigmoid64(-x); }>,
    .kernel = GRAFT_KERNEL(SigmoidGradF32),
    .cost = PerElement<20>,
});

}  // namespace graft
#endif  // HWY_ONCE
