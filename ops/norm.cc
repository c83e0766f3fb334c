// Layer norm over the columns. Mean and rstd = 1 / sqrt(variance + eps) are results, so that
// backward does not compute them again. Top half: kernels, compiled once per SIMD target. Bottom
// half (HWY_ONCE): the records.
#include <cmath>

#include "ops/low_cells.h"
#include "ops/low_reference.h"
#include "ops/records.h"
#include "ops/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/norm.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "ops/bf16-inl.h"
#include "ops/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace {

// Rows whose sums are made beside each other, as the end of each takes long.
constexpr int64_t kAhead = 4;

// mean and rstd of a few rows; the variance from the deviations, so that a large mean does no harm.
HWY_INLINE void Moments(const float* x, int64_t rows, int64_t cols, double eps, float* means,
                        float* rstds) {
  const size_t n = static_cast<size_t>(cols);
  float squares[kAhead];
  for (int64_t r = 0; r < rows; ++r)
    means[r] = SumOf(
                   n, [](VF v) HWY_ATTR { return v; }, x + r * cols) /
               static_cast<float>(cols);
  for (int64_t r = 0; r < rows; ++r) {
    const VF m = SetV(means[r]);
    squares[r] = SumOf(
        n,
        [m](VF v) HWY_ATTR {
          const VF d = hn::Sub(v, m);
          return hn::Mul(d, d);
        },
        x + r * cols);
  }
  for (int64_t r = 0; r < rows; ++r) {
    const double variance = static_cast<double>(squares[r]) / static_cast<double>(cols);
    rstds[r] = static_cast<float>(1 / std::sqrt(variance + eps));
  }
}

// y = (x - mean) rstd gain + bias. store(at, normed, row) makes a row of y from number `at` on.
template <class F>
void NormRows(const KernelArgs& a, const F& store) {
  const int64_t cols = a.in[0].shape.cols();
  const float* x = a.in[0].f32();
  float *means = a.out[1].f32(), *rstds = a.out[2].f32();
  const double eps = a.attrs.As<NormAttrs>().eps;
  const size_t n = static_cast<size_t>(cols);
  ForRowGroups(a.in[0].shape.rows(), n, kAhead, [&](int64_t first, int64_t rows) HWY_ATTR {
    Moments(x + first * cols, rows, cols, eps, means + first, rstds + first);
    for (int64_t r = first; r < first + rows; ++r) {
      const VF m = SetV(means[r]), s = SetV(rstds[r]);
      const auto normed = [m, s](VF v, VF g, VF b)
                              HWY_ATTR { return hn::MulAdd(hn::Mul(hn::Sub(v, m), s), g, b); };
      store(r * cols, normed, x + r * cols);
    }
  });
}

void LayerNormF32(const KernelArgs& a) {
  const size_t n = static_cast<size_t>(a.in[0].shape.cols());
  const float *gain = a.in[1].f32(), *bias = a.in[2].f32();
  float* y = a.out[0].f32();
  NormRows(a, [&](int64_t at, const auto& normed, const float* row)
                  HWY_ATTR { Transform(n, y + at, normed, row, gain, bias); });
}

// The same to bf16.
template <bool kNative, class F>
HWY_INLINE void TransformTo16(size_t n, uint16_t* out, const F& f, const float* x,
                              const float* gain, const float* bias) {
  const DF d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    StoreBf16<kNative>(d, f(LoadV(x + i), LoadV(gain + i), LoadV(bias + i)), out + i);
  if (i == n) return;
  HWY_ALIGN float end[hn::MaxLanes(DF())];
  Transform(n - i, end, f, x + i, gain + i, bias + i);
  RoundNumbers(kNative, end, static_cast<int64_t>(n - i), out + i);
}

void LowLayerNormKernel(const KernelArgs& a) {
  const size_t n = static_cast<size_t>(a.in[0].shape.cols());
  const float *gain = a.in[1].f32(), *bias = a.in[2].f32();
  uint16_t* y = a.out[0].bf16();
  const bool native = HasCells(CellType::kBf16);
  NormRows(a, [&](int64_t at, const auto& normed, const float* row) HWY_ATTR {
    native ? TransformTo16<true>(n, y + at, normed, row, gain, bias)
           : TransformTo16<false>(n, y + at, normed, row, gain, bias);
  });
}

// With n = (x - mean) rstd and t = gain dy:  dx = rstd (t - mean(t) - n mean(t n)).
void LayerNormGradInputF32(const KernelArgs& a) {
  const int64_t cols = a.in[0].shape.cols();
  const size_t n = static_cast<size_t>(cols);
  const float *x = a.in[0].f32(), *gain = a.in[1].f32(), *means = a.in[2].f32();
  const float *rstds = a.in[3].f32(), *dy = a.in[4].f32();
  float* dx = a.out[0].f32();
  ForRows(a.in[0].shape.rows(), n, [&](int64_t r) HWY_ATTR {
    const float *xr = x + r * cols, *dyr = dy + r * cols;
    const VF m = SetV(means[r]), s = SetV(rstds[r]), by = SetV(1.0f / static_cast<float>(cols));
    const VF t_mean =
        hn::Mul(by, SetV(SumOf(
                        n, [](VF g, VF d) HWY_ATTR { return hn::Mul(g, d); }, gain, dyr)));
    const VF tn_mean = hn::Mul(by, SetV(SumOf(
                                       n,
                                       [m, s](VF v, VF g, VF d) HWY_ATTR {
                                         return hn::Mul(hn::Mul(g, d), hn::Mul(hn::Sub(v, m), s));
                                       },
                                       xr, gain, dyr)));
    Transform(
        n, dx + r * cols,
        [=](VF v, VF g, VF d) HWY_ATTR {
          const VF t = hn::MulSub(g, d, t_mean);
          return hn::Mul(s, hn::NegMulAdd(hn::Mul(hn::Sub(v, m), s), tn_mean, t));
        },
        xr, gain, dyr);
  });
}

// (dgain, dbias) (+)= sum over four rows of (dy n, dy); `first` overwrites what the sums held.
void AddFourRows(const float* x, const float* dy, int64_t stride, const float* mean,
                 const float* rstd, size_t cols, bool first, const std::array<float*, 2>& sums) {
  const std::array<const float*, 10> in{
      x,           x + stride,      x + 2 * stride,  x + 3 * stride,      dy,
      dy + stride, dy + 2 * stride, dy + 3 * stride, first ? x : sums[0], first ? x : sums[1]};
  const VF m0 = SetV(mean[0]), m1 = SetV(mean[1]), m2 = SetV(mean[2]), m3 = SetV(mean[3]);
  const VF s0 = SetV(rstd[0]), s1 = SetV(rstd[1]), s2 = SetV(rstd[2]), s3 = SetV(rstd[3]);
  ForVectors(cols, in, sums, [&](const auto& p, const auto& out, size_t i) HWY_ATTR {
    const DF d;
    const VF d0 = LoadV(p[4] + i), d1 = LoadV(p[5] + i), d2 = LoadV(p[6] + i), d3 = LoadV(p[7] + i);
    const VF g01 = hn::MulAdd(hn::Mul(hn::Sub(LoadV(p[0] + i), m0), s0), d0,
                              hn::Mul(hn::Mul(hn::Sub(LoadV(p[1] + i), m1), s1), d1));
    const VF g23 = hn::MulAdd(hn::Mul(hn::Sub(LoadV(p[2] + i), m2), s2), d2,
                              hn::Mul(hn::Mul(hn::Sub(LoadV(p[3] + i), m3), s3), d3));
    const VF g = hn::Add(g01, g23), b = hn::Add(hn::Add(d0, d1), hn::Add(d2, d3));
    hn::StoreU(first ? g : hn::Add(LoadV(p[8] + i), g), d, out[0] + i);
    hn::StoreU(first ? b : hn::Add(LoadV(p[9] + i), b), d, out[1] + i);
  });
}

void LayerNormGradAffineF32(const KernelArgs& a) {
  const int64_t rows = a.in[0].shape.rows(), cols = a.in[0].shape.cols();
  const float *x = a.in[0].f32(), *means = a.in[1].f32(), *rstds = a.in[2].f32();
  const float* dy = a.in[3].f32();
  const std::array<float*, 2> out{a.out[0].f32(), a.out[1].f32()};
  SumRowBlocks(rows, cols, out, a.scratch,
               [&](int64_t begin, int64_t count, int64_t c, size_t n, const auto& sums) HWY_ATTR {
                 int64_t r = begin;
                 for (; r + 4 <= begin + count; r += 4)
                   AddFourRows(x + r * cols + c, dy + r * cols + c, cols, means + r, rstds + r, n,
                               r == begin, sums);
                 if (r == begin) std::fill_n(sums[0], n, 0.0f), std::fill_n(sums[1], n, 0.0f);
                 for (; r < begin + count; ++r) {
                   const VF m = SetV(means[r]), s = SetV(rstds[r]);
                   const float *xr = x + r * cols + c, *dyr = dy + r * cols + c;
                   Transform(
                       n, sums[0],
                       [m, s](VF sum, VF v, VF d)
                           HWY_ATTR { return hn::MulAdd(hn::Mul(hn::Sub(v, m), s), d, sum); },
                       sums[0], xr, dyr);
                   Transform(
                       n, sums[1], [](VF sum, VF d) HWY_ATTR { return hn::Add(sum, d); }, sums[1],
                       dyr);
                 }
               });
}

}  // namespace
}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft {
namespace {

HWY_EXPORT(LayerNormF32);
HWY_EXPORT(LowLayerNormKernel);
HWY_EXPORT(LayerNormGradInputF32);
HWY_EXPORT(LayerNormGradAffineF32);
#define GRAFT_KERNEL(f) +[](const KernelArgs& a) noexcept { HWY_DYNAMIC_DISPATCH(f)(a); }

// One number for each row of x.
Shape ColumnOf(const TensorType& x) { return {x.shape[0], 1}; }

std::vector<TensorType> InferNorm(Types in, const Attrs&) {
  ExpectCount(in, 3);
  ExpectF32(in);
  ExpectRank(in[0], 2, "x");
  const Dim cols = Columns(in[0]);
  ExpectShape(in[1], {cols}, "gain");
  ExpectShape(in[2], {cols}, "bias");
  const TensorType column{DType::kF32, ColumnOf(in[0])};
  return {in[0], column, column};
}

std::vector<TensorType> InferLowNorm(Types in, const Attrs& attrs) {
  std::vector<TensorType> out = InferNorm(in, attrs);
  out[0].dtype = DType::kBf16;
  return out;
}

std::vector<TensorType> InferGradInput(Types in, const Attrs&) {
  ExpectCount(in, 5);
  ExpectF32(in);
  ExpectRank(in[0], 2, "x");
  ExpectShape(in[1], {Columns(in[0])}, "gain");
  ExpectShape(in[2], ColumnOf(in[0]), "mean");
  ExpectShape(in[3], ColumnOf(in[0]), "rstd");
  ExpectShape(in[4], in[0].shape, "dy");
  return {in[0]};
}

std::vector<TensorType> InferGradAffine(Types in, const Attrs&) {
  ExpectCount(in, 4);
  ExpectF32(in);
  ExpectRank(in[0], 2, "x");
  const TensorType row{DType::kF32, {Columns(in[0])}};
  ExpectShape(in[1], ColumnOf(in[0]), "mean");
  ExpectShape(in[2], ColumnOf(in[0]), "rstd");
  ExpectShape(in[3], in[0].shape, "dy");
  return {row, row};
}

void RefNorm(const ReferenceArgs& a) {
  const size_t cols = Cols(a.in_shape[0]);
  const double count = static_cast<double>(cols);
  for (size_t r = 0; r < Rows(a.in_shape[0]); ++r) {
    const double* x = &a.in[0][r * cols];
    double mean = 0, variance = 0;
    for (size_t c = 0; c < cols; ++c) mean += x[c] / count;
    for (size_t c = 0; c < cols; ++c) variance += (x[c] - mean) * (x[c] - mean) / count;
    const double rstd = 1 / std::sqrt(variance + a.attrs.As<NormAttrs>().eps);
    for (size_t c = 0; c < cols; ++c)
      a.out[0][r * cols + c] = (x[c] - mean) * rstd * a.in[1][c] + a.in[2][c];
    a.out[1][r] = mean;
    a.out[2][r] = rstd;
  }
}

void RefLowNorm(const ReferenceArgs& a) {
  RefNorm(a);
  RoundToBf16(a.out[0]);
}

void RefGradInput(const ReferenceArgs& a) {
  const size_t cols = Cols(a.in_shape[0]);
  const double count = static_cast<double>(cols);
  for (size_t r = 0; r < Rows(a.in_shape[0]); ++r) {
    const double mean = a.in[2][r], rstd = a.in[3][r];
    auto normed = [&](size_t c) { return (a.in[0][r * cols + c] - mean) * rstd; };
    auto t = [&](size_t c) { return a.in[1][c] * a.in[4][r * cols + c]; };
    double t_mean = 0, tn_mean = 0;
    for (size_t c = 0; c < cols; ++c) t_mean += t(c) / count, tn_mean += t(c) * normed(c) / count;
    for (size_t c = 0; c < cols; ++c)
      a.out[0][r * cols + c] = rstd * (t(c) - t_mean - normed(c) * tn_mean);
  }
}

void RefGradAffine(const ReferenceArgs& a) {
  const size_t cols = Cols(a.in_shape[0]);
  for (size_t r = 0; r < Rows(a.in_shape[0]); ++r)
    for (size_t c = 0; c < cols; ++c) {
      const double dy = a.in[3][r * cols + c];
      a.out[0][c] += dy * (a.in[0][r * cols + c] - a.in[1][r]) * a.in[2][r];
      a.out[1][c] += dy;
    }
}

// Cotangents of x, gain, bias from those of y, mean and rstd, any of which may be missing.
// With n = (x - mean) rstd: d mean / dx = 1 / C, d rstd / dx = -rstd^2 n / C.
std::vector<ValueId> NormGradient(const GradientArgs& v) {
  Graph& g = v.g;
  const ValueId x = v.in[0], gain = v.in[1], mean = v.out[1], rstd = v.out[2];
  const double count = static_cast<double>(g.shape(gain)[0].constant);
  std::vector<ValueId> d(3);
  if (v.cotangent[0].valid() && (v.need[1] || v.need[2])) {
    const ValueList affine = g.Add(kLayerNormGradAffine, {x, mean, rstd, v.cotangent[0]});
    if (v.need[1]) d[1] = affine[0];
    if (v.need[2]) d[2] = affine[1];
  }
  if (!v.need[0]) return d;
  auto add = [&](ValueId term) { d[0] = d[0].valid() ? Add(g, d[0], term) : term; };
  if (v.cotangent[0].valid())
    add(g.Add1(kLayerNormGradInput, {x, gain, mean, rstd, v.cotangent[0]}));
  if (v.cotangent[1].valid()) add(BroadcastLike(g, Scale(g, v.cotangent[1], 1 / count), x));
  if (v.cotangent[2].valid()) {
    const ValueId n = Mul(g, Sub(g, x, mean), rstd);
    const ValueId weight = Mul(g, v.cotangent[2], Mul(g, rstd, rstd));
    add(Mul(g, n, Scale(g, weight, -1 / count)));
  }
  return d;
}

// Shapes [R,C] of all samples, by label.
const std::pair<const char*, Extents> kShapes[] = {
    {"one", {1, 1}},       {"odd", {3, 7}},     {"prime", {13, 31}},   {"empty", {0, 5}},
    {"large", {301, 129}}, {"wide", {5, 4096}}, {"bench", {1576, 768}}};

std::vector<Sample> NormSamples() {
  std::vector<Sample> samples;
  for (const auto& [label, e] : kShapes)
    samples.push_back({label, {{e}, {{e[1]}, 0.5, 1.5}, {{e[1]}}}, NormAttrs{1e-5}});
  samples.push_back(
      {"large_mean", {{{13, 31}, 29, 31}, {{31}, 0.5, 1.5}, {{31}}}, NormAttrs{1e-5}});
  samples.push_back({"large_eps", {{{5, 7}}, {{7}}, {{7}}}, NormAttrs{0.5}});
  return samples;
}
std::vector<Sample> GradInputSamples() {
  std::vector<Sample> samples;
  for (const auto& [label, e] : kShapes)
    samples.push_back(
        {label, {{e}, {{e[1]}, 0.5, 1.5}, {{e[0], 1}, -0.2, 0.2}, {{e[0], 1}, 0.5, 1.5}, {e}}});
  return samples;
}
std::vector<Sample> GradAffineSamples() {
  std::vector<Sample> samples;
  for (const auto& [label, e] : kShapes)
    samples.push_back({label, {{e}, {{e[0], 1}, -0.2, 0.2}, {{e[0], 1}, 0.5, 1.5}, {e}}});
  return samples;
}

const TensorType kX{DType::kF32, {3, 7}}, kRow{DType::kF32, {7}}, kColumn{DType::kF32, {3, 1}};

std::vector<ErrorSample> NormErrors() {
  return {{{kX, kRow}, NormAttrs{}, "expected 3 inputs, found 2"},
          {{kRow, kRow, kRow}, NormAttrs{}, "expected x of rank 2, found f32[7]"},
          {{kX, kColumn, kRow}, NormAttrs{}, "expected gain [7], found f32[3,1]"},
          {{kX, kRow, {DType::kF32, {6}}}, NormAttrs{}, "expected bias [7], found f32[6]"},
          {{{DType::kF32, {3, 0}}, kRow, kRow}, NormAttrs{}, "at least one column"}};
}

}  // namespace

constinit const OpDef kLayerNorm{.name = "layer_norm",
                                 .default_attrs = +[] { return Attrs(NormAttrs{}); },
                                 .infer = InferNorm,
                                 .reference = RefNorm,
                                 .kernel = GRAFT_KERNEL(LayerNormF32),
                                 .gradient = NormGradient,
                                 .cost = PerElement<8>,
                                 .samples = NormSamples,
                                 .error_samples = NormErrors,
                                 .rtol = 5e-6,
                                 .cancels = true,
                                 .in_place = 0,
                                 .row_inputs = 0b1};

// What low_matmul reads, made by bf16_values.
constinit const OpDef kLowLayerNorm{.name = "low_layer_norm",
                                    .default_attrs = +[] { return Attrs(NormAttrs{}); },
                                    .infer = InferLowNorm,
                                    .reference = RefLowNorm,
                                    .kernel = GRAFT_KERNEL(LowLayerNormKernel),
                                    .cost = PerElement<8>,
                                    .samples = NormSamples,
                                    .error_samples = NormErrors,
                                    .rtol = 0.01,
                                    .cancels = true,
                                    .row_inputs = 0b1};

constinit const OpDef kLayerNormGradInput{
    .name = "layer_norm_grad_input",
    .infer = InferGradInput,
    .reference = RefGradInput,
    .kernel = GRAFT_KERNEL(LayerNormGradInputF32),
    .cost = PerElement<15>,
    .samples = GradInputSamples,
    .error_samples = +[]() -> std::vector<ErrorSample> {
      return {{{kX, kRow, kColumn, kColumn}, {}, "expected 5 inputs, found 4"},
              {{kX, kRow, kColumn, kRow, kX}, {}, "expected rstd [3,1], found f32[7]"},
              {{kX, kRow, kColumn, kColumn, kRow}, {}, "expected dy [3,7], found f32[7]"}};
    },
    .rtol = 5e-6,
    .cancels = true,
    .in_place = 4,
    .row_inputs = 0b11101};

constinit const OpDef kLayerNormGradAffine{
    .name = "layer_norm_grad_affine",
    .infer = InferGradAffine,
    .reference = RefGradAffine,
    .prepare = +[](const PrepareArgs& a) -> Prepared {
      return {.run = GRAFT_KERNEL(LayerNormGradAffineF32),
              .state = {},
              .scratch = SumRowBlocksScratch(a.in[0].rows(), a.in[0].cols(), 2),
              .impl = {}};
    },
    .cost = PerElement<5>,
    .samples = GradAffineSamples,
    .error_samples = +[]() -> std::vector<ErrorSample> {
      return {{{kX, kColumn, kColumn}, {}, "expected 4 inputs, found 3"},
              {{kX, kRow, kColumn, kX}, {}, "expected mean [3,1], found f32[7]"}};
    },
    .cancels = true};

}  // namespace graft
#endif  // HWY_ONCE
