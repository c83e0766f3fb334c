// Slices, padding and concatenation of rows. "Rows" run along the first dimension of any rank, so a
// bias [3D] is sliced like a weight [3D, D].
#include "ops/rows.h"

namespace graft {
namespace {

int64_t RowWidth(const Extents& e) {
  int64_t width = 1;
  for (int i = 1; i < e.rank; ++i) width *= e[i];
  return width;
}

void ExpectRows(const TensorType& x, const char* what) {
  if (x.dtype != DType::kF32 || x.shape.empty())
    Fail("{}: expected f32 of rank 1 or more, found {}", what, ToString(x));
}

// A small batch may lack some of the rows; these are read as zeros.
std::vector<TensorType> InferSliceRows(Types in, const Attrs& attrs) {
  const SliceAttrs& p = attrs.As<SliceAttrs>();
  ExpectInputs(in, 1);
  ExpectRows(in[0], "x");
  const Dim rows = in[0].shape[0];
  if (rows.fixed() || p.begin < 0 || p.count < 0) ExpectInside(p, rows.constant, "rows");
  Shape shape = in[0].shape;
  shape[0] = p.count;
  return {F32(std::move(shape))};
}

std::vector<TensorType> InferPadRows(Types in, const Attrs& attrs) {
  const SliceAttrs& p = attrs.As<SliceAttrs>();
  ExpectInputs(in, 1);
  ExpectRows(in[0], "x");
  if (!in[0].shape[0].fixed())
    Fail("x: the number of rows depends on the batch: {}", ToString(in[0]));
  ExpectRoom(p, in[0].shape[0].constant, "rows");
  Shape shape = in[0].shape;
  shape[0] = p.count;
  return {F32(std::move(shape))};
}

std::vector<TensorType> InferConcatRows(Types in, const Attrs&) {
  ExpectInputs(in, 2);
  ExpectRows(in[0], "a");
  ExpectRows(in[1], "b");
  // Concatenated rows of a batch would no longer stand in the order of its sequences, on which
  // RowSets relies.
  for (const TensorType& t : in)
    if (!t.shape[0].fixed()) Fail("the number of rows depends on the batch: {}", ToString(t));
  Shape shape = in[0].shape, other = in[1].shape;
  shape[0] = other[0] = in[0].shape[0] + in[1].shape[0];
  if (shape != other) Fail("a is {}, b is {}", ToString(in[0]), ToString(in[1]));
  return {F32(std::move(shape))};
}

void CopyParallel(float* to, const float* from, int64_t count) {
  ForPieces(count, 1,
            [&](int64_t begin, int64_t end) { CopyFloats(to + begin, from + begin, end - begin); });
}

void SliceRowsKernel(const KernelArgs& a) noexcept {
  const int64_t width = RowWidth(a.out[0].shape), begin = a.attrs.As<SliceAttrs>().begin * width;
  const int64_t size = a.out[0].shape.size();
  const int64_t there = std::clamp<int64_t>(a.in[0].shape.size() - begin, 0, size);
  CopyParallel(a.out[0].f32(), a.in[0].f32() + begin, there);
  ZeroFloats(a.out[0].f32() + there, size - there);
}

void PadRowsKernel(const KernelArgs& a) noexcept {
  const int64_t begin = a.attrs.As<SliceAttrs>().begin * RowWidth(a.out[0].shape);
  const int64_t there = a.in[0].shape.size();
  ZeroFloats(a.out[0].f32(), begin);
  CopyParallel(a.out[0].f32() + begin, a.in[0].f32(), there);
  ZeroFloats(a.out[0].f32() + begin + there, a.out[0].shape.size() - begin - there);
}

void ConcatRowsKernel(const KernelArgs& a) noexcept {
  const int64_t top = a.in[0].shape.size();
  CopyParallel(a.out[0].f32(), a.in[0].f32(), top);
  CopyParallel(a.out[0].f32() + top, a.in[1].f32(), a.in[1].shape.size());
}

std::vector<ValueId> ConcatRowsGradient(const GradientArgs& v) {
  const Dim top = v.g.shape(v.in[0])[0], bottom = v.g.shape(v.in[1])[0];
  std::vector<ValueId> d(2);
  const ValueId dy = v.cotangent[0];
  if (v.need[0]) d[0] = SliceRows(v.g, dy, 0, top.constant);
  if (v.need[1]) d[1] = SliceRows(v.g, dy, top.constant, bottom.constant);
  return d;
}

}  // namespace

constinit const OpDef kSliceRows{
    .name = "slice_rows",
    .default_attrs = +[] { return Attrs(SliceAttrs{}); },
    .infer = InferSliceRows,
    .reference =
        +[](const ReferenceArgs& a) {
          const size_t begin =
              static_cast<size_t>(a.attrs.As<SliceAttrs>().begin * RowWidth(a.out_shape[0]));
          for (size_t i = 0; i < a.out[0].size(); ++i)
            a.out[0][i] = begin + i < a.in[0].size() ? a.in[0][begin + i] : 0;
        },
    .kernel = SliceRowsKernel,
    .gradient =
        +[](const GradientArgs& v) {
          const Dim rows = v.g.shape(v.in[0])[0];
          if (!rows.fixed())
            Fail("slice_rows of rows that depend on the batch ({}) has no gradient",
                 ToString(rows));
          const SliceAttrs back{v.attrs.As<SliceAttrs>().begin, rows.constant};
          return std::vector<ValueId>{v.g.Add1(kPadRows, {v.cotangent[0]}, back)};
        },
    .cost = MoveCost<>,
    .samples =
        +[] {
          return std::vector<Sample>{{"one", {{{1}}}, SliceAttrs{0, 1}},
                                     {"odd", {{{7, 3}}}, SliceAttrs{2, 4}},
                                     {"vector", {{{7}}}, SliceAttrs{2, 4}},
                                     {"prime", {{{41, 23}}}, SliceAttrs{7, 29}},
                                     {"empty", {{{7, 3}}}, SliceAttrs{7, 0}},
                                     {"bench", {{{2304, 768}}}, SliceAttrs{768, 768}}};
        },
    .error_samples =
        +[] {
          return std::vector<ErrorSample>{
              {{F32({7, 3})}, SliceAttrs{5, 4}, "rows [5, 5 + 4) of 7"}};
        }};

constinit const OpDef kPadRows{
    .name = "pad_rows",
    .default_attrs = +[] { return Attrs(SliceAttrs{}); },
    .infer = InferPadRows,
    .reference =
        +[](const ReferenceArgs& a) {
          const int64_t begin = a.attrs.As<SliceAttrs>().begin * RowWidth(a.out_shape[0]);
          std::copy(a.in[0].begin(), a.in[0].end(), a.out[0].begin() + begin);
        },
    .kernel = PadRowsKernel,
    .gradient =
        +[](const GradientArgs& v) {
          return std::vector<ValueId>{SliceRows(v.g, v.cotangent[0], v.attrs.As<SliceAttrs>().begin,
                                                v.g.shape(v.in[0])[0].constant)};
        },
    .cost = MoveCost<>,
    .samples =
        +[] {
          return std::vector<Sample>{{"one", {{{1, 1}}}, SliceAttrs{0, 1}},
                                     {"odd", {{{4, 3}}}, SliceAttrs{2, 7}},
                                     {"vector", {{{4}}}, SliceAttrs{2, 7}},
                                     {"prime", {{{29, 23}}}, SliceAttrs{7, 41}},
                                     {"empty", {{{0, 3}}}, SliceAttrs{2, 7}},
                                     {"bench", {{{768, 768}}}, SliceAttrs{768, 2304}}};
        },
    .error_samples =
        +[] {
          return std::vector<ErrorSample>{
              {{F32({4, 3})}, SliceAttrs{5, 7}, "4 rows at 5 do not fit into 7"}};
        }};

constinit const OpDef kConcatRows{
    .name = "concat_rows",
    .infer = InferConcatRows,
    .reference =
        +[](const ReferenceArgs& a) {
          std::copy(a.in[0].begin(), a.in[0].end(), a.out[0].begin());
          std::copy(a.in[1].begin(), a.in[1].end(), a.out[0].end() - std::ssize(a.in[1]));
        },
    .kernel = ConcatRowsKernel,
    .gradient = ConcatRowsGradient,
    .cost = MoveCost<>,
    .samples =
        +[] {
          return std::vector<Sample>{
              {"one", {{{1, 1}}, {{1, 1}}}},   {"odd", {{{3, 5}}, {{4, 5}}}},
              {"vector", {{{3}}, {{4}}}},      {"prime", {{{17, 23}}, {{19, 23}}}},
              {"empty", {{{0, 5}}, {{0, 5}}}}, {"bench", {{{768, 768}}, {{768, 768}}}}};
        },
    .error_samples =
        +[] {
          return std::vector<ErrorSample>{
              {{F32({3, 4}), F32({3, 5})}, {}, "a is f32[3,4], b is f32[3,5]"},
              {{F32({Dim::Sequences(), 4}), F32({3, 4})}, {}, "depends on the batch: f32[s,4]"}};
        }};

}  // namespace graft
