// The inner kernels of matrix products, for files compiled once per SIMD target: a tile of C kept
// in registers (gemm_tiles.cc). They run on one thread and allocate nothing.
//
// Every element of C is one chain of multiply-adds over k, in order, whatever the tile, its
// position and its neighbours are: rows and columns computed together or apart give the same bits.
#if defined(GRAFT_OPS_GEMM_MICRO_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRAFT_OPS_GEMM_MICRO_INL_H_
#undef GRAFT_OPS_GEMM_MICRO_INL_H_
#else
#define GRAFT_OPS_GEMM_MICRO_INL_H_
#endif

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"
#include "ops/gemm_core.h"
#include "runtime/threads.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using GemmTag = hn::ScalableTag<float>;
constexpr int64_t kGemmLanes = hn::MaxLanes(GemmTag());
// Where the core's other hardware thread is busy too, loads and instructions are what is scarce. Of
// the tiles that fit 32 registers, 6 x 4 vectors has the fewest loads: 10 for 24 multiply-adds
// (8 x 3: 11, 12 x 2: 14); of those that fit 16, 4 x 3: 7 for 12 (6 x 2: 8).
constexpr bool kManyRegisters = kGemmLanes == 16;
#if HWY_TARGET != HWY_AVX3
static_assert(!kManyRegisters, "HasCells takes panels of this width for those of AVX3");
#endif
constexpr int64_t kGemmVecs = kManyRegisters ? 4 : 3;  // vectors in a row of a tile
constexpr int64_t kGemmMr = kManyRegisters ? 6 : 4;    // most rows of a whole tile
constexpr int64_t kGemmNr = kGemmVecs * kGemmLanes;    // columns of a tile and of a panel of B
// Steps over k without a branch. Fewer leave more to count; of the larger tile's code, eight are
// too much for the core's cache of decoded instructions.
constexpr int64_t kUnroll = kManyRegisters ? 4 : 16;
constexpr int64_t kLineFloats = 16;                      // of a cache line
constexpr int64_t kFetchLines = kManyRegisters ? 1 : 2;  // of the next panel, in kUnroll steps

// The most rows of a tile of `vecs` vectors: narrow ones have registers left.
constexpr int64_t TileRows(int64_t vecs) {
  if (vecs == kGemmVecs) return kGemmMr;
  return kManyRegisters ? (vecs == 3 ? 8 : 12) : vecs == 2 ? 6 : 12;
}

// Returns acc + a b. Given a choice of forms, gcc 12 permutes the 16 registers of AVX2 from step to
// step, with moves and spills that cost a tenth of a tile's rate.
template <class V>
HWY_INLINE V TileMulAdd(V a, V b, V acc) {
#if HWY_TARGET == HWY_AVX2
  __asm__("vfmadd231ps %2, %1, %0" : "+x"(acc.raw) : "x"(a.raw), "x"(b.raw));
  return acc;
#else
  return hn::MulAdd(a, b, acc);
#endif
}

constexpr bool IsInt8(Dot dot) { return dot == Dot::kInt8 || dot == Dot::kInt8Any; }

// Returns acc plus the products of the cells of a and b; of bytes, acc holds the bits of i32. The
// compiler of a target knows no instructions beyond it, so those are written as such.
template <Dot kDot, class V>
HWY_INLINE V TileDot(V a, V b, V acc) {
  const GemmTag d;
  const hn::RebindToSigned<GemmTag> di;
  if constexpr (kDot == Dot::kF32) {
    return TileMulAdd(a, b, acc);
  } else if constexpr (kDot == Dot::kBf16Any) {
    const auto high = hn::Set(di, static_cast<int32_t>(0xFFFF0000u));
    const auto low = [&](V v)
                         HWY_ATTR { return hn::BitCast(d, hn::ShiftLeft<16>(hn::BitCast(di, v))); };
    const auto top = [&](V v)
                         HWY_ATTR { return hn::BitCast(d, hn::And(hn::BitCast(di, v), high)); };
    return hn::MulAdd(low(a), low(b), hn::MulAdd(top(a), top(b), acc));
  } else if constexpr (kDot == Dot::kInt8Any) {
    auto sum = hn::BitCast(di, acc);
#if HWY_ARCH_X86 && HWY_TARGET != HWY_EMU128 && HWY_TARGET != HWY_SCALAR
    // Pairs of 16 bits, even and odd bytes apart: none of the sums is cut off, as it would be with
    // AVX2's product of bytes.
    const hn::Repartition<int16_t, GemmTag> d16;
    const hn::Repartition<uint16_t, GemmTag> du16;
    const auto a16 = hn::BitCast(du16, a);
    const auto b16 = hn::BitCast(d16, b);
    const auto even = hn::BitCast(d16, hn::And(a16, hn::Set(du16, 255)));
    const auto odd = hn::BitCast(d16, hn::ShiftRight<8>(a16));
    auto none = hn::Zero(di);
    sum = hn::ReorderWidenMulAccumulate(di, even, hn::ShiftRight<8>(hn::ShiftLeft<8>(b16)), sum,
                                        none);
    sum = hn::ReorderWidenMulAccumulate(di, odd, hn::ShiftRight<8>(b16), sum, none);
#else
    const auto ia = hn::BitCast(di, a), ib = hn::BitCast(di, b), byte = hn::Set(di, 255);
    sum = hn::Add(sum, hn::Mul(hn::And(ia, byte), hn::ShiftRight<24>(hn::ShiftLeft<24>(ib))));
    sum = hn::Add(sum, hn::Mul(hn::And(hn::ShiftRight<8>(ia), byte),
                               hn::ShiftRight<24>(hn::ShiftLeft<16>(ib))));
    sum = hn::Add(sum, hn::Mul(hn::And(hn::ShiftRight<16>(ia), byte),
                               hn::ShiftRight<24>(hn::ShiftLeft<8>(ib))));
    sum = hn::Add(sum, hn::Mul(hn::And(hn::ShiftRight<24>(ia), byte), hn::ShiftRight<24>(ib)));
#endif
    return hn::BitCast(d, sum);
  }
#if HWY_TARGET == HWY_AVX3
  if constexpr (kDot == Dot::kBf16)
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(acc.raw) : "v"(a.raw), "v"(b.raw));
  if constexpr (kDot == Dot::kInt8)
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc.raw) : "v"(a.raw), "v"(b.raw));
#endif
  return acc;
}

// out[r][c] = alpha * sum_k a[r][k] b[k][c] (+ add[r][c]) (+ bias[c]), all columns of the tile.
// `add` may be `out`. Null pointers leave their term out.
struct TileArgs {
  int64_t k;
  const float* a;
  int64_t a_row, a_k;  // strides of A
  const float* b;
  int64_t b_k;  // stride of B from row to row; its columns are adjacent
  float alpha;
  const float* add;
  int64_t add_row;
  const float* bias;
  float* out;
  int64_t out_row;
  uint16_t* out16 = nullptr;  // if not null, bf16 goes there instead, by the CPU's instruction
  int64_t out16_row = 0;
  // Of bytes, as GemmEpilogue.
  const float *row_range = nullptr, *col_scale = nullptr, *col_sum = nullptr;
  // If not null, and A is by rows or by columns: in kUnroll steps over k, kFetchLines lines into L2
  // from fetch + i * fetch_step, i = 0, 1, ..., and one of C into L1 from out + out_lines[i].
  // Evenly over the tile, as a core waits for few lines at a time.
  const int64_t* out_lines = nullptr;  // k / kUnroll of them
  const float* fetch = nullptr;
  int64_t fetch_step = 0;
};

using TileFunction = void (*)(const TileArgs&);
using TilesOfRows = std::array<TileFunction, static_cast<size_t>(TileRows(1))>;  // rows - 1
using TilesOfDot = std::array<TilesOfRows, static_cast<size_t>(kGemmVecs)>;      // vectors - 1
// By kind of cells; null beyond TileRows(vectors). In gemm_tiles.cc, as all forms of the tile take
// a minute to compile.
extern const std::array<TilesOfDot, kDots> kTiles;

// The kernel for `cols` in [1, kGemmNr] and `rows` in [1, TileRows]; it computes whole vectors.
constexpr int64_t TileVecs(int64_t cols) { return CeilDiv(cols, kGemmLanes); }
template <Dot kDot = Dot::kF32>
HWY_INLINE TileFunction TileFor(int64_t rows, int64_t cols) {
  return kTiles[static_cast<size_t>(kDot)][TileVecs(cols) - 1][rows - 1];
}

template <Dot kDot>
HWY_NOINLINE void TileOfPartVectors(int64_t rows, int64_t cols, const TileArgs& t) {
  HWY_ALIGN float tile[kGemmMr * kGemmNr];
  HWY_ALIGN float bias[kGemmNr];
  const size_t bytes = static_cast<size_t>(cols) * sizeof(float);
  TileArgs inner = t;
  inner.out = tile;
  inner.out_row = kGemmNr;
  if (t.add != nullptr) {
    std::memset(tile, 0, sizeof(tile));
    for (int64_t r = 0; r < rows; ++r)
      std::memcpy(tile + r * kGemmNr, t.add + r * t.add_row, bytes);
    inner.add = tile;
    inner.add_row = kGemmNr;
  }
  if (t.bias != nullptr) {
    std::memset(bias, 0, sizeof(bias));
    std::memcpy(bias, t.bias, bytes);
    inner.bias = bias;
  }
  TileFor<kDot>(rows, cols)(inner);
  for (int64_t r = 0; r < rows; ++r) std::memcpy(t.out + r * t.out_row, tile + r * kGemmNr, bytes);
}

// The same as Tile for rows <= kGemmMr and any cols <= kGemmNr: no column beyond them is read or
// written (but B is a whole panel).
template <Dot kDot>
HWY_INLINE void TileOf(int64_t rows, int64_t cols, const TileArgs& t) {
  if (cols % kGemmLanes == 0) {
    TileFor<kDot>(rows, cols)(t);
  } else {
    TileOfPartVectors<kDot>(rows, cols, t);
  }
}

}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // GRAFT_OPS_GEMM_MICRO_INL_H_
