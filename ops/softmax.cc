// Softmax over the columns. Top half: the kernel, compiled once per SIMD target; bottom half
// (HWY_ONCE): the record.
#include <cmath>

#include "ops/records.h"
#include "ops/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/softmax.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "ops/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace {

// y = exp(x - max) / sum. A NaN in the row reaches the sum even if the maximum passes it over; a
// row of -infinity only, or with +infinity in it, is NaN as in PyTorch.
void SoftmaxF32(const KernelArgs& a) {
  const int64_t cols = a.in[0].shape.cols();
  const size_t n = static_cast<size_t>(cols);
  const float* x = a.in[0].f32();
  float* y = a.out[0].f32();
  ForRows(a.in[0].shape.rows(), n, [&](int64_t r) HWY_ATTR {
    const float* from = x + r * cols;
    float* to = y + r * cols;
    const VF max = SetV(MaxOf(n, from));
    Transform(
        n, to, [max](VF v) HWY_ATTR { return Exp(DF(), hn::Sub(v, max)); }, from);
    const VF by = SetV(1.0f / SumOf(
                                  n, [](VF v) HWY_ATTR { return v; }, to));
    Transform(
        n, to, [by](VF v) HWY_ATTR { return hn::Mul(v, by); }, to);
  });
}

}  // namespace
}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft {
namespace {

HWY_EXPORT(SoftmaxF32);

void Reference(const ReferenceArgs& a) {
  const size_t cols = Cols(a.in_shape[0]);
  for (size_t r = 0; r < Rows(a.in_shape[0]); ++r) {
    const double* x = &a.in[0][r * cols];
    const double max = *std::max_element(x, x + cols);
    double sum = 0;
    for (size_t c = 0; c < cols; ++c) sum += std::exp(x[c] - max);
    for (size_t c = 0; c < cols; ++c) a.out[0][r * cols + c] = std::exp(x[c] - max) / sum;
  }
}

}  // namespace

constinit const OpDef kSoftmax{.name = "softmax",
                               .infer = +[](Types in, const Attrs&) -> std::vector<TensorType> {
                                 ExpectCount(in, 1);
                                 ExpectF32(in);
                                 ExpectRank(in[0], 2, "x");
                                 Columns(in[0]);
                                 return {in[0]};
                               },
                               .reference = Reference,
                               .kernel =
                                   +[](const KernelArgs& a) noexcept {
                                     HWY_DYNAMIC_DISPATCH(SoftmaxF32)
                                     (a);
                                   },
                               // dx = y (dy - sum over columns of dy y)
                               .gradient = +[](const GradientArgs& v) -> std::vector<ValueId> {
                                 if (!v.need[0]) return {ValueId{}};
                                 const ValueId y = v.out[0], dy = v.cotangent[0];
                                 return {Mul(v.g, y, Sub(v.g, dy, SumCols(v.g, Mul(v.g, dy, y))))};
                               },
                               .cost = PerElement<20>,
                               .samples = +[]() -> std::vector<Sample> {
                                 return {{"one", {{{1, 1}}}},
                                         {"odd", {{{3, 7}}}},
                                         {"prime", {{{13, 31}}}},
                                         {"empty", {{{0, 5}}}},
                                         {"steep", {{{5, 37}, -60, 60}}},
                                         {"offset", {{{3, 7}, 998, 1002}}},
                                         {"large", {{{150, 257}}}},
                                         {"wide", {{{3, 4096}}}},
                                         {"bench", {{{2364, 197}}}}};
                               },
                               .error_samples = +[]() -> std::vector<ErrorSample> {
                                 return {
                                     {{}, {}, "expected 1 inputs, found 0"},
                                     {{{DType::kI32, {3, 7}}}, {}, "expected all inputs as f32"},
                                     {{{DType::kF32, {3, 0}}}, {}, "at least one column"}};
                               },
                               .rtol = 1e-5,  // half an ulp of x - max, which exp makes relative
                               .in_place = 0,
                               .row_inputs = 0b1};

}  // namespace graft
#endif  // HWY_ONCE
