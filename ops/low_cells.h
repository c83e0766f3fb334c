// Numbers of low precision as the cells of gemm_core.h.
//
// bf16: rounded to nearest, ties to even. Bytes: a row x of A becomes u8 q = round(x / s) + 128 and
// a column of B s8 q = round(w / s), both with s = max |x| / 127 of that row or column, so that
//   sum x w = s_row s_col (sum q_row q_col - 128 sum q_col).
// A row or column of zeros has s = 0. What is not finite makes its whole row NaN.
#pragma once
#include "ops/gemm_core.h"

namespace graft {

// Cells that hold k numbers; the last one is filled up with zeros.
int64_t CellsOf(Cell cell, int64_t k);

// The precisions as users write them: "f32", "bf16", "int8".
const char* CellName(Cell cell);

// Scratch of a product: cells of A [m, CellsOf(k)] and, of bytes, a scale for each row.
size_t LowRowsBytes(Cell cell, int64_t m, int64_t k);
// Fills it from A [m, k] f32 by rows. Parallel inside.
void MakeLowRows(Cell cell, const float* a, int64_t m, int64_t k, std::byte* scratch) noexcept;

// A packed B [k, n]: panels as PackB makes them of cells, then, of bytes, scales and 128 times the
// sums of q for each column of the whole panels.
size_t LowPackedBytes(Cell cell, int64_t k, int64_t n);
void PackLow(Cell cell, const MatrixView& b, int64_t k, int64_t n, float* packed) noexcept;

// What the product reads of both: A's cells, B's panels, and the scales in `epilogue`.
MatrixView LowRows(Cell cell, int64_t m, int64_t k, const std::byte* scratch,
                   GemmEpilogue* epilogue);
GemmB LowPanels(Cell cell, int64_t k, int64_t n, const float* packed, GemmEpilogue* epilogue);

// Nearest bf16, as bits. What the record's reference rounds by.
uint16_t ToBf16(float x);
float FromBf16(uint16_t bits);
// max |x| / 127 for bytes; NaN if a value is not finite.
float ByteScale(const float* x, int64_t count, int64_t stride);
// round(x / scale), within [-127, 127]; 0 where the scale is 0 or NaN.
int32_t ToByte(float x, float scale);

}  // namespace graft
