// Operators that add or average rows by their position in the sequence: position embeddings,
// pooling.
#include "ops/rows.h"

namespace graft {
namespace {

// --- positions ---

std::vector<TensorType> InferAddPositions(Types in, const Attrs&) {
  ExpectInputs(in, 3);
  ExpectMatrix(in[0], "x");
  ExpectMatrix(in[1], "table");
  ExpectOffsets(in[2]);
  ExpectSameCols(in[0], "x", in[1], "table");
  if (!in[1].shape[0].fixed()) Fail("table: its rows depend on the batch: {}", ToString(in[1]));
  return {in[0]};
}

std::vector<TensorType> InferSumPositions(Types in, const Attrs& attrs) {
  const TokensAttrs& p = attrs.As<TokensAttrs>();
  ExpectInputs(in, 2);
  ExpectMatrix(in[0], "x");
  ExpectOffsets(in[1]);
  ExpectTokens(p);
  return {F32({p.count, in[0].shape[1]})};
}

// A position that the table does not have leaves its row as it is; so does a row of no sequence.
void AddPositionsKernel(const KernelArgs& a) noexcept {
  const int64_t cols = a.out[0].shape[1], rows = a.in[0].shape[0], positions = a.in[1].shape[0];
  const int64_t sequences = SequencesOf(a.in[2].shape);
  float* out = a.out[0].f32();
  if (out != a.in[0].f32())
    ForPieces(rows * cols, 1, [&](int64_t begin, int64_t end) {
      CopyFloats(out + begin, a.in[0].f32() + begin, end - begin);
    });
  ForSequences(sequences, rows * cols, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const Segment s = SegmentOf(a.in[2].i32(), i, rows);
      AddFloats(out + s.begin * cols, a.in[1].f32(), std::min(s.size(), positions) * cols);
    }
  });
}

void SumPositionsKernel(const KernelArgs& a) noexcept {
  const TokensAttrs& p = a.attrs.As<TokensAttrs>();
  const int64_t cols = a.out[0].shape[1], rows = a.in[0].shape[0];
  const int64_t sequences = SequencesOf(a.in[1].shape);
  ForPieces(p.count, cols * std::max<int64_t>(1, sequences), [&](int64_t first, int64_t last) {
    float* out = a.out[0].f32();
    ZeroFloats(out + first * cols, (last - first) * cols);
    for (int64_t i = 0; i < sequences; ++i) {
      const Segment s = SegmentOf(a.in[1].i32(), i, rows);
      const int64_t end = std::min(last, s.size() - p.position);
      if (end > first)
        AddFloats(out + first * cols, a.in[0].f32() + (s.begin + p.position + first) * cols,
                  (end - first) * cols);
    }
  });
}

// Calls f(index in x, index in the table) for position p.position + t of every sequence, t < count.
template <class F>
void EachPosition(const std::vector<double>& offsets, const Extents& x, int64_t position,
                  int64_t count, const F& f) {
  for (int64_t i = 0; i + 1 < std::ssize(offsets); ++i) {
    const Segment s = SegmentOf(offsets.data(), i, x[0]);
    for (int64_t t = 0; t < count && position + t < s.size(); ++t)
      for (int64_t c = 0; c < x[1]; ++c)
        f(static_cast<size_t>((s.begin + position + t) * x[1] + c),
          static_cast<size_t>(t * x[1] + c));
  }
}

// --- pooling ---

std::vector<TensorType> InferMean(Types in, const Attrs& attrs) {
  ExpectInputs(in, 2);
  ExpectMatrix(in[0], "x");
  ExpectOffsets(in[1]);
  ExpectTokens(attrs.As<TokensAttrs>());
  return {F32({SequencesOf(in[1]), in[0].shape[1]})};
}

std::vector<TensorType> InferMeanGrad(Types in, const Attrs& attrs) {
  ExpectInputs(in, 3);
  ExpectMatrix(in[0], "dy");
  ExpectOffsets(in[1]);
  ExpectMatrix(in[2], "like");
  ExpectSameCols(in[0], "dy", in[2], "like");
  ExpectTokens(attrs.As<TokensAttrs>());
  if (!(in[0].shape[0] == SequencesOf(in[1])))
    Fail("dy has {} rows for {} sequences", ToString(in[0].shape[0]), ToString(SequencesOf(in[1])));
  return {in[2]};
}

template <class T>
Segment MeanRows(const T* offsets, int64_t i, int64_t rows, int64_t position) {
  const Segment s = SegmentOf(offsets, i, rows);
  return {std::min(s.end, s.begin + std::min(position, rows)), s.end};
}

void MeanKernel(const KernelArgs& a) noexcept {
  const int64_t position = a.attrs.As<TokensAttrs>().position;
  const int64_t cols = a.out[0].shape[1], rows = a.in[0].shape[0], sequences = a.out[0].shape[0];
  ForSequences(sequences, rows * cols, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const Segment s = MeanRows(a.in[1].i32(), i, rows, position);
      float* out = a.out[0].f32() + i * cols;
      ZeroFloats(out, cols);
      for (int64_t r = s.begin; r < s.end; ++r) AddFloats(out, a.in[0].f32() + r * cols, cols);
      const float scale = 1.0f / static_cast<float>(std::max<int64_t>(1, s.size()));
      for (int64_t c = 0; c < cols; ++c) out[c] *= scale;
    }
  });
}

void MeanGradKernel(const KernelArgs& a) noexcept {
  const int64_t position = a.attrs.As<TokensAttrs>().position;
  const int64_t cols = a.out[0].shape[1], rows = a.out[0].shape[0], sequences = a.in[0].shape[0];
  float* out = a.out[0].f32();
  ZeroGaps(a.in[1].i32(), sequences, rows, cols, out);
  ForSequences(sequences, rows * cols, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const Segment all = SegmentOf(a.in[1].i32(), i, rows);
      const Segment s = MeanRows(a.in[1].i32(), i, rows, position);
      ZeroFloats(out + all.begin * cols, (s.begin - all.begin) * cols);
      const float scale = 1.0f / static_cast<float>(std::max<int64_t>(1, s.size()));
      for (int64_t r = s.begin; r < s.end; ++r)
        for (int64_t c = 0; c < cols; ++c) out[r * cols + c] = a.in[0].f32()[i * cols + c] * scale;
    }
  });
}

// Calls f(index in x, index in the means, 1 / rows) for every float that is averaged.
template <class F>
void EachMean(const std::vector<double>& offsets, const Extents& x, int64_t position, const F& f) {
  for (int64_t i = 0; i + 1 < std::ssize(offsets); ++i) {
    const Segment s = MeanRows(offsets.data(), i, x[0], position);
    for (int64_t r = s.begin; r < s.end; ++r)
      for (int64_t c = 0; c < x[1]; ++c)
        f(static_cast<size_t>(r * x[1] + c), static_cast<size_t>(i * x[1] + c),
          1 / static_cast<double>(s.size()));
  }
}

// The gradient to x is zero but for the rows of dy at their positions. The zeros come from an empty
// slice of x, whose values are not read.
std::vector<ValueId> SumPositionsGradient(const GradientArgs& v) {
  const TokensAttrs& p = v.attrs.As<TokensAttrs>();
  std::vector<ValueId> d(2);
  if (!v.need[0]) return d;
  Graph& g = v.g;
  const ValueId zero = BroadcastLike(g, SumRows(g, SliceRows(g, v.in[0], 0, 0)), v.in[0]);
  const SliceAttrs place{p.position, p.position + p.count};
  d[0] = AddPositions(g, zero, g.Add1(kPadRows, {v.cotangent[0]}, place), v.in[1]);
  return d;
}

}  // namespace

constinit const OpDef kAddPositions{
    .name = "add_positions",
    .infer = InferAddPositions,
    .reference =
        +[](const ReferenceArgs& a) {
          a.out[0] = a.in[0];
          EachPosition(a.in[2], a.in_shape[0], 0, a.in_shape[1][0],
                       [&](size_t x, size_t table) { a.out[0][x] += a.in[1][table]; });
        },
    .kernel = AddPositionsKernel,
    .gradient =
        +[](const GradientArgs& v) {
          std::vector<ValueId> d(3);
          const int64_t positions = v.g.shape(v.in[1])[0].constant;
          if (v.need[0]) d[0] = v.cotangent[0];
          if (v.need[1]) d[1] = SumPositions(v.g, v.cotangent[0], v.in[2], 0, positions);
          return d;
        },
    .cost = MoveCost<1>,
    .samples =
        +[] {
          return std::vector<Sample>{
              {"one", {{{1, 1}}, {{1, 1}}, Indices({0, 1})}},
              {"odd", {{{9, 3}}, {{5, 3}}, Indices({0, 4, 4, 9})}},
              {"short", {{{9, 3}}, {{2, 3}}, Indices({0, 4, 8})}},
              {"prime", {{{31, 37}}, {{17, 37}}, Indices({0, 13, 14, 31})}},
              {"empty", {{{0, 3}}, {{2, 3}}, Indices({0})}},
              {"bench", {{{1576, 768}}, {{197, 768}}, EqualLengths(8, 197)}}};
        },
    .error_samples =
        +[] {
          return std::vector<ErrorSample>{
              {{F32({9, 3}), F32({5, 4}), I32({3})}, {}, "x has 3 columns but table has 4"}};
        },
    .cancels = true,
    .in_place = 0};

constinit const OpDef kSumPositions{
    .name = "sum_positions",
    .default_attrs = +[] { return Attrs(TokensAttrs{}); },
    .infer = InferSumPositions,
    .reference =
        +[](const ReferenceArgs& a) {
          const TokensAttrs& p = a.attrs.As<TokensAttrs>();
          EachPosition(a.in[1], a.in_shape[0], p.position, p.count,
                       [&](size_t x, size_t sum) { a.out[0][sum] += a.in[0][x]; });
        },
    .kernel = SumPositionsKernel,
    .gradient = SumPositionsGradient,
    .cost =
        +[](const CostArgs& args) {
          const double n = static_cast<double>(args.out[0].size() * SequencesOf(args.in[1]));
          return Cost{n, 4 * (n + static_cast<double>(args.out[0].size()))};
        },
    .samples =
        +[] {
          return std::vector<Sample>{
              {"one", {{{1, 1}}, Indices({0, 1})}, TokensAttrs{0, 1}},
              {"odd", {{{9, 3}}, Indices({0, 4, 4, 9})}, TokensAttrs{1, 3}},
              {"prime", {{{31, 37}}, Indices({0, 13, 14, 31})}, TokensAttrs{1, 13}},
              {"empty", {{{0, 3}}, Indices({0})}, TokensAttrs{1, 3}},
              {"bench", {{{1576, 768}}, EqualLengths(8, 197)}, TokensAttrs{0, 197}}};
        },
    .error_samples =
        +[] {
          return std::vector<ErrorSample>{
              {{F32({9, 3}), I32({3})}, TokensAttrs{0, -1}, "position 0 and count -1 must not be"}};
        },
    .cancels = true};

constinit const OpDef kSegmentMean{
    .name = "segment_mean",
    .default_attrs = +[] { return Attrs(TokensAttrs{}); },
    .infer = InferMean,
    .reference =
        +[](const ReferenceArgs& a) {
          EachMean(
              a.in[1], a.in_shape[0], a.attrs.As<TokensAttrs>().position,
              [&](size_t x, size_t mean, double share) { a.out[0][mean] += a.in[0][x] * share; });
        },
    .kernel = MeanKernel,
    .gradient =
        +[](const GradientArgs& v) {
          std::vector<ValueId> d(2);
          if (v.need[0])
            d[0] = v.g.Add1(kSegmentMeanGrad, {v.cotangent[0], v.in[1], v.in[0]}, v.attrs);
          return d;
        },
    .cost = MoveCost<>,
    .samples =
        +[] {
          return std::vector<Sample>{
              {"one", {{{1, 1}}, Indices({0, 1})}, TokensAttrs{}},
              {"odd", {{{9, 3}}, Indices({0, 4, 4, 9})}, TokensAttrs{}},
              {"patches", {{{9, 3}}, Indices({0, 4, 5, 9})}, TokensAttrs{.position = 1}},
              {"prime", {{{31, 37}}, Indices({0, 13, 14, 31})}, TokensAttrs{}},
              {"empty", {{{0, 3}}, Indices({0})}, TokensAttrs{}},
              {"bench", {{{1576, 768}}, EqualLengths(8, 197)}, TokensAttrs{}}};
        },
    .error_samples =
        +[] {
          return std::vector<ErrorSample>{{{F32({9, 3}), F32({3})},
                                           TokensAttrs{},
                                           "offsets: expected an i32 vector, found f32[3]"}};
        },
    .cancels = true};

// (dy [S,D], offsets, like [R,D]){position} -> [R,D]; the values of `like` are not read.
constinit const OpDef kSegmentMeanGrad{
    .name = "segment_mean_grad",
    .default_attrs = +[] { return Attrs(TokensAttrs{}); },
    .infer = InferMeanGrad,
    .reference =
        +[](const ReferenceArgs& a) {
          EachMean(
              a.in[1], a.in_shape[2], a.attrs.As<TokensAttrs>().position,
              [&](size_t x, size_t mean, double share) { a.out[0][x] = a.in[0][mean] * share; });
        },
    .kernel = MeanGradKernel,
    .gradient =
        +[](const GradientArgs& v) {
          std::vector<ValueId> d(3);
          if (v.need[0]) d[0] = v.g.Add1(kSegmentMean, {v.cotangent[0], v.in[1]}, v.attrs);
          return d;
        },
    .cost =
        +[](const CostArgs& args) {
          const double n = static_cast<double>(args.out[0].size());
          return Cost{n, 4 * (n + static_cast<double>(args.in[0].size()))};
        },
    .samples =
        +[] {
          return std::vector<Sample>{
              {"one", {{{1, 1}}, Indices({0, 1}), {{1, 1}}}, TokensAttrs{}},
              {"odd", {{{3, 2}}, Indices({0, 4, 4, 9}), {{9, 2}}}, TokensAttrs{}},
              {"patches", {{{3, 2}}, Indices({0, 4, 5, 9}), {{9, 2}}}, TokensAttrs{.position = 1}},
              {"prime", {{{3, 37}}, Indices({0, 13, 14, 31}), {{31, 37}}}, TokensAttrs{}},
              {"empty", {{{0, 2}}, Indices({0}), {{3, 2}}}, TokensAttrs{}},
              {"bench", {{{8, 768}}, EqualLengths(8, 197), {{1576, 768}}}, TokensAttrs{}}};
        },
    .error_samples =
        +[] {
          return std::vector<ErrorSample>{{{F32({3, 2}), I32({3}), F32({9, 2})},
                                           TokensAttrs{},
                                           "dy has 3 rows for 2 sequences"}};
        }};

}  // namespace graft
