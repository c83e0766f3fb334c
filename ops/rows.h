// Shared by the families that move rows: checks for `infer`, the rows of a sequence, parallel
// loops, samples.
#pragma once
#include <algorithm>
#include <cstring>

#include "ops/ops.h"
#include "runtime/threads.h"

namespace graft {

using Types = std::span<const TensorType>;

inline void ExpectInputs(Types in, size_t count) {
  if (in.size() != count) Fail("expected {} inputs, found {}", count, in.size());
}
inline void ExpectMatrix(const TensorType& t, const char* what) {
  if (t.dtype != DType::kF32 || t.shape.size() != 2)
    Fail("{}: expected an f32 matrix, found {}", what, ToString(t));
}
inline void ExpectIndices(const TensorType& t, const char* what) {
  if (t.dtype != DType::kI32 || t.shape.size() != 1)
    Fail("{}: expected an i32 vector, found {}", what, ToString(t));
}
inline void ExpectOffsets(const TensorType& t, const char* what = "offsets") {
  ExpectIndices(t, what);
  if (t.shape[0].constant < 1)
    Fail("{}: expected 1 + sequences elements, found {}", what, ToString(t));
}
inline void ExpectTokens(const TokensAttrs& p) {
  if (p.position < 0 || p.count < 0)
    Fail("position {} and count {} must not be negative", p.position, p.count);
  CheckDims({p.count});
}
inline void ExpectSameCols(const TensorType& a, const char* a_name, const TensorType& b,
                           const char* b_name) {
  if (!(a.shape[1] == b.shape[1]))
    Fail("{} has {} columns but {} has {}", a_name, ToString(a.shape[1]), b_name,
         ToString(b.shape[1]));
}

inline void ExpectInside(const SliceAttrs& p, int64_t size, const char* what) {
  if (p.begin < 0 || p.count < 0 || p.begin > size || p.count > size - p.begin)
    Fail("{} [{}, {} + {}) of {}", what, p.begin, p.begin, p.count, size);
}
inline void ExpectRoom(const SliceAttrs& p, int64_t size, const char* what) {
  if (p.begin < 0 || p.count < 0 || p.begin > p.count || size > p.count - p.begin)
    Fail("{} {} at {} do not fit into {}", size, what, p.begin, p.count);
}

// The number of sequences that offsets [1+S] describe.
inline Dim SequencesOf(const TensorType& offsets) { return offsets.shape[0] + Dim(-1); }
inline int64_t SequencesOf(const Extents& offsets) { return std::max<int64_t>(0, offsets[0] - 1); }

// Rows [begin, end) of sequence i, inside [0, rows) whatever the offsets say.
struct Segment {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};
template <class T>  // int32_t, or double in references
Segment SegmentOf(const T* offsets, int64_t i, int64_t rows) {
  const int64_t begin = std::clamp<int64_t>(static_cast<int64_t>(offsets[i]), 0, rows);
  return {begin, std::clamp<int64_t>(static_cast<int64_t>(offsets[i + 1]), begin, rows)};
}

inline void CopyFloats(float* to, const float* from, int64_t count) {
  if (count > 0) std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
}
inline void ZeroFloats(float* to, int64_t count) {
  if (count > 0) std::memset(to, 0, static_cast<size_t>(count) * sizeof(float));
}
inline void AddFloats(float* __restrict to, const float* __restrict from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] += from[i];
}

// Zeroes the rows of out [rows, cols], f32 or bf16, outside of segment(0), segment(1), ...
template <class T, class F>
void ZeroOutside(int64_t segments, int64_t rows, int64_t cols, T* out, const F& segment) {
  const auto zero = [&](int64_t begin, int64_t end) {
    if (end <= begin) return;
    std::memset(out + begin * cols, 0, static_cast<size_t>((end - begin) * cols) * sizeof(T));
  };
  int64_t covered = 0;
  for (int64_t i = 0; i < segments; ++i) {
    const Segment s = segment(i);
    zero(covered, s.begin);
    covered = std::max(covered, s.end);
  }
  zero(covered, rows);
}
// Zeroes the rows of out [rows, cols] that belong to no sequence.
template <class T>
void ZeroGaps(const int32_t* offsets, int64_t sequences, int64_t rows, int64_t cols, T* out) {
  ZeroOutside(sequences, rows, cols, out, [&](int64_t i) { return SegmentOf(offsets, i, rows); });
}

constexpr int64_t kChunkFloats = 16384;  // 64 KiB: below that a second thread does not pay

// Calls f(begin, end) on pieces of `count` items that are `floats` long each.
template <class F>
void ForPieces(int64_t count, int64_t floats, const F& f) noexcept {
  const FixedChunks cut(count, std::max<int64_t>(1, kChunkFloats / std::max<int64_t>(1, floats)));
  ParallelFor(cut.count(), [&](int64_t i) { f(cut.begin(i), cut.end(i)); });
}

// Calls f on pieces of sequences, which have `floats` together.
template <class F>
void ForSequences(int64_t sequences, int64_t floats, const F& f) noexcept {
  ForPieces(sequences, floats / std::max<int64_t>(1, sequences), f);
}

// The cost of moving all bytes with `flops` operations per element of the first result.
template <int flops = 0>
Cost MoveCost(const CostArgs& args) {
  return {flops * static_cast<double>(args.out[0].size()), args.Bytes()};
}

// Inputs of samples: indices as given, and offsets of sequences that have one length.
inline SampleInput Indices(std::vector<int32_t> values) {
  return {.shape = {static_cast<int64_t>(values.size())}, .ints = std::move(values)};
}
inline SampleInput EqualLengths(int32_t sequences, int32_t length) {
  std::vector<int32_t> values;
  for (int32_t i = 0; i <= sequences; ++i) values.push_back(i * length);
  return Indices(std::move(values));
}
inline TensorType F32(Shape shape) { return {DType::kF32, std::move(shape)}; }
inline TensorType I32(Shape shape) { return {DType::kI32, std::move(shape)}; }

}  // namespace graft
