// Updates of parameters, as torch.optim computes them in f32; results take the place of inputs.
// Top half: kernels, compiled once per SIMD target. Bottom half (HWY_ONCE): the records.
#include <cmath>

#include "ops/records.h"
#include "ops/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/optimizer.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "ops/simd-inl.h"

#ifndef GRAFT_OPS_OPTIMIZER_ONCE_
#define GRAFT_OPS_OPTIMIZER_ONCE_
namespace graft {
namespace {

// The scalars of an AdamW step, from attributes and hyper = {lr, 1 - beta1^t, 1 - beta2^t}.
struct AdamWStep {
  template <class T>
  AdamWStep(const AdamWAttrs& a, const T* hyper)
      : decay(1 - double(hyper[0]) * a.weight_decay),
        one_minus_beta1(1 - a.beta1),
        beta2(a.beta2),
        one_minus_beta2(1 - a.beta2),
        step_size(double(hyper[0]) / double(hyper[1])),
        root_correction(std::sqrt(double(hyper[2]))),
        eps(a.eps) {}
  double decay, one_minus_beta1, beta2, one_minus_beta2, step_size, root_correction, eps;
};

}  // namespace
}  // namespace graft
#endif

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace {

HWY_INLINE VF SetRounded(double x) { return SetV(static_cast<float>(x)); }

// m += (1 - beta1) (g - m); v = beta2 v + (1 - beta2) g^2
// p = decay p - step_size m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
void AdamWF32(const KernelArgs& a) {
  const AdamWStep s(a.attrs.As<AdamWAttrs>(), a.in[4].f32());
  const VF decay = SetRounded(s.decay), by_m = SetRounded(s.one_minus_beta1),
           beta2 = SetRounded(s.beta2);
  const VF by_v = SetRounded(s.one_minus_beta2), step = SetRounded(s.step_size),
           eps = SetRounded(s.eps);
  const VF root = SetRounded(s.root_correction);
  ForChunks(a.in[0].shape.size(), [&](int64_t at, size_t n) HWY_ATTR {
    const std::array<const float*, 4> in{a.in[0].f32() + at, a.in[1].f32() + at, a.in[2].f32() + at,
                                         a.in[3].f32() + at};
    const std::array<float*, 3> out{a.out[0].f32() + at, a.out[1].f32() + at, a.out[2].f32() + at};
    ForVectors(n, in, out, [&](const auto& p, const auto& o, size_t i) HWY_ATTR {
      const DF d;
      const VF g = LoadV(p[1] + i), m0 = LoadV(p[2] + i);
      const VF m = hn::MulAdd(by_m, hn::Sub(g, m0), m0);
      const VF v = hn::MulAdd(hn::Mul(by_v, g), g, hn::Mul(beta2, LoadV(p[3] + i)));
      const VF denominator = hn::Add(hn::Div(hn::Sqrt(v), root), eps);
      const VF param = hn::Mul(decay, LoadV(p[0] + i));
      hn::StoreU(hn::NegMulAdd(step, hn::Div(m, denominator), param), d, o[0] + i);
      hn::StoreU(m, d, o[1] + i);
      hn::StoreU(v, d, o[2] + i);
    });
  });
}

// g += wd p; buffer = momentum buffer + g; p -= lr buffer
void SgdF32(const KernelArgs& a) {
  const SgdAttrs& attrs = a.attrs.As<SgdAttrs>();
  const VF momentum = SetRounded(attrs.momentum), decay = SetRounded(attrs.weight_decay);
  const VF lr = SetV(a.in[3].f32()[0]);
  ForChunks(a.in[0].shape.size(), [&](int64_t at, size_t n) HWY_ATTR {
    const std::array<const float*, 3> in{a.in[0].f32() + at, a.in[1].f32() + at,
                                         a.in[2].f32() + at};
    const std::array<float*, 2> out{a.out[0].f32() + at, a.out[1].f32() + at};
    ForVectors(n, in, out, [&](const auto& p, const auto& o, size_t i) HWY_ATTR {
      const VF param = LoadV(p[0] + i);
      const VF g = hn::MulAdd(decay, param, LoadV(p[1] + i));
      const VF buffer = hn::MulAdd(momentum, LoadV(p[2] + i), g);
      hn::StoreU(hn::NegMulAdd(lr, buffer, param), DF(), o[0] + i);
      hn::StoreU(buffer, DF(), o[1] + i);
    });
  });
}

}  // namespace
}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft {
namespace {

HWY_EXPORT(AdamWF32);
HWY_EXPORT(SgdF32);
#define GRAFT_KERNEL(f) +[](const KernelArgs& a) noexcept { HWY_DYNAMIC_DISPATCH(f)(a); }

// The operands are `states` tensors like the parameter, the parameter and its gradient, then hyper
// [3].
std::vector<TensorType> InferUpdate(Types in, size_t states) {
  ExpectCount(in, states + 3);
  ExpectF32(in);
  for (size_t i = 1; i < states + 2; ++i)
    ExpectShape(in[i], in[0].shape, i == 1 ? "the gradient" : "the state");
  ExpectShape(in[states + 2], {3}, "hyper");
  return std::vector<TensorType>(states + 1, in[0]);
}

void RefAdamW(const ReferenceArgs& a) {
  const AdamWStep s(a.attrs.As<AdamWAttrs>(), a.in[4].data());
  for (size_t i = 0; i < a.in[0].size(); ++i) {
    const double g = a.in[1][i];
    const double m = a.in[2][i] + s.one_minus_beta1 * (g - a.in[2][i]);
    const double v = s.beta2 * a.in[3][i] + s.one_minus_beta2 * g * g;
    a.out[0][i] =
        s.decay * a.in[0][i] - s.step_size * m / (std::sqrt(v) / s.root_correction + s.eps);
    a.out[1][i] = m;
    a.out[2][i] = v;
  }
}

void RefSgd(const ReferenceArgs& a) {
  const SgdAttrs& attrs = a.attrs.As<SgdAttrs>();
  for (size_t i = 0; i < a.in[0].size(); ++i) {
    const double g = a.in[1][i] + attrs.weight_decay * a.in[0][i];
    a.out[1][i] = attrs.momentum * a.in[2][i] + g;
    a.out[0][i] = a.in[0][i] - a.in[3][0] * a.out[1][i];
  }
}

const std::pair<const char*, Extents> kShapes[] = {{"one", {1}},          {"odd", {3, 7}},
                                                   {"prime", {13, 31}},   {"empty", {0, 5}},
                                                   {"large", {150, 257}}, {"bench", {768, 768}}};

std::vector<Sample> AdamWSamples() {
  std::vector<Sample> samples;
  for (const auto& [label, e] : kShapes)
    samples.push_back({label,
                       {{e}, {e}, {e}, {e, 0.01, 2}, {{3}, 0.001, 0.9}},
                       AdamWAttrs{.weight_decay = 0.05}});
  samples.push_back({"first_step",
                     {{{3, 7}}, {{3, 7}}, {{3, 7}, 0, 0}, {{3, 7}, 0, 0}, {{3}, 0.1, 0.2}},
                     AdamWAttrs{}});
  return samples;
}
std::vector<Sample> SgdSamples() {
  std::vector<Sample> samples;
  for (const auto& [label, e] : kShapes)
    samples.push_back({label, {{e}, {e}, {e}, {{3}, 0.001, 0.9}}, SgdAttrs{.weight_decay = 0.01}});
  samples.push_back(
      {"plain", {{{3, 7}}, {{3, 7}}, {{3, 7}}, {{3}, 0.1, 0.2}}, SgdAttrs{.momentum = 0}});
  return samples;
}

const TensorType kParam{DType::kF32, {3, 7}}, kHyper{DType::kF32, {3}};

// min(1, max_norm / (sqrt(n) + 1e-6)); a NaN stays one.
template <class T>
T ClipFactor(T squared_norm, double max_norm) {
  const double factor = max_norm / (std::sqrt(static_cast<double>(squared_norm)) + 1e-6);
  return static_cast<T>(factor > 1 ? 1 : factor);
}

}  // namespace

constinit const OpDef kAdamW{
    .name = "adamw",
    .default_attrs = +[] { return Attrs(AdamWAttrs{}); },
    .infer = +[](Types in, const Attrs&) { return InferUpdate(in, 2); },
    .reference = RefAdamW,
    .kernel = GRAFT_KERNEL(AdamWF32),
    .cost = PerElement<14>,
    .samples = AdamWSamples,
    .error_samples = +[]() -> std::vector<ErrorSample> {
      return {
          {{kParam}, AdamWAttrs{}, "expected 5 inputs, found 1"},
          {{kParam, kHyper, kParam, kParam, kHyper}, AdamWAttrs{}, "expected the gradient [3,7]"},
          {{kParam, kParam, kParam, kHyper, kHyper}, AdamWAttrs{}, "expected the state [3,7]"},
          {{kParam, kParam, kParam, kParam, kParam}, AdamWAttrs{}, "expected hyper [3]"}};
    },
    .cancels = true,
    .in_place = 0};

constinit const OpDef kSgd{
    .name = "sgd",
    .default_attrs = +[] { return Attrs(SgdAttrs{}); },
    .infer = +[](Types in, const Attrs&) { return InferUpdate(in, 1); },
    .reference = RefSgd,
    .kernel = GRAFT_KERNEL(SgdF32),
    .cost = PerElement<6>,
    .samples = SgdSamples,
    .error_samples = +[]() -> std::vector<ErrorSample> {
      return {{{kParam}, SgdAttrs{}, "expected 4 inputs, found 1"},
              {{kParam, kHyper, kParam, kHyper}, SgdAttrs{}, "expected the gradient [3,7]"}};
    },
    .cancels = true,
    .in_place = 0};

constinit const OpDef kClipScale{
    .name = "clip_scale",
    .default_attrs = +[] { return Attrs(ClipAttrs{}); },
    .infer = +[](Types in, const Attrs&) -> std::vector<TensorType> {
      ExpectCount(in, 1);
      ExpectF32(in);
      ExpectShape(in[0], {1}, "a squared norm");
      return {in[0]};
    },
    .reference =
        +[](const ReferenceArgs& a) {
          a.out[0][0] = ClipFactor(a.in[0][0], a.attrs.As<ClipAttrs>().max_norm);
        },
    .kernel =
        +[](const KernelArgs& a) noexcept {
          *a.out[0].f32() = ClipFactor(*a.in[0].f32(), a.attrs.As<ClipAttrs>().max_norm);
        },
    .cost = PerElement<4>,
    .samples = +[]() -> std::vector<Sample> {
      return {{"one", {{{1}, 4, 9}}, ClipAttrs{1}},
              {"below", {{{1}, 0.1, 0.5}}, ClipAttrs{1}},
              {"zero", {{{1}, 0, 0}}, ClipAttrs{1}}};
    },
    .error_samples = +[]() -> std::vector<ErrorSample> {
      return {{{kParam}, ClipAttrs{}, "expected a squared norm [1], found f32[3,7]"}};
    },
    .in_place = 0};

}  // namespace graft
#endif  // HWY_ONCE
