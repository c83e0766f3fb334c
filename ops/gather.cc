// gather_rows (embedding tables, the CLS row of each sequence) and its gradient scatter_add_rows.
#include "ops/rows.h"

namespace graft {
namespace {

std::vector<TensorType> InferGather(Types in, const Attrs&) {
  ExpectInputs(in, 2);
  ExpectMatrix(in[0], "x");
  ExpectIndices(in[1], "rows");
  return {F32({in[1].shape[0], in[0].shape[1]})};
}

std::vector<TensorType> InferScatter(Types in, const Attrs&) {
  ExpectInputs(in, 3);
  ExpectMatrix(in[0], "y");
  ExpectIndices(in[1], "rows");
  ExpectMatrix(in[2], "like");
  ExpectSameCols(in[0], "y", in[2], "like");
  if (!(in[0].shape[0] == in[1].shape[0]))
    Fail("y has {} rows for {} indices", ToString(in[0].shape[0]), ToString(in[1].shape[0]));
  return {in[2]};
}

void GatherKernel(const KernelArgs& a) noexcept {
  const int64_t rows = a.in[0].shape[0], cols = a.in[0].shape[1];
  ForPieces(a.out[0].shape[0], cols, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = a.in[1].i32()[i];
      float* to = a.out[0].f32() + i * cols;
      if (row >= 0 && row < rows)
        CopyFloats(to, a.in[0].f32() + row * cols, cols);
      else
        ZeroFloats(to, cols);
    }
  });
}

constexpr int64_t kBlockCols = 64;  // columns of a task: rows of one destination meet in one task

void ScatterKernel(const KernelArgs& a) noexcept {
  const int64_t rows = a.out[0].shape[0], cols = a.out[0].shape[1], count = a.in[0].shape[0];
  float* out = a.out[0].f32();
  ForPieces(rows * cols, 1,
            [&](int64_t begin, int64_t end) { ZeroFloats(out + begin, end - begin); });
  const FixedChunks cut(cols,
                        count * cols < kChunkFloats ? std::max<int64_t>(cols, 1) : kBlockCols);
  ParallelFor(cut.count(), [&](int64_t block) {
    const int64_t begin = cut.begin(block), size = cut.end(block) - begin;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = a.in[1].i32()[i];
      if (row < 0 || row >= rows) continue;
      AddFloats(out + row * cols + begin, a.in[0].f32() + i * cols + begin, size);
    }
  });
}

// Calls f(index in the matrix, index in the picked rows) for every float that is picked.
template <class F>
void EachPicked(const std::vector<double>& rows, const Extents& matrix, const F& f) {
  for (size_t i = 0; i < rows.size(); ++i) {
    const int64_t row = static_cast<int64_t>(rows[i]);
    if (row < 0 || row >= matrix[0]) continue;
    for (int64_t c = 0; c < matrix[1]; ++c)
      f(static_cast<size_t>(row * matrix[1] + c),
        i * static_cast<size_t>(matrix[1]) + static_cast<size_t>(c));
  }
}

SampleInput Spread(int64_t count, int64_t rows) {  // pseudo-random, with repeats
  std::vector<int32_t> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<int32_t>(i * 7919 % rows));
  return Indices(std::move(values));
}

}  // namespace

constinit const OpDef kGatherRows{
    .name = "gather_rows",
    .infer = InferGather,
    .reference =
        +[](const ReferenceArgs& a) {
          EachPicked(a.in[1], a.in_shape[0],
                     [&](size_t from, size_t to) { a.out[0][to] = a.in[0][from]; });
        },
    .kernel = GatherKernel,
    .gradient =
        +[](const GradientArgs& v) {
          std::vector<ValueId> d(2);
          if (v.need[0]) d[0] = ScatterAddRows(v.g, v.cotangent[0], v.in[1], v.in[0]);
          return d;
        },
    .cost =
        +[](const CostArgs& args) {
          return Cost{0, 4.0 * static_cast<double>(2 * args.out[0].size() + args.in[1].size())};
        },
    .samples =
        +[] {
          return std::vector<Sample>{{"one", {{{1, 1}}, Indices({0})}},
                                     {"odd", {{{5, 3}}, Indices({4, 0, 4, 2, 2, 4, 1})}},
                                     {"outside", {{{5, 3}}, Indices({-1, 5, 1, 2147483647})}},
                                     {"prime", {{{31, 37}}, Spread(53, 31)}},
                                     {"empty", {{{0, 3}}, Indices({0, 1})}},
                                     {"bench", {{{30522, 768}}, Spread(1024, 30522)}}};
        },
    .error_samples =
        +[] {
          return std::vector<ErrorSample>{
              {{F32({5, 3}), F32({2})}, {}, "rows: expected an i32 vector, found f32[2]"}};
        }};

constinit const OpDef kScatterAddRows{
    .name = "scatter_add_rows",
    .infer = InferScatter,
    .reference =
        +[](const ReferenceArgs& a) {
          EachPicked(a.in[1], a.in_shape[2],
                     [&](size_t to, size_t from) { a.out[0][to] += a.in[0][from]; });
        },
    .kernel = ScatterKernel,
    .gradient =
        +[](const GradientArgs& v) {
          std::vector<ValueId> d(3);  // the values of `like` are not read
          if (v.need[0]) d[0] = GatherRows(v.g, v.cotangent[0], v.in[1]);
          return d;
        },
    .cost =
        +[](const CostArgs& args) {
          const double n = static_cast<double>(args.in[0].size());
          return Cost{n, 4 * (3 * n + static_cast<double>(args.out[0].size()))};
        },
    .samples =
        +[] {
          return std::vector<Sample>{
              {"one", {{{1, 1}}, Indices({0}), {{1, 1}}}},
              {"odd", {{{7, 3}}, Indices({4, 0, 4, 2, 2, 4, 1}), {{5, 3}}}},
              {"outside", {{{4, 3}}, Indices({-1, 5, 1, 2147483647}), {{5, 3}}}},
              {"prime", {{{53, 67}}, Spread(53, 31), {{31, 67}}}},
              {"empty", {{{2, 3}}, Indices({0, 1}), {{0, 3}}}},
              {"bench", {{{1024, 768}}, Spread(1024, 2000), {{2000, 768}}}}};
        },
    .error_samples =
        +[] {
          return std::vector<ErrorSample>{
              {{F32({3, 4}), I32({2}), F32({5, 4})}, {}, "y has 3 rows for 2 indices"},
              {{F32({2, 4}), I32({2}), F32({5, 3})}, {}, "y has 4 columns but like has 3"}};
        },
    .cancels = true};

}  // namespace graft
