// Functions that pack matrices for the tiles of gemm_micro-inl.h, for files compiled once per SIMD
// target. They run on one thread and allocate nothing.
#if defined(GRAFT_OPS_GEMM_PACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRAFT_OPS_GEMM_PACK_INL_H_
#undef GRAFT_OPS_GEMM_PACK_INL_H_
#else
#define GRAFT_OPS_GEMM_PACK_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "ops/gemm_core.h"
#include "ops/gemm_micro-inl.h"
#include "runtime/threads.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {

// Packs a panel: packed[k][c] = b[k][c] for k < rows, c < cols, and zero for cols <= c < kGemmNr.
inline void PackPanel(const float* b, int64_t k_stride, int64_t c_stride, int64_t rows,
                      int64_t cols, float* HWY_RESTRICT packed) {
  int64_t c = 0;
  if (c_stride == 1) {
    const size_t bytes = static_cast<size_t>(cols) * sizeof(float);
    if (cols == kGemmNr) {
      const GemmTag d;
      for (int64_t k = 0; k < rows; ++k) {
        for (int64_t j = 0; j < kGemmVecs; ++j) {
          hn::StoreU(hn::LoadU(d, b + k * k_stride + j * kGemmLanes), d,
                     packed + k * kGemmNr + j * kGemmLanes);
        }
      }
      return;
    }
    for (int64_t k = 0; k < rows; ++k) {
      std::memcpy(packed + k * kGemmNr, b + k * k_stride, bytes);
    }
    c = cols;
  }
#if HWY_TARGET != HWY_SCALAR
  if (k_stride == 1) {  // transposes blocks of 4 x 4
    const hn::FixedTag<float, 4> d4;
    const hn::RepartitionToWide<decltype(d4)> d2;
    const auto as64 = [&](auto v) HWY_ATTR { return hn::BitCast(d2, v); };
    const auto as32 = [&](auto v) HWY_ATTR { return hn::BitCast(d4, v); };
    for (; c + 4 <= cols; c += 4) {
      const float* from = b + c * c_stride;
      int64_t k = 0;
      for (; k + 4 <= rows; k += 4) {
        const auto r0 = hn::LoadU(d4, from + k), r1 = hn::LoadU(d4, from + c_stride + k);
        const auto r2 = hn::LoadU(d4, from + 2 * c_stride + k);
        const auto r3 = hn::LoadU(d4, from + 3 * c_stride + k);
        const auto l01 = as64(hn::InterleaveLower(d4, r0, r1));
        const auto l23 = as64(hn::InterleaveLower(d4, r2, r3));
        const auto h01 = as64(hn::InterleaveUpper(d4, r0, r1));
        const auto h23 = as64(hn::InterleaveUpper(d4, r2, r3));
        float* to = packed + k * kGemmNr + c;
        hn::StoreU(as32(hn::InterleaveLower(d2, l01, l23)), d4, to);
        hn::StoreU(as32(hn::InterleaveUpper(d2, l01, l23)), d4, to + kGemmNr);
        hn::StoreU(as32(hn::InterleaveLower(d2, h01, h23)), d4, to + 2 * kGemmNr);
        hn::StoreU(as32(hn::InterleaveUpper(d2, h01, h23)), d4, to + 3 * kGemmNr);
      }
      for (; k < rows; ++k) {
        for (int64_t j = 0; j < 4; ++j) packed[k * kGemmNr + c + j] = from[j * c_stride + k];
      }
    }
  }
#endif
  for (; c < cols; ++c) {
    for (int64_t k = 0; k < rows; ++k) packed[k * kGemmNr + c] = b[k * k_stride + c * c_stride];
  }
  for (; c < kGemmNr; ++c) {
    for (int64_t k = 0; k < rows; ++k) packed[k * kGemmNr + c] = 0;
  }
}

// The rows of panel p of chunk i, by which A is both packed and multiplied. Pieces are even,
// because tiles of 5 and 6 rows are faster than 6, 6, ... and a last one of 1.
inline Piece RowPiece(int64_t m, int64_t row_chunks, int64_t i, int64_t p) {
  const Piece chunk = EvenPiece(m, row_chunks, i);
  const Piece piece = EvenPiece(chunk.size, CeilDiv(chunk.size, kGemmMr), p);
  return {chunk.begin + piece.begin, piece.size};
}
inline int64_t RowPieces(int64_t m, int64_t row_chunks, int64_t i) {
  return CeilDiv(EvenPiece(m, row_chunks, i).size, kGemmMr);
}

// B is packed in pieces, cut along the dimension that is not contiguous in memory: a piece is all
// rows of a panel, or kSlab rows of all panels.
constexpr int64_t kSlab = 16;
inline int64_t PackBPieces(const MatrixView& b, int64_t k, int64_t n) {
  return b.col_stride == 1 ? CeilDiv(k, kSlab) : CeilDiv(n, kGemmNr);
}
inline void PackBPiece(const MatrixView& b, int64_t k, int64_t n, int64_t i, float* packed) {
  const bool by_rows = b.col_stride == 1;
  const int64_t row = by_rows ? i * kSlab : 0, rows = by_rows ? std::min(kSlab, k - row) : k;
  const int64_t begin = by_rows ? 0 : i * kGemmNr;
  const int64_t end = by_rows ? n : std::min(n, begin + kGemmNr);
  for (int64_t col = begin; col < end; col += kGemmNr) {
    PackPanel(b.data + row * b.row_stride + col * b.col_stride, b.row_stride, b.col_stride, rows,
              std::min(end - col, kGemmNr), packed + col * k + row * kGemmNr);
  }
}

// Packs chunk i of A for one block of k, as pieces of [k][rows] at `packed` + first row * k.
inline void PackAChunk(const MatrixView& a, int64_t m, int64_t row_chunks, int64_t i, int64_t k,
                       float* packed) {
  for (int64_t p = 0; p < RowPieces(m, row_chunks, i); ++p) {
    const Piece rows = RowPiece(m, row_chunks, i, p);
    const float* from = a.data + rows.begin * a.row_stride;
    float* to = packed + rows.begin * k;
    if (a.row_stride == 1 && rows.size == kGemmMr) {
      for (int64_t x = 0; x < k; ++x) {  // a length that the compiler knows
        std::memcpy(to + x * kGemmMr, from + x * a.col_stride, kGemmMr * sizeof(float));
      }
    } else {
      for (int64_t x = 0; x < k; ++x) {
        for (int64_t r = 0; r < rows.size; ++r) {
          to[x * rows.size + r] = from[x * a.col_stride + r * a.row_stride];
        }
      }
    }
  }
}

}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // GRAFT_OPS_GEMM_PACK_INL_H_
