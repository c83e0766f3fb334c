// Operators that only move floats: slices, padding and concatenation of columns, transpose, patches
// of an image. Those of rows are in rows.cc.
#include "ops/rows.h"

namespace graft {
namespace {

// --- columns: [R,C] <-> [R,count] ---

int64_t FixedCols(const TensorType& x) {
  ExpectMatrix(x, "x");
  if (!x.shape[1].fixed()) Fail("x: the number of columns depends on the batch: {}", ToString(x));
  return x.shape[1].constant;
}

std::vector<TensorType> InferSliceCols(Types in, const Attrs& attrs) {
  const SliceAttrs& p = attrs.As<SliceAttrs>();
  ExpectInputs(in, 1);
  ExpectInside(p, FixedCols(in[0]), "columns");
  return {F32({in[0].shape[0], p.count})};
}

std::vector<TensorType> InferPadCols(Types in, const Attrs& attrs) {
  const SliceAttrs& p = attrs.As<SliceAttrs>();
  ExpectInputs(in, 1);
  ExpectRoom(p, FixedCols(in[0]), "columns");
  return {F32({in[0].shape[0], p.count})};
}

std::vector<TensorType> InferConcatCols(Types in, const Attrs&) {
  ExpectInputs(in, 2);
  const int64_t cols = FixedCols(in[0]) + FixedCols(in[1]);
  if (!(in[0].shape[0] == in[1].shape[0]))
    Fail("rows differ: {} and {}", ToString(in[0].shape[0]), ToString(in[1].shape[0]));
  return {F32({in[0].shape[0], cols})};
}

void SliceColsKernel(const KernelArgs& a) noexcept {
  const int64_t begin = a.attrs.As<SliceAttrs>().begin;
  const int64_t from_cols = a.in[0].shape[1], cols = a.out[0].shape[1];
  ForPieces(a.out[0].shape[0], cols, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r)
      CopyFloats(a.out[0].f32() + r * cols, a.in[0].f32() + r * from_cols + begin, cols);
  });
}

void PadColsKernel(const KernelArgs& a) noexcept {
  const int64_t begin = a.attrs.As<SliceAttrs>().begin;
  const int64_t from_cols = a.in[0].shape[1], cols = a.out[0].shape[1];
  ForPieces(a.out[0].shape[0], cols, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      float* to = a.out[0].f32() + r * cols;
      ZeroFloats(to, begin);
      CopyFloats(to + begin, a.in[0].f32() + r * from_cols, from_cols);
      ZeroFloats(to + begin + from_cols, cols - begin - from_cols);
    }
  });
}

void ConcatColsKernel(const KernelArgs& a) noexcept {
  const int64_t left = a.in[0].shape[1], right = a.in[1].shape[1];
  ForPieces(a.out[0].shape[0], left + right, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      float* to = a.out[0].f32() + r * (left + right);
      CopyFloats(to, a.in[0].f32() + r * left, left);
      CopyFloats(to + left, a.in[1].f32() + r * right, right);
    }
  });
}

// out[r][to + c] = in[r][from + c] for c < count
void RefCols(const ReferenceArgs& a, size_t input, int64_t from, int64_t to, int64_t count) {
  for (int64_t r = 0; r < a.out_shape[0][0]; ++r)
    for (int64_t c = 0; c < count; ++c)
      a.out[0][r * a.out_shape[0][1] + to + c] = a.in[input][r * a.in_shape[input][1] + from + c];
}

// --- transpose ---

constexpr int64_t kTile = 32;  // both sides of a tile stay in L1

void TransposeKernel(const KernelArgs& a) noexcept {
  const int64_t rows = a.in[0].shape[0], cols = a.in[0].shape[1];
  const float* x = a.in[0].f32();
  float* y = a.out[0].f32();
  ForPieces(cols, rows, [&](int64_t begin, int64_t end) {
    for (int64_t c0 = begin; c0 < end; c0 += kTile)
      for (int64_t r0 = 0; r0 < rows; r0 += kTile) {
        const int64_t c1 = std::min(end, c0 + kTile), r1 = std::min(rows, r0 + kTile);
        for (int64_t c = c0; c < c1; ++c)
          for (int64_t r = r0; r < r1; ++r) y[c * rows + r] = x[r * cols + c];
      }
  });
}

// --- patches ---

std::vector<TensorType> InferPatchify(Types in, const Attrs& attrs) {
  const int64_t p = attrs.As<PatchifyAttrs>().patch;
  ExpectInputs(in, 1);
  const Shape& s = in[0].shape;
  if (in[0].dtype != DType::kF32 || s.size() != 4 || !s[1].fixed() || !s[2].fixed() ||
      !s[3].fixed())
    Fail("image: expected f32[sequences,channels,height,width], found {}", ToString(in[0]));
  if (p < 1 || p > kMaxDim || s[2].constant % p != 0 || s[3].constant % p != 0)
    Fail("an image of {} x {} does not divide into patches of {}", s[2].constant, s[3].constant, p);
  const int64_t patches = s[2].constant / p * (s[3].constant / p);
  CheckDims({patches, p * p});
  return {F32({s[0] * patches, s[1].constant * p * p})};
}

// Calls f(index in the patch row, index in the image, floats) for each run of floats of patch row
// (s, i): out[(s n + i n_x + j), (c P + y) P ...] = image[s, c, i P + y, j P ...].
template <class F>
void PatchRuns(const Extents& image, int64_t p, int64_t s, int64_t i, const F& f) {
  const int64_t channels = image[1], height = image[2], width = image[3], across = width / p;
  const int64_t cols = channels * p * p;
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t y = 0; y < p; ++y)
      for (int64_t j = 0; j < across; ++j)
        f(((s * (height / p) + i) * across + j) * cols + (c * p + y) * p,
          ((s * channels + c) * height + i * p + y) * width + j * p);
}

void PatchifyKernel(const KernelArgs& a) noexcept {
  const int64_t p = a.attrs.As<PatchifyAttrs>().patch;
  const Extents& image = a.in[0].shape;
  const int64_t down = image[2] / p;
  ParallelFor(image[0] * down, [&](int64_t task) {
    PatchRuns(image, p, task / down, task % down, [&](int64_t to, int64_t from) {
      CopyFloats(a.out[0].f32() + to, a.in[0].f32() + from, p);
    });
  });
}

void RefPatchify(const ReferenceArgs& a) {
  const int64_t p = a.attrs.As<PatchifyAttrs>().patch;
  const Extents& e = a.in_shape[0];
  const int64_t across = e[3] / p, patches = e[2] / p * across, cols = a.out_shape[0][1];
  for (int64_t s = 0; s < e[0]; ++s)
    for (int64_t c = 0; c < e[1]; ++c)
      for (int64_t y = 0; y < e[2]; ++y)
        for (int64_t x = 0; x < e[3]; ++x) {
          const int64_t row = s * patches + y / p * across + x / p;
          const int64_t col = (c * p + y % p) * p + x % p;
          a.out[0][row * cols + col] = a.in[0][((s * e[1] + c) * e[2] + y) * e[3] + x];
        }
}

}  // namespace

constinit const OpDef kSliceCols{
    .name = "slice_cols",
    .default_attrs = +[] { return Attrs(SliceAttrs{}); },
    .infer = InferSliceCols,
    .reference =
        +[](const ReferenceArgs& a) {
          const SliceAttrs& p = a.attrs.As<SliceAttrs>();
          RefCols(a, 0, p.begin, 0, p.count);
        },
    .kernel = SliceColsKernel,
    .gradient =
        +[](const GradientArgs& v) {
          const int64_t cols = v.g.shape(v.in[0])[1].constant;
          const SliceAttrs back{v.attrs.As<SliceAttrs>().begin, cols};
          return std::vector<ValueId>{v.g.Add1(kPadCols, {v.cotangent[0]}, back)};
        },
    .cost = MoveCost<>,
    .samples =
        +[] {
          return std::vector<Sample>{{"one", {{{1, 1}}}, SliceAttrs{0, 1}},
                                     {"odd", {{{3, 7}}}, SliceAttrs{2, 4}},
                                     {"none", {{{3, 7}}}, SliceAttrs{7, 0}},
                                     {"prime", {{{23, 41}}}, SliceAttrs{7, 29}},
                                     {"empty", {{{0, 7}}}, SliceAttrs{2, 4}},
                                     {"bench", {{{1576, 2304}}}, SliceAttrs{768, 768}}};
        },
    .error_samples =
        +[] {
          return std::vector<ErrorSample>{
              {{F32({3, 7})}, SliceAttrs{5, 4}, "columns [5, 5 + 4) of 7"}};
        },
    .row_inputs = 1};

constinit const OpDef kPadCols{
    .name = "pad_cols",
    .default_attrs = +[] { return Attrs(SliceAttrs{}); },
    .infer = InferPadCols,
    .reference =
        +[](const ReferenceArgs& a) {
          RefCols(a, 0, 0, a.attrs.As<SliceAttrs>().begin, a.in_shape[0][1]);
        },
    .kernel = PadColsKernel,
    .gradient =
        +[](const GradientArgs& v) {
          const int64_t cols = v.g.shape(v.in[0])[1].constant;
          return std::vector<ValueId>{
              SliceCols(v.g, v.cotangent[0], v.attrs.As<SliceAttrs>().begin, cols)};
        },
    .cost = MoveCost<>,
    .samples =
        +[] {
          return std::vector<Sample>{{"one", {{{1, 1}}}, SliceAttrs{0, 1}},
                                     {"odd", {{{3, 4}}}, SliceAttrs{2, 7}},
                                     {"prime", {{{23, 29}}}, SliceAttrs{7, 41}},
                                     {"empty", {{{0, 4}}}, SliceAttrs{2, 7}},
                                     {"bench", {{{1576, 768}}}, SliceAttrs{768, 2304}}};
        },
    .error_samples =
        +[] {
          return std::vector<ErrorSample>{
              {{F32({3, 4})}, SliceAttrs{5, 7}, "4 columns at 5 do not fit into 7"}};
        },
    .row_inputs = 1};

constinit const OpDef kConcatCols{
    .name = "concat_cols",
    .infer = InferConcatCols,
    .reference =
        +[](const ReferenceArgs& a) {
          RefCols(a, 0, 0, 0, a.in_shape[0][1]);
          RefCols(a, 1, 0, a.in_shape[0][1], a.in_shape[1][1]);
        },
    .kernel = ConcatColsKernel,
    .gradient =
        +[](const GradientArgs& v) {
          const int64_t left = v.g.shape(v.in[0])[1].constant,
                        right = v.g.shape(v.in[1])[1].constant;
          std::vector<ValueId> d(2);
          if (v.need[0]) d[0] = SliceCols(v.g, v.cotangent[0], 0, left);
          if (v.need[1]) d[1] = SliceCols(v.g, v.cotangent[0], left, right);
          return d;
        },
    .cost = MoveCost<>,
    .samples =
        +[] {
          return std::vector<Sample>{
              {"one", {{{1, 1}}, {{1, 1}}}},   {"odd", {{{3, 4}}, {{3, 5}}}},
              {"none", {{{3, 0}}, {{3, 5}}}},  {"prime", {{{23, 17}}, {{23, 19}}}},
              {"empty", {{{0, 4}}, {{0, 5}}}}, {"bench", {{{1576, 768}}, {{1576, 768}}}}};
        },
    .error_samples =
        +[] {
          return std::vector<ErrorSample>{{{F32({3, 4}), F32({2, 4})}, {}, "rows differ: 3 and 2"}};
        },
    .row_inputs = 3};

constinit const OpDef kTranspose{
    .name = "transpose",
    .infer =
        +[](Types in, const Attrs&) {
          ExpectInputs(in, 1);
          ExpectMatrix(in[0], "x");
          return std::vector<TensorType>{F32({in[0].shape[1], in[0].shape[0]})};
        },
    .reference =
        +[](const ReferenceArgs& a) {
          const int64_t rows = a.in_shape[0][0], cols = a.in_shape[0][1];
          for (int64_t r = 0; r < rows; ++r)
            for (int64_t c = 0; c < cols; ++c) a.out[0][c * rows + r] = a.in[0][r * cols + c];
        },
    .kernel = TransposeKernel,
    .gradient =
        +[](const GradientArgs& v) { return std::vector<ValueId>{Transpose(v.g, v.cotangent[0])}; },
    .cost = MoveCost<>,
    .samples =
        +[] {
          return std::vector<Sample>{{"one", {{{1, 1}}}},
                                     {"odd", {{{3, 7}}}},
                                     {"prime", {{{67, 41}}}},
                                     {"empty", {{{0, 7}}}},
                                     {"bench", {{{768, 3072}}}}};
        },
    .error_samples =
        +[] {
          return std::vector<ErrorSample>{
              {{F32({3})}, {}, "x: expected an f32 matrix, found f32[3]"}};
        }};

// Patchify has no gradient, as an image is data. Learning on pixels would need the inverse
// operator.
constinit const OpDef kPatchify{
    .name = "patchify",
    .default_attrs = +[] { return Attrs(PatchifyAttrs{}); },
    .infer = InferPatchify,
    .reference = RefPatchify,
    .kernel = PatchifyKernel,
    .cost = MoveCost<>,
    .samples =
        +[] {
          return std::vector<Sample>{{"one", {{{1, 1, 1, 1}}}, PatchifyAttrs{1}},
                                     {"odd", {{{2, 3, 6, 9}}}, PatchifyAttrs{3}},
                                     {"prime", {{{1, 5, 14, 35}}}, PatchifyAttrs{7}},
                                     {"empty", {{{0, 3, 4, 4}}}, PatchifyAttrs{2}},
                                     {"bench", {{{8, 3, 224, 224}}}, PatchifyAttrs{16}}};
        },
    .error_samples =
        +[] {
          return std::vector<ErrorSample>{{{F32({2, 3, 225, 224})},
                                           PatchifyAttrs{16},
                                           "225 x 224 does not divide into patches of 16"}};
        }};

}  // namespace graft
