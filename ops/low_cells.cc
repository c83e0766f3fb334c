#include "ops/low_cells.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "ops/hadamard.h"
#include "ops/targets.h"
#include "runtime/aligned_memory.h"
#include "runtime/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/low_cells.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "ops/bf16-inl.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;
using DF = hn::ScalableTag<float>;

void RowToBf16(bool native, const Tensor& x, int64_t at, int64_t k, uint16_t* out) {
  WithNumbers(x, at, [&](const auto* row) HWY_ATTR { RoundNumbers(native, row, k, out); });
}

// out[i] = row[i] in the lower half and that of the next row in the upper one; zeros if there is
// none.
void PairOfRows(bool native, const Tensor& x, int64_t at, bool next, int64_t n, uint32_t* out) {
  const DF d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  WithNumbers(x, at, [&](const auto* row) HWY_ATTR {
    const auto pairs = [&](auto by) HWY_ATTR {
      int64_t i = 0;
      for (; i + lanes <= n; i += lanes) {
        const auto high = next ? LoadNumbers(d, row + n + i) : hn::Zero(d);
        StoreBf16Pairs<decltype(by)::value>(d, LoadNumbers(d, row + i), high, out + i);
      }
      for (; i < n; ++i)
        out[i] = NearestBf16(row + i) | (next ? uint32_t{NearestBf16(row + n + i)} << 16 : 0);
    };
    native ? pairs(std::true_type()) : pairs(std::false_type());
  });
}

}  // namespace
}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft {
namespace {

HWY_EXPORT(RowToBf16);
HWY_EXPORT(PairOfRows);

int64_t NumbersOf(CellType cell) {
  return cell == CellType::kBf16 ? 2 : cell == CellType::kInt8 ? 4 : 1;
}

size_t Aligned(int64_t floats) {
  return RoundUpAligned(static_cast<size_t>(floats) * sizeof(float));
}

int64_t PanelsWidth(int64_t n) { return static_cast<int64_t>(PackedBytes(1, n) / sizeof(float)); }

bool CpuHas(CellType cell) {
#if HWY_ARCH_X86_64
  if (cell == CellType::kBf16) return __builtin_cpu_supports("avx512bf16") != 0;
  if (cell == CellType::kInt8) return __builtin_cpu_supports("avx512vnni") != 0;
#endif
  return cell == CellType::kF32;
}

constexpr int64_t kTileRows = 256;  // of B converted at once, a multiple of all cells
constexpr int64_t kTileCols = 16;

// Columns [begin, begin + cols) of B, cells along k, of a panel of `width` columns.
void PackBf16(const MatrixView& b, int64_t k, int64_t begin, int64_t cols, int64_t width,
              std::byte* panel) {
  for (int64_t row = 0; row < k; row += kTileRows)
    for (int64_t col = 0; col < cols; col += kTileCols)
      for (int64_t i = row; i < std::min(k, row + kTileRows); ++i)
        for (int64_t c = col; c < std::min(cols, col + kTileCols); ++c) {
          const float x = b.data[i * b.row_stride + (begin + c) * b.col_stride];
          const uint16_t bits = ToBf16(x);
          std::memcpy(panel + (i / 2 * width + c) * 4 + i % 2 * 2, &bits, sizeof(bits));
        }
}

// The same of bytes, and each column's scale and sum.
void PackBytes(const MatrixView& b, int64_t k, int64_t begin, int64_t cols, int64_t width,
               const float* factors, std::byte* panel, float* scales, float* sums) {
  constexpr int64_t kAtOnce = 4;  // of a cache line where B lies by rows
  float columns[kAtOnce][kMostBytes];
  const float to_gain = 1 / HadamardGain(k);
  for (int64_t col = 0; col < cols; col += kAtOnce) {
    const int64_t n = std::min(kAtOnce, cols - col);
    for (int64_t i = 0; i < k; ++i)
      for (int64_t c = 0; c < n; ++c) {
        const float x = b.data[i * b.row_stride + (begin + col + c) * b.col_stride];
        columns[c][i] = x * to_gain;
      }
    for (int64_t c = 0; c < n; ++c) {
      float* column = columns[c];
      Hadamard(column, k);
      for (int64_t i = 0; i < k && factors; ++i) column[i] *= factors[i];
      const float scale = ByteScale(column, k);
      int32_t sum = 0;
      for (int64_t i = 0; i < k; ++i) {
        const int32_t q = ToByte(column[i], scale);
        sum += q;
        panel[(i / 4 * width + col + c) * 4 + i % 4] =
            static_cast<std::byte>(static_cast<uint8_t>(static_cast<int8_t>(q)));
      }
      scales[col + c] = scale, sums[col + c] = static_cast<float>(sum);
    }
  }
}

}  // namespace

bool HasCells(CellType cell) {
  return cell == CellType::kF32 || (PanelsWidth(1) == kAvx512Panel && CpuHas(cell));
}

Dot DotOf(CellType cell) {
  const bool has = HasCells(cell);
  switch (cell) {
    case CellType::kF32:
      return Dot::kF32;
    case CellType::kBf16:
      return has ? Dot::kBf16 : Dot::kBf16Any;
    case CellType::kInt8:
      return has ? Dot::kInt8 : Dot::kInt8Any;
  }
  return Dot::kF32;
}

int64_t CellsOf(CellType cell, int64_t k) { return CeilDiv(k, NumbersOf(cell)); }

const char* CellName(CellType cell) {
  return cell == CellType::kBf16 ? "bf16" : cell == CellType::kInt8 ? "int8" : "f32";
}

uint16_t ToBf16(float x) {
  if (x != x) return 0x7FC0;
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

float FromBf16(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

float ByteScale(const float* x, int64_t count) {
  float most = 0, odd = 0;
  for (int64_t i = 0; i < count; ++i) most = std::max(most, std::abs(x[i])), odd += x[i] - x[i];
  return most / 127 + odd;
}

int32_t ToByte(float x, float scale) {
  if (!(scale > 0)) return 0;
  return std::clamp(static_cast<int32_t>(std::nearbyint(x / scale)), -127, 127);
}

size_t LowRowsBytes(CellType cell, int64_t m, int64_t k) {
  return Aligned(m * CellsOf(cell, k)) + (cell == CellType::kInt8 ? Aligned(2 * m) : 0);
}

float* RangeBehind(std::byte* cells, int64_t m, int64_t k) {
  return reinterpret_cast<float*>(cells + Aligned(m * CellsOf(CellType::kInt8, k)));
}

void MakeLowRows(CellType cell, const Tensor& a, int64_t m, int64_t k,
                 std::byte* scratch) noexcept {
  if (cell == CellType::kInt8) return MakeByteRows(a, m, k, scratch, RangeBehind(scratch, m, k));
  const int64_t row = CellsOf(cell, k) * 4;
  const bool native = HasCells(CellType::kBf16);
  ParallelFor(m, [&](int64_t i) {
    if (k % NumbersOf(cell) != 0) std::memset(scratch + (i + 1) * row - 4, 0, 4);
    HWY_DYNAMIC_DISPATCH(RowToBf16)
    (native, a, i * k, k, reinterpret_cast<uint16_t*>(scratch + i * row));
  });
}

void PairRows(const Tensor& a, int64_t k, int64_t m, float* cells) noexcept {
  const bool native = HasCells(CellType::kBf16);
  ParallelFor(CellsOf(CellType::kBf16, k), [&](int64_t i) {
    HWY_DYNAMIC_DISPATCH(PairOfRows)
    (native, a, 2 * i * m, 2 * i + 1 < k, m, reinterpret_cast<uint32_t*>(cells + i * m));
  });
}

size_t LowPackedBytes(CellType cell, int64_t k, int64_t n) {
  const size_t panels = PackedBytes(CellsOf(cell, k), n);
  return panels + (cell == CellType::kInt8 ? 2 * PackedBytes(1, n) : 0);
}

void PackLow(CellType cell, const MatrixView& b, int64_t k, int64_t n, float* packed,
             const float* factors) noexcept {
  const int64_t cells = CellsOf(cell, k), whole = PanelsWidth(n), width = PanelsWidth(1);
  float *scales = packed + whole * cells, *sums = scales + whole;
  if (cell == CellType::kInt8) std::memset(scales, 0, 2 * PackedBytes(1, n));
  ParallelFor(whole / width, [&](int64_t i) {
    const int64_t begin = i * width, cols = std::min(width, n - begin);
    std::byte* panel = reinterpret_cast<std::byte*>(packed + begin * cells);
    std::memset(panel, 0, static_cast<size_t>(cells * width) * sizeof(float));
    if (cell == CellType::kInt8)
      PackBytes(b, k, begin, cols, width, factors, panel, scales + begin, sums + begin);
    else
      PackBf16(b, k, begin, cols, width, panel);
  });
}

MatrixView LowRows(CellType cell, int64_t m, int64_t k, const std::byte* scratch,
                   GemmEpilogue* epilogue) {
  const int64_t cells = CellsOf(cell, k);
  if (cell == CellType::kInt8)
    epilogue->row_range = reinterpret_cast<const float*>(scratch + Aligned(m * cells));
  return {reinterpret_cast<const float*>(scratch), cells, 1};
}

GemmB LowPanels(CellType cell, int64_t k, int64_t n, const float* packed, GemmEpilogue* epilogue) {
  if (cell == CellType::kInt8) {
    const int64_t whole = PanelsWidth(n);
    epilogue->col_scale = packed + whole * CellsOf(cell, k);
    epilogue->col_sum = epilogue->col_scale + whole;
  }
  return {.packed = packed};
}

}  // namespace graft
#endif  // HWY_ONCE
