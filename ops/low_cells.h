// Numbers of low precision as the cells of gemm_core.h.
//
// bf16: rounded to nearest, ties to even. Bytes: a row x of A becomes u8 q = round(x / s) + z with
// s = (max - min) / 254 and z = round(1/2 - min / s) (max and min of the row and 0, which is
// exact), and a column w of B s8 q = round(w / s) with s = max |w| / 127, so that
//   sum x w = s_row s_col (sum q_row q_col - z_row sum q_col).
// Rows and columns of zeros have s = 0. What is not finite makes its row or column of C NaN. Both
// are transformed first (hadamard.h), which leaves their product as it is and makes s small.
//
// With static scales, of inputs that were looked at before, all rows have one z, and number j of
// a transformed row a factor f_j of its own, q = round(x_j f_j) + z within a byte, whose inverse
// goes into row j of the transformed B:
//   sum x w = s_col (sum q q_col - z sum q_col).
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "ops/gemm_core.h"
#include "runtime/tensor_type.h"

namespace graft {

// Cells that hold k numbers; the last one is filled up with zeros.
int64_t CellsOf(CellType cell, int64_t k);

// The precisions as users write them: "f32", "bf16", "int8".
const char* CellName(CellType cell);

// Scratch of a product: cells of A [m, CellsOf(k)] and, of bytes, the range of each row.
size_t LowRowsBytes(CellType cell, int64_t m, int64_t k);
float* RangeBehind(std::byte* cells, int64_t m, int64_t k);
// Fills it from A [m, k], f32 or bf16 by rows. Parallel inside.
void MakeLowRows(CellType cell, const Tensor& a, int64_t m, int64_t k, std::byte* scratch) noexcept;
// Rows of bytes: cells and range [m, 2], which is s and z of each row.
void MakeByteRows(const Tensor& a, int64_t m, int64_t k, std::byte* cells, float* range) noexcept;
// The same with factors [k] and one zero.
void MakeStaticRows(const Tensor& a, int64_t m, int64_t k, const float* factors, int32_t zero,
                    std::byte* cells, float* range) noexcept;

// Whether the rows of such an A are cells already: LowRows may read them where they lie.
inline bool AreCells(CellType cell, DType a, int64_t k) {
  return a == DType::kI32 || (cell == CellType::kBf16 && a == DType::kBf16 && k % 2 == 0);
}

// Pairs of bf16 of A [k, m], f32 or bf16 by rows, which lie along k: cells [CellsOf(k), m]. Of an
// odd k, the last cells hold one number. Parallel inside.
void PairRows(const Tensor& a, int64_t k, int64_t m, float* cells) noexcept;

// A packed B [k, n]: panels as PackB makes them of cells, then, of bytes, scales and sums of q for
// each column of the whole panels.
size_t LowPackedBytes(CellType cell, int64_t k, int64_t n);
// Of bytes, row i of the transformed B is multiplied by factors[i], if they are given.
void PackLow(CellType cell, const MatrixView& b, int64_t k, int64_t n, float* packed,
             const float* factors = nullptr) noexcept;

// What the product reads of both: A's cells, B's panels, and the scales in `epilogue`.
MatrixView LowRows(CellType cell, int64_t m, int64_t k, const std::byte* scratch,
                   GemmEpilogue* epilogue);
GemmB LowPanels(CellType cell, int64_t k, int64_t n, const float* packed, GemmEpilogue* epilogue);

// Nearest bf16, as bits. What the record's reference rounds by.
uint16_t ToBf16(float x);
float FromBf16(uint16_t bits);
// Of a column: max |x| / 127; NaN if a value is not finite.
float ByteScale(const float* x, int64_t count);
// round(x / scale), within [-127, 127]; 0 where the scale is 0 or NaN.
int32_t ToByte(float x, float scale);
constexpr int64_t kMostBytes = 4 * kMostInt8Cells;  // of a row
// Of a row: x is about scale (q - zero).
struct ByteRow {
  float scale = 0, inverse = 0, zero = 0;
};
// Added to a number, this leaves no bits for fractions: the nearest whole number is in the lowest
// bits, ties to even.
constexpr float kWhole = 12582912.0f;  // 1.5 x 2^23
// `rest` is 0, or NaN if a value is not finite; a scale that is not finite is NaN. With 254 steps
// and half of one below, no number's byte is outside [0, 255], however the sums are rounded.
inline ByteRow ByteRowOf(float min, float max, float rest) {
  const float span = max - min;
  ByteRow row{span / 254 + (span - span) + rest, 0, 0};
  if (!(row.scale > 0)) return row;
  row.inverse = 254 / span;
  if (!(row.inverse <= std::numeric_limits<float>::max())) {  // the smallest rows take fewer steps
    row.inverse = std::numeric_limits<float>::max();
    row.scale = 1 / row.inverse;
  }
  row.zero = (kWhole + (0.5f - min * row.inverse)) - kWhole;
  return row;
}
// round(x inverse + zero), where the sum is rounded once.
inline uint8_t ByteOf(float x, const ByteRow& row) {
  return static_cast<uint8_t>(std::bit_cast<uint32_t>(std::fma(x, row.inverse, kWhole + row.zero)));
}

}  // namespace graft
