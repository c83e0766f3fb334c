// What the records of the arithmetic families share: checks of input types, costs, sizes of chunks.
#pragma once

#include "ops/ops.h"

namespace graft {

using Types = std::span<const TensorType>;
using ExtentsSpan = std::span<const Extents>;

inline double Elements(const Extents& e) { return static_cast<double>(e.size()); }
inline size_t Rows(const Extents& e) { return static_cast<size_t>(e.rows()); }
inline size_t Cols(const Extents& e) { return static_cast<size_t>(e.cols()); }

// The sizes of parallel chunks. Results depend on them, so they must depend on nothing.
constexpr int64_t kChunk = 16384;     // elements, 64 KiB
constexpr int64_t kRowsOfPart = 128;  // rows that one partial sum over rows adds
constexpr int64_t kColsOfPart = 512;  // columns of a task of a sum over rows

// The scratch of SumRowBlocks (simd-inl.h) for `results` sums over the rows of [rows, cols].
inline size_t SumRowBlocksScratch(int64_t rows, int64_t cols, int64_t results) {
  const int64_t parts = (rows + kRowsOfPart - 1) / kRowsOfPart;
  return parts <= 1 ? 0 : static_cast<size_t>(parts * cols * results) * sizeof(float);
}

// The GELUs in f64 (activation.cc); the epilogue of matmul uses them, too.
struct Activated64 {
  double y, slope;
};
Activated64 Gelu64(double x);
Activated64 GeluNear64(double x);
Activated64 GeluTanh64(double x);

// The cost of an operator that does kFlops operations for each element of its first input.
template <int kFlops>
Cost PerElement(const CostArgs& args) {
  return {kFlops * Elements(args.in[0]), args.Bytes()};
}

inline void ExpectCount(Types in, size_t count) {
  if (in.size() != count) Fail("expected {} inputs, found {}", count, in.size());
}
inline void ExpectType(const TensorType& found, DType dtype, std::string_view what) {
  if (found.dtype != dtype)
    Fail("expected {} as {}, found {}", what, ToString(dtype), ToString(found));
}
inline void ExpectF32(Types in) {
  for (const TensorType& type : in) ExpectType(type, DType::kF32, "all inputs");
}
inline void ExpectRank(const TensorType& found, size_t rank, std::string_view what) {
  if (found.shape.size() != rank)
    Fail("expected {} of rank {}, found {}", what, rank, ToString(found));
}
inline void ExpectShape(const TensorType& found, const Shape& shape, std::string_view what) {
  if (found.shape != shape)
    Fail("expected {} {}, found {}", what, ToString(shape), ToString(found));
}
// The columns of a type, for operators that need at least one.
inline const Dim& Columns(const TensorType& type) {
  if (type.shape.empty() || type.shape.back() == Dim(0))
    Fail("expected at least one column, found {}", ToString(type));
  return type.shape.back();
}

// The function `infer` of operators on equal shapes.
template <size_t kInputs>
std::vector<TensorType> SameShapes(Types in, const Attrs&) {
  ExpectCount(in, kInputs);
  ExpectF32(in);
  for (const TensorType& type : in.subspan(1))
    if (type.shape != in[0].shape)
      Fail("expected equal shapes, found {} and {}", ToString(in[0]), ToString(type));
  return {in[0]};
}

}  // namespace graft
