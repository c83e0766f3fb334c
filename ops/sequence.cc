// Offsets, which say where sequences begin, and the insertion and removal of tokens. Rows of a
// result that belong to no sequence are zero.
#include "ops/rows.h"

namespace graft {
namespace {

// --- offsets ---

std::vector<TensorType> InferOffsets(Types in, const Attrs& attrs) {
  ExpectInputs(in, 0);
  if (attrs.As<OffsetsAttrs>().length < 0)
    Fail("length {} is negative", attrs.As<OffsetsAttrs>().length);
  return {I32({Dim(1) + Dim::Sequences()})};
}

// --- insert and drop tokens ---

std::vector<TensorType> InferInsert(Types in, const Attrs& attrs) {
  const TokensAttrs& p = attrs.As<TokensAttrs>();
  ExpectInputs(in, 3);
  ExpectMatrix(in[0], "x");
  ExpectMatrix(in[1], "tokens");
  ExpectOffsets(in[2]);
  ExpectSameCols(in[0], "x", in[1], "tokens");
  ExpectTokens(p);
  if (!(in[1].shape[0] == Dim(p.count)))
    Fail("tokens: expected {} rows, found {}", p.count, ToString(in[1].shape[0]));
  return {F32({in[0].shape[0] + SequencesOf(in[2]) * p.count, in[0].shape[1]})};
}

std::vector<TensorType> InferDrop(Types in, const Attrs& attrs) {
  const TokensAttrs& p = attrs.As<TokensAttrs>();
  ExpectInputs(in, 2);
  ExpectMatrix(in[0], "x");
  ExpectOffsets(in[1]);
  ExpectTokens(p);
  const Dim rows = in[0].shape[0] + SequencesOf(in[1]) * -p.count;
  if (rows.constant < 0 || rows.sequences < 0 || rows.tokens < 0)
    Fail("cannot drop {} of {} rows in each of {} sequences", p.count, ToString(in[0].shape[0]),
         ToString(SequencesOf(in[1])));
  return {F32({rows, in[0].shape[1]})};
}

// Where `count` tokens stand in the long form of sequence i: before row `position`, or at the end
// of a sequence that is shorter. Both forms of the sequence are clamped to their matrices.
struct TokenPlace {
  Segment with, without;
  int64_t at;     // row of the first token, relative to the sequence
  int64_t count;  // tokens that there is room for
};
template <class T>
TokenPlace PlaceTokens(const T* offsets_with, const T* offsets_without, int64_t i,
                       int64_t rows_with, int64_t rows_without, const TokensAttrs& p) {
  // One of the two offsets is given; the other differs by i times the count.
  const int64_t shift = i * p.count;
  const T* given = offsets_with ? offsets_with : offsets_without;
  const int64_t by = offsets_with ? -1 : 1;
  const int64_t pair[2] = {static_cast<int64_t>(given[i]) + by * shift,
                           static_cast<int64_t>(given[i + 1]) + by * (shift + p.count)};
  TokenPlace place;
  place.with = offsets_with ? SegmentOf(offsets_with, i, rows_with) : SegmentOf(pair, 0, rows_with);
  place.without =
      offsets_with ? SegmentOf(pair, 0, rows_without) : SegmentOf(offsets_without, i, rows_without);
  place.at = std::min({p.position, place.without.size(), place.with.size()});
  place.count = std::min(p.count, place.with.size() - place.at);
  return place;
}

// The rows behind the tokens that both forms have.
int64_t TailRows(const TokenPlace& t) {
  return std::max<int64_t>(0, std::min(t.with.size() - t.at - t.count, t.without.size() - t.at));
}

void InsertKernel(const KernelArgs& a) noexcept {
  const TokensAttrs& p = a.attrs.As<TokensAttrs>();
  const int64_t cols = a.out[0].shape[1], sequences = SequencesOf(a.in[2].shape);
  const int64_t rows = a.in[0].shape[0], rows_out = a.out[0].shape[0];
  float* out = a.out[0].f32();
  ForSequences(sequences, rows_out * cols, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const TokenPlace t = PlaceTokens<int32_t>(nullptr, a.in[2].i32(), i, rows_out, rows, p);
      const float* from = a.in[0].f32() + t.without.begin * cols;
      float* to = out + t.with.begin * cols;
      const int64_t tail = TailRows(t), end = t.at + t.count + tail;
      CopyFloats(to, from, t.at * cols);
      CopyFloats(to + t.at * cols, a.in[1].f32(), t.count * cols);
      CopyFloats(to + (t.at + t.count) * cols, from + t.at * cols, tail * cols);
      ZeroFloats(to + end * cols, (t.with.size() - end) * cols);
    }
  });
  ZeroOutside(sequences, rows_out, cols, out, [&](int64_t i) {
    return PlaceTokens<int32_t>(nullptr, a.in[2].i32(), i, rows_out, rows, p).with;
  });
}

void DropKernel(const KernelArgs& a) noexcept {
  const TokensAttrs& p = a.attrs.As<TokensAttrs>();
  const int64_t cols = a.out[0].shape[1], sequences = SequencesOf(a.in[1].shape);
  const int64_t rows = a.in[0].shape[0], rows_out = a.out[0].shape[0];
  float* out = a.out[0].f32();
  ForSequences(sequences, rows * cols, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const TokenPlace t = PlaceTokens<int32_t>(a.in[1].i32(), nullptr, i, rows, rows_out, p);
      const float* from = a.in[0].f32() + t.with.begin * cols;
      float* to = out + t.without.begin * cols;
      const int64_t tail = TailRows(t), end = t.at + tail;
      CopyFloats(to, from, t.at * cols);
      CopyFloats(to + t.at * cols, from + (t.at + t.count) * cols, tail * cols);
      ZeroFloats(to + end * cols, (t.without.size() - end) * cols);
    }
  });
  ZeroOutside(sequences, rows_out, cols, out, [&](int64_t i) {
    return PlaceTokens<int32_t>(a.in[1].i32(), nullptr, i, rows, rows_out, p).without;
  });
}

void RefInsert(const ReferenceArgs& a) {
  const TokensAttrs& p = a.attrs.As<TokensAttrs>();
  const size_t cols = static_cast<size_t>(a.out_shape[0][1]);
  auto copy = [&](size_t input, int64_t from, int64_t to) {
    for (size_t c = 0; c < cols; ++c)
      a.out[0][static_cast<size_t>(to) * cols + c] =
          a.in[input][static_cast<size_t>(from) * cols + c];
  };
  for (int64_t i = 0; i < SequencesOf(a.in_shape[2]); ++i) {
    const Segment s = SegmentOf(a.in[2].data(), i, a.in_shape[0][0]);
    const int64_t at = std::min(p.position, s.size()), begin = s.begin + i * p.count;
    for (int64_t r = 0; r < s.size(); ++r)
      copy(0, s.begin + r, begin + r + (r >= at ? p.count : 0));
    for (int64_t t = 0; t < p.count; ++t) copy(1, t, begin + at + t);
  }
}

void RefDrop(const ReferenceArgs& a) {
  const TokensAttrs& p = a.attrs.As<TokensAttrs>();
  const size_t cols = static_cast<size_t>(a.out_shape[0][1]);
  for (int64_t i = 0; i < SequencesOf(a.in_shape[1]); ++i) {
    const Segment s = SegmentOf(a.in[1].data(), i, a.in_shape[0][0]);
    const int64_t at = std::min(p.position, s.size() - p.count), begin = s.begin - i * p.count;
    for (int64_t r = 0; r < s.size() - p.count; ++r)
      for (size_t c = 0; c < cols; ++c)
        a.out[0][static_cast<size_t>(begin + r) * cols + c] =
            a.in[0][static_cast<size_t>(s.begin + r + (r >= at ? p.count : 0)) * cols + c];
  }
}

// Zeros [rows, C] like a matrix of C columns, whose values are not read.
ValueId ZeroRows(Graph& g, ValueId x, int64_t rows) {
  return g.Add1(kPadRows, {SliceRows(g, x, 0, 0)}, SliceAttrs{0, rows});
}

std::vector<ValueId> InsertGradient(const GradientArgs& v) {
  const TokensAttrs& p = v.attrs.As<TokensAttrs>();
  std::vector<ValueId> d(3);
  if (!v.need[0] && !v.need[1]) return d;
  const ValueId offsets = ShiftOffsets(v.g, v.in[2], p.count);
  if (v.need[0]) d[0] = DropTokens(v.g, v.cotangent[0], offsets, p.position, p.count);
  if (v.need[1]) d[1] = SumPositions(v.g, v.cotangent[0], offsets, p.position, p.count);
  return d;
}

std::vector<ValueId> DropGradient(const GradientArgs& v) {
  const TokensAttrs& p = v.attrs.As<TokensAttrs>();
  std::vector<ValueId> d(2);
  if (!v.need[0]) return d;
  const ValueId dy = v.cotangent[0], offsets = ShiftOffsets(v.g, v.in[1], -p.count);
  d[0] = InsertTokens(v.g, dy, ZeroRows(v.g, dy, p.count), offsets, p.position);
  return d;
}

}  // namespace

constinit const OpDef kOffsets{
    .name = "offsets",
    .default_attrs = +[] { return Attrs(OffsetsAttrs{}); },
    .infer = InferOffsets,
    .reference =
        +[](const ReferenceArgs& a) {
          for (size_t i = 0; i < a.out[0].size(); ++i)
            a.out[0][i] =
                static_cast<double>(i) * static_cast<double>(a.attrs.As<OffsetsAttrs>().length);
        },
    .kernel =
        +[](const KernelArgs& a) noexcept {
          const int64_t length = a.attrs.As<OffsetsAttrs>().length;
          for (int64_t i = 0; i < a.out[0].shape[0]; ++i)
            a.out[0].i32()[i] = static_cast<int32_t>(i * length);
        },
    .cost = MoveCost<>,
    .samples =
        +[] {
          return std::vector<Sample>{{"one", {}, OffsetsAttrs{197}}};
        },
    .error_samples =
        +[] {
          return std::vector<ErrorSample>{{{}, OffsetsAttrs{-1}, "length -1 is negative"}};
        }};

constinit const OpDef kShiftOffsets{
    .name = "shift_offsets",
    .default_attrs = +[] { return Attrs(ShiftAttrs{}); },
    .infer =
        +[](Types in, const Attrs&) {
          ExpectInputs(in, 1);
          ExpectOffsets(in[0]);
          return std::vector<TensorType>{in[0]};
        },
    .reference =
        +[](const ReferenceArgs& a) {
          const double by = static_cast<double>(a.attrs.As<ShiftAttrs>().by);
          for (size_t i = 0; i < a.out[0].size(); ++i)
            a.out[0][i] = a.in[0][i] + static_cast<double>(i) * by;
        },
    .kernel =
        +[](const KernelArgs& a) noexcept {
          const int64_t by = a.attrs.As<ShiftAttrs>().by;
          for (int64_t i = 0; i < a.out[0].shape[0]; ++i)
            a.out[0].i32()[i] = static_cast<int32_t>(a.in[0].i32()[i] + i * by);
        },
    .cost = MoveCost<>,
    .samples =
        +[] {
          return std::vector<Sample>{{"one", {Indices({0, 3})}, ShiftAttrs{1}},
                                     {"odd", {Indices({0, 3, 3, 10})}, ShiftAttrs{-2}},
                                     {"empty", {Indices({0})}, ShiftAttrs{5}}};
        },
    .error_samples =
        +[] {
          return std::vector<ErrorSample>{
              {{F32({3})}, ShiftAttrs{1}, "offsets: expected an i32 vector"}};
        }};

constinit const OpDef kFirstRows{
    .name = "first_rows",
    .default_attrs = +[] { return Attrs(FirstRowsAttrs{}); },
    .infer =
        +[](Types in, const Attrs& attrs) {
          ExpectInputs(in, 1);
          ExpectOffsets(in[0]);
          const int64_t at = attrs.As<FirstRowsAttrs>().at;
          if (at < 0) Fail("at: expected 0 or more, found {}", at);
          return std::vector<TensorType>{I32({SequencesOf(in[0])})};
        },
    .reference =
        +[](const ReferenceArgs& a) {
          const double at = static_cast<double>(a.attrs.As<FirstRowsAttrs>().at);
          for (size_t i = 0; i < a.out[0].size(); ++i) a.out[0][i] = a.in[0][i] + at;
        },
    .kernel =
        +[](const KernelArgs& a) noexcept {
          const auto at = static_cast<int32_t>(a.attrs.As<FirstRowsAttrs>().at);
          for (int64_t i = 0; i < a.out[0].shape[0]; ++i) a.out[0].i32()[i] = a.in[0].i32()[i] + at;
        },
    .cost = MoveCost<>,
    .samples =
        +[] {
          return std::vector<Sample>{{"one", {Indices({0, 3})}, FirstRowsAttrs{}},
                                     {"odd", {Indices({0, 3, 3, 10})}, FirstRowsAttrs{}},
                                     {"third", {Indices({0, 3, 7, 10})}, FirstRowsAttrs{2}},
                                     {"empty", {Indices({0})}, FirstRowsAttrs{1}}};
        },
    .error_samples =
        +[] {
          return std::vector<ErrorSample>{
              {{I32({0})}, FirstRowsAttrs{}, "expected 1 + sequences elements, found i32[0]"},
              {{I32({3})}, FirstRowsAttrs{-1}, "at: expected 0 or more, found -1"}};
        }};

constinit const OpDef kInsertTokens{
    .name = "insert_tokens",
    .default_attrs = +[] { return Attrs(TokensAttrs{}); },
    .infer = InferInsert,
    .reference = RefInsert,
    .kernel = InsertKernel,
    .gradient = InsertGradient,
    .cost = MoveCost<>,
    .samples =
        +[] {
          return std::vector<Sample>{
              {"one", {{{1, 1}}, {{1, 1}}, Indices({0, 1})}, TokensAttrs{0, 1}},
              {"odd", {{{7, 3}}, {{2, 3}}, Indices({0, 4, 5, 7})}, TokensAttrs{1, 2}},
              {"first", {{{7, 3}}, {{2, 3}}, Indices({0, 1, 1, 7})}, TokensAttrs{0, 2}},
              {"none", {{{7, 3}}, {{0, 3}}, Indices({0, 7})}, TokensAttrs{1, 0}},
              {"prime", {{{31, 37}}, {{5, 37}}, Indices({0, 13, 14, 31})}, TokensAttrs{1, 5}},
              {"empty", {{{0, 3}}, {{2, 3}}, Indices({0})}, TokensAttrs{0, 2}},
              {"bench", {{{1576, 768}}, {{10, 768}}, EqualLengths(8, 197)}, TokensAttrs{1, 10}}};
        },
    .error_samples =
        +[] {
          const TensorType x = F32({7, 3}), offsets = I32({3});
          return std::vector<ErrorSample>{
              {{x, F32({2, 4}), offsets}, TokensAttrs{1, 2}, "x has 3 columns but tokens has 4"},
              {{x, F32({2, 3}), offsets}, TokensAttrs{1, 1}, "tokens: expected 1 rows, found 2"},
              {{x, F32({2, 3}), offsets},
               TokensAttrs{-1, 2},
               "position -1 and count 2 must not be"}};
        }};

constinit const OpDef kDropTokens{
    .name = "drop_tokens",
    .default_attrs = +[] { return Attrs(TokensAttrs{}); },
    .infer = InferDrop,
    .reference = RefDrop,
    .kernel = DropKernel,
    .gradient = DropGradient,
    .cost = MoveCost<>,
    .samples =
        +[] {
          return std::vector<Sample>{
              {"one", {{{1, 1}}, Indices({0, 1})}, TokensAttrs{0, 1}},
              {"odd", {{{11, 3}}, Indices({0, 5, 7, 11})}, TokensAttrs{1, 2}},
              {"none", {{{7, 3}}, Indices({0, 7})}, TokensAttrs{1, 0}},
              {"prime", {{{31, 37}}, Indices({0, 13, 18, 31})}, TokensAttrs{1, 5}},
              {"empty", {{{0, 3}}, Indices({0})}, TokensAttrs{0, 2}},
              {"bench", {{{1656, 768}}, EqualLengths(8, 207)}, TokensAttrs{1, 10}}};
        },
    .error_samples =
        +[] {
          return std::vector<ErrorSample>{
              {{F32({7, 3}), I32({3})}, TokensAttrs{0, 4}, "cannot drop 4 of 7 rows in each of 2"}};
        }};

}  // namespace graft
