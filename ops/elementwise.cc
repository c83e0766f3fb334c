// a + b, a - b, a b, a / b with b spread over a; multiplying by a number; spreading.
// Top half: kernels, compiled once per SIMD target. Bottom half (HWY_ONCE): the records.
#include "ops/records.h"
#include "ops/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/elementwise.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "ops/simd-inl.h"

#ifndef GRAFT_OPS_ELEMENTWISE_ONCE_
#define GRAFT_OPS_ELEMENTWISE_ONCE_
namespace graft {
namespace {

// How b is spread over a [R,C]: as it is, or as a row [C], a column [R,1], a scalar [1].
enum class Spread { kLike, kRow, kColumn, kScalar };

// REQUIRES: SpreadOf(types) accepted the types.
Spread SpreadOf(const Extents& a, const Extents& b) {
  if (a == b) return Spread::kLike;
  if (b.rank == 1) return b[0] == 1 ? Spread::kScalar : Spread::kRow;
  return Spread::kColumn;
}

}  // namespace
}  // namespace graft
#endif

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace {

template <class F>
void Binary(const KernelArgs& a, const F& f) {
  const Extents& shape = a.out[0].shape;
  const size_t cols = static_cast<size_t>(shape.cols());
  const float *x = a.in[0].f32(), *b = a.in[1].f32();
  float* y = a.out[0].f32();
  switch (SpreadOf(shape, a.in[1].shape)) {
    case Spread::kLike:
      return Map2(a, f);
    case Spread::kScalar: {
      const float value = *b;
      return Map1(a, [&](VF v) HWY_ATTR { return f(v, SetV(value)); });
    }
    case Spread::kRow:
      return ForRows(shape.rows(), cols, [&](int64_t r) HWY_ATTR {
        const int64_t at = r * shape.cols();
        Transform(cols, y + at, f, x + at, b);
      });
    case Spread::kColumn:
      return ForRows(shape.rows(), cols, [&](int64_t r) HWY_ATTR {
        const int64_t at = r * shape.cols();
        const VF value = SetV(b[r]);
        Transform(
            cols, y + at, [&](VF v) HWY_ATTR { return f(v, value); }, x + at);
      });
  }
}

void AddF32(const KernelArgs& a) {
  Binary(a, [](VF x, VF b) HWY_ATTR { return hn::Add(x, b); });
}
void SubF32(const KernelArgs& a) {
  Binary(a, [](VF x, VF b) HWY_ATTR { return hn::Sub(x, b); });
}
void MulF32(const KernelArgs& a) {
  Binary(a, [](VF x, VF b) HWY_ATTR { return hn::Mul(x, b); });
}
void DivF32(const KernelArgs& a) {
  Binary(a, [](VF x, VF b) HWY_ATTR { return hn::Div(x, b); });
}
void ScaleF32(const KernelArgs& a) {
  const float by = static_cast<float>(a.attrs.As<ScaleAttrs>().by);
  Map1(a, [by](VF x) HWY_ATTR { return hn::Mul(x, SetV(by)); });
}

void BroadcastLikeF32(const KernelArgs& a) {
  const Extents& shape = a.out[0].shape;
  const size_t cols = static_cast<size_t>(shape.cols());
  const float* v = a.in[0].f32();
  float* y = a.out[0].f32();
  const Spread spread = SpreadOf(shape, a.in[0].shape);
  if (spread == Spread::kLike) return Map1(a, [](VF x) HWY_ATTR { return x; });
  ForRows(shape.rows(), cols, [&](int64_t r) HWY_ATTR {
    float* row = y + r * shape.cols();
    if (spread == Spread::kRow) {
      std::copy_n(v, cols, row);
    } else {
      std::fill_n(row, cols, v[spread == Spread::kColumn ? r : 0]);
    }
  });
}

}  // namespace
}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft {
namespace {

HWY_EXPORT(AddF32);
HWY_EXPORT(SubF32);
HWY_EXPORT(MulF32);
HWY_EXPORT(DivF32);
HWY_EXPORT(ScaleF32);
HWY_EXPORT(BroadcastLikeF32);
#define GRAFT_KERNEL(f) +[](const KernelArgs& a) noexcept { HWY_DYNAMIC_DISPATCH(f)(a); }

// Throws Error if b cannot be spread over a.
Spread SpreadOf(const TensorType& a, const TensorType& b) {
  const Shape &as = a.shape, &bs = b.shape;
  if (as == bs) return Spread::kLike;
  if (bs == Shape{1}) return Spread::kScalar;
  if (bs.size() == 1 && !as.empty() && bs[0] == as.back()) return Spread::kRow;
  if (bs.size() == 2 && as.size() == 2 && bs[0] == as[0] && bs[1] == Dim(1)) return Spread::kColumn;
  Fail("expected {}, a row vector of its last extent, a column or a scalar [1] beside {}, found {}",
       ToString(as), ToString(a), ToString(b));
}

std::vector<TensorType> InferBinary(Types in, const Attrs&) {
  ExpectCount(in, 2);
  ExpectF32(in);
  SpreadOf(in[0], in[1]);
  return {in[0]};
}

// The cotangent of b from dy, the cotangent of b spread over a: the sum over all its copies.
ValueId SumLike(Graph& g, ValueId dy, ValueId b) {
  switch (SpreadOf(g.type(dy), g.type(b))) {
    case Spread::kLike:
      return dy;
    case Spread::kRow:
      return SumRows(g, dy);
    case Spread::kColumn:
      return SumCols(g, dy);
    case Spread::kScalar:
      return SumAll(g, dy);
  }
  return {};
}

// Index into b of element i of a.
size_t SpreadIndex(Spread spread, size_t i, size_t cols) {
  switch (spread) {
    case Spread::kLike:
      return i;
    case Spread::kRow:
      return i % cols;
    case Spread::kColumn:
      return i / cols;
    case Spread::kScalar:
      return 0;
  }
  return 0;
}

template <double (*f)(double, double)>
void RefBinary(const ReferenceArgs& a) {
  const Spread spread = SpreadOf(a.out_shape[0], a.in_shape[1]);
  const size_t cols = Cols(a.out_shape[0]);
  for (size_t i = 0; i < a.out[0].size(); ++i)
    a.out[0][i] = f(a.in[0][i], a.in[1][SpreadIndex(spread, i, cols)]);
}

// lo, hi: the range of b.
std::vector<Sample> BinarySamplesIn(double lo, double hi) {
  auto b = [&](Extents e) { return SampleInput{e, lo, hi}; };
  return {{"one", {{{1}}, b({1})}},
          {"odd", {{{3, 7}}, b({3, 7})}},
          {"prime", {{{13, 31}}, b({13, 31})}},
          {"empty", {{{0, 5}}, b({0, 5})}},
          {"vector", {{{37}}, b({37})}},
          {"row", {{{5, 19}}, b({19})}},
          {"row_rank4", {{{2, 3, 2, 5}}, b({5})}},
          {"row_empty", {{{0, 5}}, b({5})}},
          {"column", {{{7, 33}}, b({7, 1})}},
          {"column_empty", {{{0, 5}}, b({0, 1})}},
          {"scalar", {{{5, 7}}, b({1})}},
          {"large", {{{150, 257}}, b({150, 257})}},
          {"large_row", {{{150, 257}}, b({257})}},
          {"bench", {{{1576, 768}}, b({1576, 768})}},
          {"bench_row", {{{1576, 768}}, b({768})}}};
}
std::vector<Sample> BinarySamples() { return BinarySamplesIn(-2, 2); }
std::vector<Sample> DivSamples() { return BinarySamplesIn(0.5, 2); }

std::vector<ErrorSample> BinaryErrors() {
  const TensorType matrix{DType::kF32, {3, 7}};
  return {{{matrix}, {}, "expected 2 inputs, found 1"},
          {{matrix, {DType::kI32, {3, 7}}}, {}, "expected all inputs as f32"},
          {{matrix, {DType::kF32, {3}}}, {}, "a row vector of its last extent"},
          {{matrix, {DType::kF32, {7, 1}}}, {}, "a column or a scalar [1] beside f32[3,7]"},
          {{matrix, {DType::kF32, {1, 7}}}, {}, "found f32[1,7]"},
          {{{DType::kF32, {Dim::Sequences(), 7}}, matrix}, {}, "expected [s,7]"}};
}

std::vector<Sample> ScaleSamples() {
  return {{"one", {{{1}}}, ScaleAttrs{3}},          {"odd", {{{3, 7}}}, ScaleAttrs{-1.5}},
          {"prime", {{{13, 31}}}, ScaleAttrs{0.1}}, {"zero", {{{3, 7}}}, ScaleAttrs{0}},
          {"empty", {{{0, 5}}}, ScaleAttrs{2}},     {"large", {{{150, 257}}}, ScaleAttrs{2}},
          {"bench", {{{1576, 768}}}, ScaleAttrs{2}}};
}

std::vector<Sample> BroadcastSamples() {
  return {{"one", {{{1}}, {{1}}}},
          {"odd", {{{3, 7}}, {{3, 7}}}},
          {"prime", {{{31}}, {{13, 31}}}},
          {"empty", {{{5}}, {{0, 5}}}},
          {"column", {{{5, 1}}, {{5, 7}}}},
          {"scalar", {{{1}}, {{5, 7}}}},
          {"rank4", {{{5}}, {{2, 3, 2, 5}}}},
          {"large", {{{150, 1}}, {{150, 257}}}},
          {"bench", {{{768}}, {{1576, 768}}}}};
}

}  // namespace

constinit const OpDef kAdd{
    .name = "add",
    .infer = InferBinary,
    .reference = RefBinary<[](double x, double b) { return x + b; }>,
    .kernel = GRAFT_KERNEL(AddF32),
    .gradient = +[](const GradientArgs& v) -> std::vector<ValueId> {
      const ValueId dy = v.cotangent[0];
      return {v.need[0] ? dy : ValueId{}, v.need[1] ? SumLike(v.g, dy, v.in[1]) : ValueId{}};
    },
    .cost = PerElement<1>,
    .samples = BinarySamples,
    .error_samples = BinaryErrors,
    .in_place = 0,
    .row_inputs = 0b11,
    .commutative = true};

constinit const OpDef kSub{.name = "sub",
                           .infer = InferBinary,
                           .reference = RefBinary<[](double x, double b) { return x - b; }>,
                           .kernel = GRAFT_KERNEL(SubF32),
                           .gradient = +[](const GradientArgs& v) -> std::vector<ValueId> {
                             const ValueId dy = v.cotangent[0];
                             return {
                                 v.need[0] ? dy : ValueId{},
                                 v.need[1] ? Scale(v.g, SumLike(v.g, dy, v.in[1]), -1) : ValueId{}};
                           },
                           .cost = PerElement<1>,
                           .samples = BinarySamples,
                           .error_samples = BinaryErrors,
                           .in_place = 0,
                           .row_inputs = 0b11};

constinit const OpDef kMul{
    .name = "mul",
    .infer = InferBinary,
    .reference = RefBinary<[](double x, double b) { return x * b; }>,
    .kernel = GRAFT_KERNEL(MulF32),
    .gradient = +[](const GradientArgs& v) -> std::vector<ValueId> {  // da = dy b, db = sum dy a
      const ValueId dy = v.cotangent[0];
      return {v.need[0] ? Mul(v.g, dy, v.in[1]) : ValueId{},
              v.need[1] ? SumLike(v.g, Mul(v.g, dy, v.in[0]), v.in[1]) : ValueId{}};
    },
    .cost = PerElement<1>,
    .samples = BinarySamples,
    .error_samples = BinaryErrors,
    .in_place = 0,
    .row_inputs = 0b11,
    .commutative = true};

constinit const OpDef kDiv{.name = "div",
                           .infer = InferBinary,
                           .reference = RefBinary<[](double x, double b) { return x / b; }>,
                           .kernel = GRAFT_KERNEL(DivF32),
                           .gradient =
                               +[](const GradientArgs& v) {  // da = dy / b, db = -sum (dy / b) y
                                 std::vector<ValueId> d(2);
                                 const ValueId da = Div(v.g, v.cotangent[0], v.in[1]);
                                 if (v.need[0]) d[0] = da;
                                 if (v.need[1])
                                   d[1] = Scale(v.g, SumLike(v.g, Mul(v.g, da, v.out[0]), v.in[1]),
                                                -1);
                                 return d;
                               },
                           .cost = PerElement<1>,
                           .samples = DivSamples,
                           .error_samples = BinaryErrors,
                           .in_place = 0,
                           .row_inputs = 0b11};

constinit const OpDef kScale{
    .name = "scale",
    .default_attrs = +[] { return Attrs(ScaleAttrs{}); },
    .infer = SameShapes<1>,
    .reference =
        +[](const ReferenceArgs& a) {
          const double by = a.attrs.As<ScaleAttrs>().by;
          for (size_t i = 0; i < a.out[0].size(); ++i) a.out[0][i] = a.in[0][i] * by;
        },
    .kernel = GRAFT_KERNEL(ScaleF32),
    .gradient = +[](const GradientArgs& v) -> std::vector<ValueId> {
      return {v.need[0] ? Scale(v.g, v.cotangent[0], v.attrs.As<ScaleAttrs>().by) : ValueId{}};
    },
    .cost = PerElement<1>,
    .samples = ScaleSamples,
    .error_samples = +[]() -> std::vector<ErrorSample> {
      return {{{}, ScaleAttrs{}, "expected 1 inputs, found 0"},
              {{{DType::kI32, {3}}}, ScaleAttrs{}, "expected all inputs as f32"}};
    },
    .in_place = 0,
    .row_inputs = 0b1};

constinit const OpDef kBroadcastLike{
    .name = "broadcast_like",
    .infer = +[](Types in, const Attrs&) -> std::vector<TensorType> {
      ExpectCount(in, 2);
      ExpectType(in[0], DType::kF32, "the value");
      SpreadOf({DType::kF32, in[1].shape}, in[0]);
      return {{DType::kF32, in[1].shape}};
    },
    .reference =
        +[](const ReferenceArgs& a) {
          const Spread spread = SpreadOf(a.out_shape[0], a.in_shape[0]);
          const size_t cols = Cols(a.out_shape[0]);
          for (size_t i = 0; i < a.out[0].size(); ++i)
            a.out[0][i] = a.in[0][SpreadIndex(spread, i, cols)];
        },
    .kernel = GRAFT_KERNEL(BroadcastLikeF32),
    .gradient = +[](const GradientArgs& v) -> std::vector<ValueId> {
      return {v.need[0] ? SumLike(v.g, v.cotangent[0], v.in[0]) : ValueId{}, {}};
    },
    .cost =
        +[](const CostArgs& args) {  // of the pattern, the shape alone
          return Cost{0, 4 * Elements(args.in[0]) + 4 * Elements(args.out[0])};
        },
    .samples = BroadcastSamples,
    .error_samples = +[]() -> std::vector<ErrorSample> {
      return {{{{DType::kF32, {3}}}, {}, "expected 2 inputs, found 1"},
              {{{DType::kI32, {3}}, {DType::kF32, {2, 3}}}, {}, "expected the value as f32"},
              {{{DType::kF32, {3}}, {DType::kF32, {3, 2}}}, {}, "found f32[3]"}};
    },
    .row_inputs = 0b11};

}  // namespace graft
#endif  // HWY_ONCE
