// Losses of logits z [S,K] against targets y [S,K], each a mean over the K columns of a row:
//   squared error   1/K sum_k (z_k - y_k)^2                                   as torch's mse_loss
//   binary          1/K sum_k -y_k log s(z_k) - (1 - y_k) log(1 - s(z_k)), s the sigmoid: that is
//                        z_k (1 - y_k) if z_k > 0, else -z_k y_k, and log(1 + exp(-|z_k|)),
//                        as torch's binary_cross_entropy_with_logits
// with reduction="none" and a mean over columns. Their mean over the examples is reduction="mean".
// Top half: kernels, compiled once per SIMD target. Bottom half (HWY_ONCE): the records.
#include <cmath>

#include "ops/ops.h"
#include "ops/records.h"
#include "ops/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/target_loss.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "ops/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace {

void SquaredErrorF32(const KernelArgs& a) {
  const size_t n = static_cast<size_t>(a.in[0].shape.cols());
  const float *z = a.in[0].f32(), *y = a.in[1].f32();
  float* losses = a.out[0].f32();
  ForRows(a.in[0].shape.rows(), n, [&](int64_t r) HWY_ATTR {
    const size_t at = static_cast<size_t>(r) * n;
    const auto square = [](VF p, VF t) HWY_ATTR {
      const VF d = hn::Sub(p, t);
      return hn::Mul(d, d);
    };
    const double sum = SumOf(n, square, z + at, y + at);
    losses[r] = static_cast<float>(sum / static_cast<double>(n));
  });
}

// The sum over k of log(1 + exp(-|z_k|)) as the logarithm of products: each factor is at most 2, so
// the product of a block stays within the range of double.
double SumOfSoftplus(size_t n, const float* z) {
  constexpr size_t kBlock = 256;
  float e[kBlock];
  double sum = 0;
  for (size_t at = 0; at < n; at += kBlock) {
    const size_t count = std::min(kBlock, n - at);
    Transform(
        count, e, [](VF v) HWY_ATTR { return Exp(DF(), hn::Neg(hn::Abs(v))); }, z + at);
    double product = 1;
    for (size_t k = 0; k < count; ++k) product *= 1 + static_cast<double>(e[k]);
    sum += std::log(product);
  }
  return sum;
}

void BinaryCrossEntropyF32(const KernelArgs& a) {
  const size_t n = static_cast<size_t>(a.in[0].shape.cols());
  const float *z = a.in[0].f32(), *y = a.in[1].f32();
  float* losses = a.out[0].f32();
  ForRows(a.in[0].shape.rows(), n, [&](int64_t r) HWY_ATTR {
    const size_t at = static_cast<size_t>(r) * n;
    // z (1 - y) above 0 and -z y below, as neither is a difference of large numbers.
    const auto linear = [](VF v, VF t) HWY_ATTR {
      const VF zero = hn::Zero(DF());
      const VF above = hn::Mul(v, hn::Sub(SetV(1), t));
      return hn::IfThenElse(hn::Gt(v, zero), above, hn::Neg(hn::Mul(v, t)));
    };
    const double sum = SumOf(n, linear, z + at, y + at) + SumOfSoftplus(n, z + at);
    losses[r] = static_cast<float>(sum / static_cast<double>(n));
  });
}

}  // namespace
}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft {
namespace {

HWY_EXPORT(SquaredErrorF32);
HWY_EXPORT(BinaryCrossEntropyF32);
#define GRAFT_KERNEL(f) +[](const KernelArgs& a) noexcept { HWY_DYNAMIC_DISPATCH(f)(a); }

std::vector<TensorType> InferTargetLoss(Types in, const Attrs&) {
  ExpectCount(in, 2);
  ExpectType(in[0], DType::kF32, "logits");
  ExpectRank(in[0], 2, "logits");
  if (!Columns(in[0]).fixed())
    Fail("expected a fixed number of columns, found {}", ToString(in[0]));
  ExpectType(in[1], DType::kF32, "targets");
  ExpectShape(in[1], in[0].shape, "targets");
  return {{DType::kF32, {in[0].shape[0], 1}}};
}

// The mean of loss(z, y) over the columns of each row.
template <auto kLoss>
void RefTargetLoss(const ReferenceArgs& a) {
  const size_t n = Cols(a.in_shape[0]);
  for (size_t r = 0; r < Rows(a.in_shape[0]); ++r) {
    double sum = 0;
    for (size_t k = r * n; k < (r + 1) * n; ++k) sum += kLoss(a.in[0][k], a.in[1][k]);
    a.out[0][r] = sum / static_cast<double>(n);
  }
}

// Builds dy = f by' dloss / K for f [S,K].
ValueId OfRows(Graph& g, ValueId f, ValueId dlosses, double by) {
  const double classes = static_cast<double>(g.shape(f)[1].constant);
  return Scale(g, Mul(g, f, dlosses), by / classes);
}

std::vector<Sample> TargetSamples(double least, double most) {
  const auto sample = [&](const char* label, int64_t rows, int64_t columns, double range = 2) {
    return Sample{label, {{{rows, columns}, -range, range}, {{rows, columns}, least, most}}};
  };
  return {sample("one", 1, 1),     sample("odd", 3, 7),       sample("prime", 13, 31),
          sample("empty", 0, 5),   sample("column", 37, 1),   sample("steep", 5, 37, 40),
          sample("large", 9, 771), sample("bench", 256, 1000)};
}

std::vector<ErrorSample> TargetErrors() {
  const TensorType z{DType::kF32, {3, 7}}, none{DType::kF32, {3, 0}};
  const TensorType tokens{DType::kF32, {3, Dim(0, 0, 1)}};
  return {{{z}, {}, "expected 2 inputs, found 1"},
          {{z, {DType::kI32, {3, 7}}}, {}, "expected targets as f32, found i32[3,7]"},
          {{z, {DType::kF32, {3, 1}}}, {}, "expected targets [3,7], found f32[3,1]"},
          {{{DType::kF32, {3}}, z}, {}, "expected logits of rank 2, found f32[3]"},
          {{none, none}, {}, "at least one column"},
          {{tokens, tokens}, {}, "expected a fixed number of columns"}};
}

}  // namespace

// dz = 2 (z - y) dloss / K, and dy the opposite.
constinit const OpDef kSquaredError{
    .name = "squared_error",
    .infer = InferTargetLoss,
    .reference = RefTargetLoss<[](double z, double y) { return (z - y) * (z - y); }>,
    .kernel = GRAFT_KERNEL(SquaredErrorF32),
    .gradient = +[](const GradientArgs& v) -> std::vector<ValueId> {
      const ValueId d = Sub(v.g, v.in[0], v.in[1]);
      return {v.need[0] ? OfRows(v.g, d, v.cotangent[0], 2) : ValueId{},
              v.need[1] ? OfRows(v.g, d, v.cotangent[0], -2) : ValueId{}};
    },
    .cost = PerElement<3>,
    .samples = +[] { return TargetSamples(-2, 2); },
    .error_samples = TargetErrors,
    .row_inputs = 0b11};

// dz = (sigmoid(z) - y) dloss / K, dy = -z dloss / K.
constinit const OpDef kBinaryCrossEntropy{
    .name = "binary_cross_entropy",
    .infer = InferTargetLoss,
    .reference = RefTargetLoss<[](double z, double y) {
      return (z > 0 ? z * (1 - y) : -z * y) + std::log1p(std::exp(-std::abs(z)));
    }>,
    .kernel = GRAFT_KERNEL(BinaryCrossEntropyF32),
    .gradient = +[](const GradientArgs& v) -> std::vector<ValueId> {
      std::vector<ValueId> d(2);
      if (v.need[0]) {
        const ValueId p = v.g.Add1(kSigmoid, {v.in[0]});
        d[0] = OfRows(v.g, Sub(v.g, p, v.in[1]), v.cotangent[0], 1);
      }
      if (v.need[1]) d[1] = OfRows(v.g, v.in[0], v.cotangent[0], -1);
      return d;
    },
    .cost = PerElement<20>,
    .samples = +[] { return TargetSamples(0, 1); },
    .error_samples = TargetErrors,
    .row_inputs = 0b11};

}  // namespace graft
#endif  // HWY_ONCE
