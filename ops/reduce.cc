// Sums over rows, columns and everything. Long sums go in chunks fixed by the shape, whose partial
// sums are added in order: the same bits for any number of threads.
// Top half: kernels, compiled once per SIMD target. Bottom half (HWY_ONCE): the records.
#include "ops/records.h"
#include "ops/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/reduce.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "ops/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace {

// sum[c] (+)= x[0][c] + ... + x[7][c]; `first` overwrites what `sum` held.
void AddEightRows(const float* x, int64_t stride, size_t cols, bool first, float* sum) {
  const std::array<const float*, 9> in{x,
                                       x + stride,
                                       x + 2 * stride,
                                       x + 3 * stride,
                                       x + 4 * stride,
                                       x + 5 * stride,
                                       x + 6 * stride,
                                       x + 7 * stride,
                                       first ? x : sum};
  ForVectors(cols, in, std::array<float*, 1>{sum}, [first](auto& p, auto& out, size_t i) HWY_ATTR {
    const VF a = hn::Add(hn::Add(LoadV(p[0] + i), LoadV(p[1] + i)),
                         hn::Add(LoadV(p[2] + i), LoadV(p[3] + i)));
    const VF b = hn::Add(hn::Add(LoadV(p[4] + i), LoadV(p[5] + i)),
                         hn::Add(LoadV(p[6] + i), LoadV(p[7] + i)));
    const VF eight = hn::Add(a, b);
    hn::StoreU(first ? eight : hn::Add(LoadV(p[8] + i), eight), DF(), out[0] + i);
  });
}

// sum[c] = sum of `rows` rows; zeros for none.
void SumBlock(const float* x, int64_t stride, int64_t rows, size_t cols, float* sum) {
  int64_t r = 0;
  for (; r + 8 <= rows; r += 8) AddEightRows(x + r * stride, stride, cols, r == 0, sum);
  if (r == 0) std::fill_n(sum, cols, 0.0f);
  for (; r < rows; ++r)
    Transform(
        cols, sum, [](VF s, VF v) HWY_ATTR { return hn::Add(s, v); }, sum, x + r * stride);
}

void SumRowsF32(const KernelArgs& a) {
  const int64_t rows = a.in[0].shape.rows(), cols = a.in[0].shape.cols();
  const float* x = a.in[0].f32();
  SumRowBlocks(rows, cols, std::array<float*, 1>{a.out[0].f32()}, a.scratch,
               [&](int64_t r, int64_t count, int64_t c, size_t n, const auto& sums)
                   HWY_ATTR { SumBlock(x + r * cols + c, cols, count, n, sums[0]); });
}

void SumColsF32(const KernelArgs& a) {
  const int64_t cols = a.in[0].shape.cols();
  const float* x = a.in[0].f32();
  float* y = a.out[0].f32();
  ForRows(a.in[0].shape.rows(), static_cast<size_t>(cols), [&](int64_t r) HWY_ATTR {
    y[r] = SumOf(
        static_cast<size_t>(cols), [](VF v) HWY_ATTR { return v; }, x + r * cols);
  });
}

// Sum of f over all elements; partial sums of chunks are added in double precision.
template <class F>
void SumEverything(const KernelArgs& a, const F& f) {
  const float* x = a.in[0].f32();
  double* partial = reinterpret_cast<double*>(a.scratch);
  const int64_t size = a.in[0].shape.size();
  ForChunks(size,
            [&](int64_t at, size_t n) HWY_ATTR { partial[at / kChunk] = SumOf(n, f, x + at); });
  double sum = 0;
  for (int64_t i = 0; i * kChunk < size; ++i) sum += partial[i];
  *a.out[0].f32() = static_cast<float>(sum);
}
void SumAllF32(const KernelArgs& a) {
  SumEverything(a, [](VF v) HWY_ATTR { return v; });
}
void SumSquaresF32(const KernelArgs& a) {
  SumEverything(a, [](VF v) HWY_ATTR { return hn::Mul(v, v); });
}

}  // namespace
}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft {
namespace {

HWY_EXPORT(SumRowsF32);
HWY_EXPORT(SumColsF32);
HWY_EXPORT(SumAllF32);
HWY_EXPORT(SumSquaresF32);
#define GRAFT_KERNEL(f) +[](const KernelArgs& a) noexcept { HWY_DYNAMIC_DISPATCH(f)(a); }

template <Kernel kKernel>
Prepared PrepareSum(const PrepareArgs& a) {  // one double for each chunk
  const int64_t chunks = FixedChunks(a.in[0].size(), kChunk).count();
  return {.run = kKernel, .state = {}, .scratch = static_cast<size_t>(chunks) * 8, .impl = {}};
}

std::vector<TensorType> InferScalar(Types in, const Attrs&) {
  ExpectCount(in, 1);
  ExpectF32(in);
  return {{DType::kF32, {1}}};
}

std::vector<Sample> AnyShape() {
  return {{"one", {{{1}}}},          {"odd", {{{3, 7}}}},         {"prime", {{{13, 31}}}},
          {"empty", {{{0, 5}}}},     {"rank4", {{{2, 3, 2, 5}}}}, {"large", {{{150, 257}}}},
          {"bench", {{{1576, 768}}}}};
}
std::vector<Sample> Matrices() {
  return {{"one", {{{1, 1}}}},     {"odd", {{{3, 7}}}},        {"prime", {{{13, 31}}}},
          {"empty", {{{0, 5}}}},   {"no_columns", {{{5, 0}}}}, {"large", {{{301, 129}}}},
          {"wide", {{{9, 1100}}}}, {"bench", {{{1576, 768}}}}};
}
std::vector<ErrorSample> ScalarErrors() {
  return {{{}, {}, "expected 1 inputs, found 0"},
          {{{DType::kI32, {3}}}, {}, "expected all inputs as f32"}};
}
std::vector<ErrorSample> MatrixErrors() {
  return {{{}, {}, "expected 1 inputs, found 0"},
          {{{DType::kI32, {3, 7}}}, {}, "expected all inputs as f32"},
          {{{DType::kF32, {3}}}, {}, "expected a matrix of rank 2, found f32[3]"}};
}

}  // namespace

constinit const OpDef kSumRows{
    .name = "sum_rows",
    .infer = +[](Types in, const Attrs&) -> std::vector<TensorType> {
      ExpectCount(in, 1);
      ExpectF32(in);
      if (in[0].shape.size() < 2) ExpectRank(in[0], 2, "a matrix");
      return {{DType::kF32, {in[0].shape.back()}}};
    },
    .reference =
        +[](const ReferenceArgs& a) {
          const size_t cols = Cols(a.in_shape[0]);
          for (size_t i = 0; i < a.in[0].size(); ++i) a.out[0][i % cols] += a.in[0][i];
        },
    .prepare = +[](const PrepareArgs& a) -> Prepared {
      return {.run = GRAFT_KERNEL(SumRowsF32),
              .state = {},
              .scratch = SumRowBlocksScratch(a.in[0].rows(), a.in[0].cols(), 1),
              .impl = {}};
    },
    .gradient = +[](const GradientArgs& v) -> std::vector<ValueId> {
      return {v.need[0] ? BroadcastLike(v.g, v.cotangent[0], v.in[0]) : ValueId{}};
    },
    .cost = PerElement<1>,
    .samples = Matrices,
    .error_samples = MatrixErrors,
    .cancels = true};

constinit const OpDef kSumCols{
    .name = "sum_cols",
    .infer = +[](Types in, const Attrs&) -> std::vector<TensorType> {
      ExpectCount(in, 1);
      ExpectF32(in);
      ExpectRank(in[0], 2, "a matrix");
      return {{DType::kF32, {in[0].shape[0], 1}}};
    },
    .reference =
        +[](const ReferenceArgs& a) {
          const size_t cols = Cols(a.in_shape[0]);
          for (size_t i = 0; i < a.in[0].size(); ++i) a.out[0][i / cols] += a.in[0][i];
        },
    .kernel = GRAFT_KERNEL(SumColsF32),
    .gradient = +[](const GradientArgs& v) -> std::vector<ValueId> {
      return {v.need[0] ? BroadcastLike(v.g, v.cotangent[0], v.in[0]) : ValueId{}};
    },
    .cost = PerElement<1>,
    .samples = Matrices,
    .error_samples = MatrixErrors,
    .cancels = true,
    .row_inputs = 0b1};

constinit const OpDef kSumAll{
    .name = "sum_all",
    .infer = InferScalar,
    .reference =
        +[](const ReferenceArgs& a) {
          for (double x : a.in[0]) a.out[0][0] += x;
        },
    .prepare = PrepareSum<GRAFT_KERNEL(SumAllF32)>,
    .gradient = +[](const GradientArgs& v) -> std::vector<ValueId> {
      return {v.need[0] ? BroadcastLike(v.g, v.cotangent[0], v.in[0]) : ValueId{}};
    },
    .cost = PerElement<1>,
    .samples = AnyShape,
    .error_samples = ScalarErrors,
    .cancels = true};

constinit const OpDef kSumSquares{
    .name = "sum_squares",
    .infer = InferScalar,
    .reference =
        +[](const ReferenceArgs& a) {
          for (double x : a.in[0]) a.out[0][0] += x * x;
        },
    .prepare = PrepareSum<GRAFT_KERNEL(SumSquaresF32)>,
    .gradient = +[](const GradientArgs& v) -> std::vector<ValueId> {  // dx = 2 x dy
      return {v.need[0] ? Mul(v.g, Scale(v.g, v.in[0], 2), v.cotangent[0]) : ValueId{}};
    },
    .cost = PerElement<2>,
    .samples = AnyShape,
    .error_samples = ScalarErrors};

}  // namespace graft
#endif  // HWY_ONCE
