// Cross entropy with label smoothing e, per row z [K] with label y:
//   loss = (1 - e) (L - z_y) + e / K sum_k (L - z_k),  L = log sum_k exp(z_k),
// as torch's cross_entropy(reduction="none", label_smoothing=e). A label outside [0, K) gives NaN.
// Top half: kernels, compiled once per SIMD target. Bottom half (HWY_ONCE): the records.
#include <cmath>
#include <limits>

#include "ops/records.h"
#include "ops/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/loss.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "ops/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace {

// Rows hold few classes, so sums whose difference is taken are finished in double precision.
void CrossEntropyF32(const KernelArgs& a) {
  const int64_t classes = a.in[0].shape.cols();
  const size_t n = static_cast<size_t>(classes);
  const float* z = a.in[0].f32();
  const int32_t* labels = a.in[1].i32();
  float* losses = a.out[0].f32();
  const double smoothing = a.attrs.As<LossAttrs>().smoothing;
  ForRows(a.in[0].shape.rows(), n, [&](int64_t r) HWY_ATTR {
    if (labels[r] < 0 || labels[r] >= classes) {
      losses[r] = std::numeric_limits<float>::quiet_NaN();
      return;
    }
    const float* row = z + r * classes;
    const float max = MaxOf(n, row);
    const VF m = SetV(max);
    const double log_sum = std::log(static_cast<double>(SumOf(
        n, [m](VF v) HWY_ATTR { return Exp(DF(), hn::Sub(v, m)); }, row)));
    double loss = log_sum - (static_cast<double>(row[labels[r]]) - max);
    if (smoothing != 0) {
      const double shifted = SumOf(
          n, [m](VF v) HWY_ATTR { return hn::Sub(v, m); }, row);
      const double mean = log_sum - shifted / static_cast<double>(classes);
      loss = (1 - smoothing) * loss + smoothing * mean;
    }
    losses[r] = static_cast<float>(loss);
  });
}

// dz_k = dloss (softmax(z)_k - (1 - e) [k = y] - e / K)
void CrossEntropyGradF32(const KernelArgs& a) {
  const int64_t classes = a.in[0].shape.cols();
  const size_t n = static_cast<size_t>(classes);
  const float *z = a.in[0].f32(), *dlosses = a.in[2].f32();
  const int32_t* labels = a.in[1].i32();
  float* dz = a.out[0].f32();
  const double smoothing = a.attrs.As<LossAttrs>().smoothing;
  ForRows(a.in[0].shape.rows(), n, [&](int64_t r) HWY_ATTR {
    const float* row = z + r * classes;
    float* to = dz + r * classes;
    if (labels[r] < 0 || labels[r] >= classes) {
      std::fill_n(to, n, std::numeric_limits<float>::quiet_NaN());
      return;
    }
    const VF m = SetV(MaxOf(n, row));
    const float dloss = dlosses[r], z_label = row[labels[r]];  // to may be row
    Transform(
        n, to, [m](VF v) HWY_ATTR { return Exp(DF(), hn::Sub(v, m)); }, row);
    const float by = 1.0f / SumOf(
                                n, [](VF v) HWY_ATTR { return v; }, to);
    const double off = smoothing / static_cast<double>(classes);
    const double p = static_cast<double>(to[labels[r]]) * by;
    const VF scale = SetV(by), shift = SetV(static_cast<float>(off)), times = SetV(dloss);
    Transform(
        n, to, [=](VF v) HWY_ATTR { return hn::Mul(times, hn::MulSub(v, scale, shift)); }, to);
    to[labels[r]] = static_cast<float>(dloss * (p - (1 - smoothing) - off));
    if (std::isnan(z_label)) to[labels[r]] = z_label;
  });
}

}  // namespace
}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft {
namespace {

HWY_EXPORT(CrossEntropyF32);
HWY_EXPORT(CrossEntropyGradF32);
#define GRAFT_KERNEL(f) +[](const KernelArgs& a) noexcept { HWY_DYNAMIC_DISPATCH(f)(a); }

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

void CheckLoss(Types in, const Attrs& attrs) {
  ExpectType(in[0], DType::kF32, "logits");
  ExpectRank(in[0], 2, "logits");
  Columns(in[0]);
  ExpectType(in[1], DType::kI32, "labels");
  ExpectShape(in[1], {in[0].shape[0]}, "labels");
  const double smoothing = attrs.As<LossAttrs>().smoothing;
  if (!(smoothing >= 0 && smoothing <= 1))
    Fail("expected label smoothing in [0, 1], found {}", smoothing);
}

double LogSum(const double* z, size_t n) {
  const double max = *std::max_element(z, z + n);
  double sum = 0;
  for (size_t c = 0; c < n; ++c) sum += std::exp(z[c] - max);
  return max + std::log(sum);
}

void RefLoss(const ReferenceArgs& a) {
  const size_t n = Cols(a.in_shape[0]);
  const double e = a.attrs.As<LossAttrs>().smoothing, classes = static_cast<double>(n);
  for (size_t r = 0; r < Rows(a.in_shape[0]); ++r) {
    const double* z = &a.in[0][r * n];
    const double label = a.in[1][r], log_sum = LogSum(z, n);
    if (label < 0 || label >= classes) {
      a.out[0][r] = kNan;
      continue;
    }
    double loss = (1 - e) * (log_sum - z[static_cast<size_t>(label)]);
    if (e != 0)
      for (size_t c = 0; c < n; ++c) loss += e / classes * (log_sum - z[c]);
    a.out[0][r] = loss;
  }
}

void RefLossGrad(const ReferenceArgs& a) {
  const size_t n = Cols(a.in_shape[0]);
  const double e = a.attrs.As<LossAttrs>().smoothing, classes = static_cast<double>(n);
  for (size_t r = 0; r < Rows(a.in_shape[0]); ++r) {
    const double* z = &a.in[0][r * n];
    const double label = a.in[1][r], log_sum = LogSum(z, n);
    const bool valid = label >= 0 && label < classes;
    for (size_t c = 0; c < n; ++c) {
      const double target = (static_cast<double>(c) == label ? 1 - e : 0) + e / classes;
      a.out[0][r * n + c] = valid ? a.in[2][r] * (std::exp(z[c] - log_sum) - target) : kNan;
    }
  }
}

// Samples of the loss; with `grad` those of its gradient, which also takes dlosses [S,1].
std::vector<Sample> SamplesOf(bool grad) {
  auto sample = [grad](const char* label, int64_t rows, int64_t classes, double smoothing,
                       double range = 2) {
    SampleInput labels{{rows}};
    for (int64_t r = 0; r < rows; ++r)
      labels.ints.push_back(static_cast<int32_t>((r * 7 + 3) % classes));
    Sample s{label, {{{rows, classes}, -range, range}, labels}, LossAttrs{smoothing}};
    if (grad) s.in.push_back({{rows, 1}});
    return s;
  };
  std::vector<Sample> samples{sample("one", 1, 1, 0),         sample("odd", 3, 7, 0),
                              sample("smooth", 3, 7, 0.1),    sample("prime", 13, 31, 0.1),
                              sample("empty", 0, 5, 0.1),     sample("steep", 5, 37, 0, 40),
                              sample("uniform", 3, 7, 1),     sample("large", 150, 257, 0.1),
                              sample("bench", 256, 1000, 0.1)};
  samples.push_back(sample("outside", 5, 7, 0.1));
  samples.back().in[1].ints = {0, -1, 7, 6, -100};
  return samples;
}

std::vector<ErrorSample> ErrorsOf(bool grad) {
  const TensorType z{DType::kF32, {3, 7}}, labels{DType::kI32, {3}}, dlosses{DType::kF32, {3, 1}};
  std::vector<ErrorSample> errors{
      {{z}, LossAttrs{}, grad ? "expected 3 inputs, found 1" : "expected 2 inputs, found 1"},
      {{z, dlosses}, LossAttrs{}, "expected labels as i32, found f32[3,1]"},
      {{z, {DType::kI32, {4}}}, LossAttrs{}, "expected labels [3], found i32[4]"},
      {{{DType::kF32, {3, 0}}, labels}, LossAttrs{}, "at least one column"},
      {{z, labels}, LossAttrs{1.5}, "label smoothing in [0, 1], found 1.5"}};
  if (grad) {
    for (size_t i = 1; i < errors.size(); ++i) errors[i].in.push_back(dlosses);
    errors.push_back({{z, labels, z}, LossAttrs{}, "expected dlosses [3,1], found f32[3,7]"});
  }
  return errors;
}

}  // namespace

constinit const OpDef kCrossEntropy{
    .name = "cross_entropy",
    .default_attrs = +[] { return Attrs(LossAttrs{}); },
    .infer = +[](Types in, const Attrs& attrs) -> std::vector<TensorType> {
      ExpectCount(in, 2);
      CheckLoss(in, attrs);
      return {{DType::kF32, {in[0].shape[0], 1}}};
    },
    .reference = RefLoss,
    .kernel = GRAFT_KERNEL(CrossEntropyF32),
    .gradient =
        +[](const GradientArgs& v) {
          std::vector<ValueId> d(2);
          if (v.need[0])
            d[0] = v.g.Add1(kCrossEntropyGrad, {v.in[0], v.in[1], v.cotangent[0]}, v.attrs);
          return d;
        },
    .cost = PerElement<20>,
    .samples = +[] { return SamplesOf(false); },
    .error_samples = +[] { return ErrorsOf(false); },
    .cancels = true};

constinit const OpDef kCrossEntropyGrad{
    .name = "cross_entropy_grad",
    .default_attrs = +[] { return Attrs(LossAttrs{}); },
    .infer = +[](Types in, const Attrs& attrs) -> std::vector<TensorType> {
      ExpectCount(in, 3);
      CheckLoss(in, attrs);
      ExpectType(in[2], DType::kF32, "dlosses");
      ExpectShape(in[2], {in[0].shape[0], 1}, "dlosses");
      return {in[0]};
    },
    .reference = RefLossGrad,
    .kernel = GRAFT_KERNEL(CrossEntropyGradF32),
    .cost = PerElement<25>,
    .samples = +[] { return SamplesOf(true); },
    .error_samples = +[] { return ErrorsOf(true); },
    .rtol = 1e-5,
    .cancels = true,
    .in_place = 0};

}  // namespace graft
#endif  // HWY_ONCE
