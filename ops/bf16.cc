// to_bf16, to_f32: what lies between operators, in half of the bytes and back. Made by the pass
// bf16_values. Top half: kernels, compiled once per SIMD target. Bottom half (HWY_ONCE): the
// records.
#include "ops/low_cells.h"
#include "ops/low_reference.h"
#include "ops/records.h"
#include "ops/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/bf16.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "ops/bf16-inl.h"
#include "ops/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace {

void Round(const KernelArgs& a) {
  const float* x = a.in[0].f32();
  uint16_t* y = a.out[0].bf16();
  const bool native = HasCells(CellType::kBf16);
  ForChunks(a.out[0].shape.size(), [&](int64_t at, size_t count) HWY_ATTR {
    RoundNumbers(native, x + at, static_cast<int64_t>(count), y + at);
  });
}

void Widen(const KernelArgs& a) {
  const uint16_t* x = a.in[0].bf16();
  float* y = a.out[0].f32();
  ForChunks(a.out[0].shape.size(), [&](int64_t at, size_t count) HWY_ATTR {
    WidenNumbers(x + at, static_cast<int64_t>(count), y + at);
  });
}

}  // namespace
}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft {
namespace {

HWY_EXPORT(Round);
HWY_EXPORT(Widen);
#define GRAFT_KERNEL(f) +[](const KernelArgs& a) noexcept { HWY_DYNAMIC_DISPATCH(f)(a); }

template <DType kFrom, DType kTo>
std::vector<TensorType> InferConversion(Types in, const Attrs&) {
  ExpectCount(in, 1);
  ExpectType(in[0], kFrom, "x");
  return {{kTo, in[0].shape}};
}

std::vector<Sample> ConversionSamples(bool bf16) {
  std::vector<Sample> samples;
  for (const auto& [label, shape] : {std::pair<const char*, Extents>{"one", {1}},
                                     {"odd", {3, 7}},
                                     {"prime", {13, 31}},
                                     {"empty", {0, 5}},
                                     {"large", {150, 257}},
                                     {"bench", {1576, 768}}})
    samples.push_back({label, {{.shape = shape, .bf16 = bf16}}});
  return samples;
}

}  // namespace

constinit const OpDef kToBf16{.name = "to_bf16",
                              .infer = InferConversion<DType::kF32, DType::kBf16>,
                              .reference =
                                  +[](const ReferenceArgs& a) {
                                    a.out[0] = a.in[0];
                                    RoundToBf16(a.out[0]);
                                  },
                              .kernel = GRAFT_KERNEL(Round),
                              .cost = PerElement<0>,
                              .samples = +[] { return ConversionSamples(false); },
                              .error_samples = +[]() -> std::vector<ErrorSample> {
                                return {
                                    {{{DType::kBf16, {3}}}, {}, "expected x as f32, found bf16[3]"},
                                    {{}, {}, "expected 1 inputs, found 0"}};
                              },
                              .row_inputs = 1};

constinit const OpDef kToF32{.name = "to_f32",
                             .infer = InferConversion<DType::kBf16, DType::kF32>,
                             .reference = +[](const ReferenceArgs& a) { a.out[0] = a.in[0]; },
                             .kernel = GRAFT_KERNEL(Widen),
                             .cost = PerElement<0>,
                             .samples = +[] { return ConversionSamples(true); },
                             .error_samples = +[]() -> std::vector<ErrorSample> {
                               return {
                                   {{{DType::kF32, {3}}}, {}, "expected x as bf16, found f32[3]"},
                                   {{}, {}, "expected 1 inputs, found 0"}};
                             },
                             .row_inputs = 1};

}  // namespace graft
#endif  // HWY_ONCE
