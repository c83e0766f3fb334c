// Records of low_attention and low_attention_grad: attention (attention.cc) with products of bf16.
// Each product is 2^-8 off, and so is each step behind it. The pass low_precision makes them.
#include "ops/attention_record.h"
#include "ops/low_reference.h"
#include "ops/records.h"

namespace graft {
namespace {

// What products of bf16 take as bf16, too, counts as f32.
template <class P>
std::vector<TensorType> AsF32(Types in, const P& p, bool gradient) {
  const AttentionInputs<P> at(p, gradient);
  std::vector<TensorType> all(in.begin(), in.end());
  const auto widen = [&](size_t i) {
    if (i < all.size() && all[i].dtype == DType::kBf16) all[i].dtype = DType::kF32;
  };
  for (const size_t i : {kQ, kK, kV}) widen(i);
  if (gradient) widen(at.context), widen(at.dcontext);
  return all;
}

std::vector<TensorType> InferLowAttention(Types in, const Attrs& attrs) {
  const LowAttentionAttrs& p = attrs.As<LowAttentionAttrs>();
  const AttentionAttrs plain = p;
  std::vector<TensorType> out = kAttention.infer(AsF32(in, p, false), plain);
  if (p.context16) out[0].dtype = DType::kBf16;
  return out;
}

bool Gives16(const LowAttentionGradAttrs& p, char what) {
  return p.grads16 != "none" && p.grads16.find(what) != std::string::npos;
}

std::vector<TensorType> InferLowAttentionGrad(Types in, const Attrs& attrs) {
  const LowAttentionGradAttrs& p = attrs.As<LowAttentionGradAttrs>();
  const AttentionGradAttrs plain = p;
  std::vector<TensorType> out = kAttentionGrad.infer(AsF32(in, p, true), plain);
  if (p.grads16 != "none" && p.grads16.find_first_not_of("qkv") != std::string::npos)
    Fail("grads16: expected none or letters of 'qkv', found '{}'", p.grads16);
  for (size_t i = 0; i < 3; ++i)
    if (Gives16(p, "qkv"[i])) out[i].dtype = DType::kBf16;
  return out;
}

void RefLowAttention(const ReferenceArgs& a) {
  const LowAttentionAttrs& p = a.attrs.As<LowAttentionAttrs>();
  const Attrs plain(static_cast<const AttentionAttrs&>(p));
  kAttention.reference({a.in, a.out, a.in_shape, a.out_shape, plain});
  if (p.context16) RoundToBf16(a.out[0]);
}

void RefLowAttentionGrad(const ReferenceArgs& a) {
  const LowAttentionGradAttrs& p = a.attrs.As<LowAttentionGradAttrs>();
  const Attrs plain(static_cast<const AttentionGradAttrs&>(p));
  kAttentionGrad.reference({a.in, a.out, a.in_shape, a.out_shape, plain});
  for (size_t i = 0; i < 3; ++i)
    if (Gives16(p, "qkv"[i])) RoundToBf16(a.out[i]);
}

// The samples of the plain operator with attributes of the low one and, for each, one more whose
// numbers are bf16 where they may be.
template <class P, class Low>
std::vector<Sample> LowSamples(const std::vector<Sample>& plain, const Low& low, bool gradient) {
  std::vector<Sample> samples;
  for (Sample sample : plain) {
    const P p = sample.attrs.As<P>();
    Low attrs;
    static_cast<P&>(attrs) = p;
    sample.attrs = attrs;
    samples.push_back(sample);
    if (sample.label == "bench") continue;
    static_cast<P&>(attrs = low) = p;
    sample.attrs = attrs, sample.label += "_16";
    const AttentionInputs<P> at(p, gradient);
    for (const size_t i : {kQ, kK, kV}) sample.in[i].bf16 = true;
    if (gradient) sample.in[at.context].bf16 = sample.in[at.dcontext].bf16 = true;
    samples.push_back(std::move(sample));
  }
  return samples;
}
std::vector<Sample> LowAttentionSamples() {
  LowAttentionAttrs low;
  low.context16 = true;
  return LowSamples<AttentionAttrs>(kAttention.samples(), low, false);
}
std::vector<Sample> LowAttentionGradSamples() {
  LowAttentionGradAttrs low;
  low.grads16 = "qv";
  return LowSamples<AttentionGradAttrs>(kAttentionGrad.samples(), low, true);
}

template <class P, class Low>
std::vector<ErrorSample> LowErrors(std::vector<ErrorSample> errors) {
  for (ErrorSample& e : errors) {
    Low low;
    static_cast<P&>(low) = e.attrs.As<P>();
    e.attrs = low;
  }
  return errors;
}
std::vector<ErrorSample> LowAttentionErrors() {
  return LowErrors<AttentionAttrs, LowAttentionAttrs>(kAttention.error_samples());
}
std::vector<ErrorSample> LowAttentionGradErrors() {
  std::vector<ErrorSample> errors =
      LowErrors<AttentionGradAttrs, LowAttentionGradAttrs>(kAttentionGrad.error_samples());
  const TensorType x = F32({7, 6}), offsets = I32({3}), lse = F32({7, 1});
  LowAttentionGradAttrs low;
  low.grads16 = "qp";
  errors.push_back({{x, x, x, offsets, offsets, x, lse, x}, low, "letters of 'qkv', found 'qp'"});
  return errors;
}

}  // namespace

constinit const OpDef kLowAttention{
    .name = "low_attention",
    .default_attrs = +[] { return Attrs(LowAttentionAttrs{}); },
    .infer = InferLowAttention,
    .reference = RefLowAttention,
    .prepare = PrepareAttention<LowAttentionAttrs, false, CellType::kBf16>,
    .cost = AttentionCost<LowAttentionAttrs>,
    .samples = LowAttentionSamples,
    .error_samples = LowAttentionErrors,
    .rtol = 0.05,
    .cancels = true};
constinit const OpDef kLowAttentionGrad{
    .name = "low_attention_grad",
    .default_attrs = +[] { return Attrs(LowAttentionGradAttrs{}); },
    .infer = InferLowAttentionGrad,
    .reference = RefLowAttentionGrad,
    .prepare = PrepareAttention<LowAttentionGradAttrs, true, CellType::kBf16>,
    .cost = AttentionGradCost<LowAttentionGradAttrs>,
    .samples = LowAttentionGradSamples,
    .error_samples = LowAttentionGradErrors,
    .rtol = 0.05,
    .cancels = true};

}  // namespace graft
