#include "ops/low_cells.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "ops/targets.h"
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

// The nearest whole numbers of what is far within 32 bits, or not a number.
template <class D, class V>
HWY_INLINE auto SmallInt(D, V v) {
#if HWY_TARGET == HWY_AVX3
  return hn::Vec<hn::RebindToSigned<D>>{
      _mm512_cvtps_epi32(v.raw)};  // NearestInt also mends overflow
#else
  return hn::NearestInt(v);
#endif
}

// Stores numbers of 0 to 256 as bytes, the last as 255.
template <class D, class V>
HWY_INLINE void StoreBytes(D, V v, uint8_t* out) {
#if HWY_TARGET == HWY_AVX3
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtusepi32_epi8(v.raw));
#else
  const hn::Rebind<uint8_t, D> d8;
  hn::StoreU(hn::DemoteTo(d8, v), d8, out);
#endif
}

// What the numbers of a row become. Two chains of each kind, as every operation waits for the last.
template <class T>
HWY_INLINE ByteRow RangeOf(const T* x, int64_t k) {
  const DF d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto least = hn::Zero(d), most = least, odd = least, least2 = least, most2 = least, odd2 = least;
  int64_t i = 0;
  for (; i + 2 * lanes <= k; i += 2 * lanes) {
    const auto v = LoadNumbers(d, x + i), w = LoadNumbers(d, x + i + lanes);
    least = hn::Min(least, v), most = hn::Max(most, v);
    least2 = hn::Min(least2, w), most2 = hn::Max(most2, w);
    // 0 for finite numbers only.
    odd = hn::Add(odd, hn::Sub(v, v)), odd2 = hn::Add(odd2, hn::Sub(w, w));
  }
  for (; i + lanes <= k; i += lanes) {
    const auto v = LoadNumbers(d, x + i);
    least = hn::Min(least, v), most = hn::Max(most, v), odd = hn::Add(odd, hn::Sub(v, v));
  }
  float min = hn::GetLane(hn::MinOfLanes(d, hn::Min(least, least2)));
  float max = hn::GetLane(hn::MaxOfLanes(d, hn::Max(most, most2)));
  float rest = hn::GetLane(hn::SumOfLanes(d, hn::Add(odd, odd2)));
  for (; i < k; ++i) {
    const float v = Number(x + i);
    min = std::min(min, v), max = std::max(max, v), rest += v - v;
  }
  return ByteRowOf(min, max, rest);
}

template <class T>
HWY_INLINE void BytesOf(const T* x, int64_t k, const ByteRow& row, uint8_t* out) {
  const DF d;
  const hn::RebindToSigned<DF> di;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto times = hn::Set(d, row.inverse);
  const auto shift = hn::Set(di, row.zero);
  int64_t i = 0;
  for (; i + lanes <= k; i += lanes) {
    const auto q = SmallInt(d, hn::Mul(LoadNumbers(d, x + i), times));
    StoreBytes(di, hn::Add(q, shift), out + i);
  }
  for (; i < k; ++i)
    out[i] = static_cast<uint8_t>(std::clamp(
        static_cast<int32_t>(std::nearbyint(Number(x + i) * row.inverse)) + row.zero, 0, 255));
}

// Rows [rows, k] from number `at` on -> rows of `stride` bytes. The ranges of a few rows are found
// before they are used, as the end of each takes long.
void RowsToBytes(const Tensor& x, int64_t at, int64_t rows, int64_t k, int64_t stride, uint8_t* out,
                 float* scales, int32_t* zeros) {
  constexpr int64_t kAhead = 4;
  ByteRow found[kAhead];
  WithNumbers(x, at, [&](const auto* from) HWY_ATTR {
    for (int64_t first = 0; first < rows; first += kAhead) {
      const int64_t n = std::min(kAhead, rows - first);
      for (int64_t r = 0; r < n; ++r) found[r] = RangeOf(from + (first + r) * k, k);
      for (int64_t r = 0; r < n; ++r) {
        const int64_t i = first + r;
        BytesOf(from + i * k, k, found[r], out + i * stride);
        scales[i] = found[r].scale, zeros[i] = found[r].zero;
      }
    }
  });
}

// A number that is not finite makes the row's scale NaN, which is 1 otherwise.
template <class T>
void StaticBytesOf(const T* x, const float* factors, int64_t k, int32_t zero, uint8_t* out,
                   float* scale) {
  const DF d;
  const hn::RebindToSigned<DF> di;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const float least = static_cast<float>(-zero), most = static_cast<float>(255 - zero);
  const auto low = hn::Set(d, least), high = hn::Set(d, most);
  const auto shift = hn::Set(di, zero);
  auto odd = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= k; i += lanes) {
    const auto scaled = hn::Mul(LoadNumbers(d, x + i), hn::LoadU(d, factors + i));
    odd = hn::Add(odd, hn::Sub(scaled, scaled));
    StoreBytes(di, hn::Add(SmallInt(d, hn::Min(hn::Max(scaled, low), high)), shift), out + i);
  }
  float rest = hn::GetLane(hn::SumOfLanes(d, odd));
  for (; i < k; ++i) {
    const float scaled = Number(x + i) * factors[i];
    rest += scaled - scaled;
    const float q = std::nearbyint(std::min(std::max(least, scaled), most));
    out[i] = static_cast<uint8_t>(static_cast<int32_t>(q) + zero);
  }
  *scale = 1 + rest;
}
void RowToStaticBytes(const Tensor& x, int64_t at, const float* factors, int64_t k, int32_t zero,
                      uint8_t* out, float* scale) {
  WithNumbers(x, at, [&](const auto* row) { StaticBytesOf(row, factors, k, zero, out, scale); });
}

}  // namespace
}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft {
namespace {

HWY_EXPORT(RowToBf16);
HWY_EXPORT(PairOfRows);
HWY_EXPORT(RowsToBytes);
HWY_EXPORT(RowToStaticBytes);

int64_t NumbersOf(CellType cell) {
  return cell == CellType::kBf16 ? 2 : cell == CellType::kInt8 ? 4 : 1;
}

size_t Aligned(int64_t floats) { return static_cast<size_t>((floats + 15) / 16 * 64); }

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

// One panel of B: `cols` columns from `begin`.
void PackPanel(CellType cell, const MatrixView& b, int64_t k, int64_t begin, int64_t cols,
               int64_t width, const float* factors, std::byte* panel, float* scales,
               int32_t* sums) {
  const int64_t numbers = NumbersOf(cell), bytes = 4 / numbers;
  std::memset(panel, 0, static_cast<size_t>(CellsOf(cell, k) * width) * sizeof(float));
  for (int64_t c = 0; c < cols; ++c) {
    const float* column = b.data + (begin + c) * b.col_stride;
    if (cell != CellType::kInt8) continue;
    scales[c] = ByteScale(column, k, b.row_stride, factors);
  }
  for (int64_t row = 0; row < k; row += kTileRows)
    for (int64_t col = 0; col < cols; col += kTileCols)
      for (int64_t i = row; i < std::min(k, row + kTileRows); ++i)
        for (int64_t c = col; c < std::min(cols, col + kTileCols); ++c) {
          const float x = b.data[i * b.row_stride + (begin + c) * b.col_stride];
          std::byte* to = panel + ((i / numbers) * width + c) * 4 + i % numbers * bytes;
          if (cell == CellType::kBf16) {
            const uint16_t bits = ToBf16(x);
            std::memcpy(to, &bits, sizeof(bits));
          } else {
            const int32_t q = ToByte(factors ? x * factors[i] : x, scales[c]);
            sums[c] += q;
            *to = static_cast<std::byte>(static_cast<uint8_t>(static_cast<int8_t>(q)));
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

float ByteScale(const float* x, int64_t count, int64_t stride, const float* factors) {
  float most = 0, odd = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float v = factors ? x[i * stride] * factors[i] : x[i * stride];
    most = std::max(most, std::abs(v)), odd += v - v;
  }
  return most / 127 + odd;
}

int32_t ToByte(float x, float scale) {
  if (!(scale > 0)) return 0;
  return std::clamp(static_cast<int32_t>(std::nearbyint(x / scale)), -127, 127);
}

size_t LowRowsBytes(CellType cell, int64_t m, int64_t k) {
  return Aligned(m * CellsOf(cell, k)) + (cell == CellType::kInt8 ? 2 * Aligned(m) : 0);
}

void MakeLowRows(CellType cell, const Tensor& a, int64_t m, int64_t k,
                 std::byte* scratch) noexcept {
  const int64_t row = CellsOf(cell, k) * 4;
  const bool native = HasCells(CellType::kBf16);
  float* scales = reinterpret_cast<float*>(scratch + Aligned(m * CellsOf(cell, k)));
  int32_t* zeros = reinterpret_cast<int32_t*>(scales) + Aligned(m) / sizeof(int32_t);
  constexpr int64_t kRows = 16;  // of a piece of work
  ParallelFor(CeilDiv(m, kRows), [&](int64_t piece) {
    const int64_t begin = piece * kRows, end = std::min(m, begin + kRows);
    std::byte* to = scratch + begin * row;
    for (int64_t i = begin; i < end && k % NumbersOf(cell) != 0; ++i)
      std::memset(scratch + (i + 1) * row - 4, 0, 4);
    if (cell == CellType::kInt8) HWY_DYNAMIC_DISPATCH(RowsToBytes)
    (a, begin * k, end - begin, k, row, reinterpret_cast<uint8_t*>(to), scales + begin,
     zeros + begin);
    for (int64_t i = begin; i < end && cell == CellType::kBf16; ++i) HWY_DYNAMIC_DISPATCH(RowToBf16)
    (native, a, i * k, k, reinterpret_cast<uint16_t*>(scratch + i * row));
  });
}

void MakeStaticRows(const Tensor& a, int64_t m, int64_t k, const float* factors, int32_t zero,
                    std::byte* scratch) noexcept {
  const int64_t cells = CellsOf(CellType::kInt8, k);
  float* scales = reinterpret_cast<float*>(scratch + Aligned(m * cells));
  int32_t* zeros = reinterpret_cast<int32_t*>(scales) + Aligned(m) / sizeof(int32_t);
  ParallelFor(m, [&](int64_t i) {
    std::byte* to = scratch + i * cells * 4;
    if (k % 4 != 0) std::memset(to + cells * 4 - 4, 0, 4);
    HWY_DYNAMIC_DISPATCH(RowToStaticBytes)
    (a, i * k, factors, k, zero, reinterpret_cast<uint8_t*>(to), scales + i);
    zeros[i] = zero;
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
  float* scales = packed + whole * cells;
  int32_t* sums = reinterpret_cast<int32_t*>(scales + whole);
  if (cell == CellType::kInt8) std::memset(scales, 0, 2 * PackedBytes(1, n));
  ParallelFor(whole / width, [&](int64_t i) {
    const int64_t begin = i * width;
    PackPanel(cell, b, k, begin, std::min(width, n - begin), width, factors,
              reinterpret_cast<std::byte*>(packed + begin * cells), scales + begin, sums + begin);
  });
}

MatrixView LowRows(CellType cell, int64_t m, int64_t k, const std::byte* scratch,
                   GemmEpilogue* epilogue) {
  const int64_t cells = CellsOf(cell, k);
  if (cell == CellType::kInt8) {
    const std::byte* behind = scratch + Aligned(m * cells);
    epilogue->row_scale = reinterpret_cast<const float*>(behind);
    epilogue->row_zero = reinterpret_cast<const int32_t*>(behind + Aligned(m));
  }
  return {reinterpret_cast<const float*>(scratch), cells, 1};
}

GemmB LowPanels(CellType cell, int64_t k, int64_t n, const float* packed, GemmEpilogue* epilogue) {
  if (cell == CellType::kInt8) {
    const int64_t whole = PanelsWidth(n);
    epilogue->col_scale = packed + whole * CellsOf(cell, k);
    epilogue->col_sum = reinterpret_cast<const int32_t*>(epilogue->col_scale + whole);
  }
  return {.packed = packed};
}

}  // namespace graft
#endif  // HWY_ONCE
