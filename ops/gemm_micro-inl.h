// The inner kernels of matrix products, for files compiled once per SIMD target: a tile of C kept
// in registers. They run on one thread and allocate nothing.
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
#include <type_traits>
#include <utility>

#include "hwy/highway.h"
#include "ops/bf16-inl.h"
#include "ops/gemm_core.h"
#include "ops/unroll-inl.h"
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

// What the compiler may know of the strides of A and B, which spares additions in each step.
enum class StepA { kAny, kByRows, kByCols };  // kByRows: a_k == 1, kByCols: a_row == 1
enum class StepB { kAny, kPanel };            // kPanel: b_k == kGemmNr

#define GRAFT_EACH(i) [&](auto i) HWY_ATTR __attribute__((always_inline))
// Sums of bytes become numbers.
template <size_t kRows, size_t kVecs>
HWY_INLINE void ScaleTile(const TileArgs& t, hn::Vec<GemmTag> (&acc)[kRows * kVecs]) {
  const GemmTag d;
  const hn::RebindToSigned<GemmTag> di;
  constexpr size_t kStep = static_cast<size_t>(kGemmLanes);
  Unroll<kRows * kVecs>(GRAFT_EACH(i) {
    const size_t col = i % kVecs * kStep;
    const float* range = t.row_range + 2 * (i / kVecs);
    const auto scale = hn::Mul(hn::Set(d, range[0]), hn::LoadU(d, t.col_scale + col));
    const auto sum = hn::ConvertTo(d, hn::BitCast(di, acc[i]));
    acc[i] =
        hn::Mul(hn::NegMulAdd(hn::Set(d, range[1]), hn::LoadU(d, t.col_sum + col), sum), scale);
  });
}

// What follows the sum over k.
template <size_t kRows, size_t kVecs, Dot kDot>
HWY_INLINE void FinishTile(const TileArgs& t, hn::Vec<GemmTag> (&acc)[kRows * kVecs]) {
  const GemmTag d;
  constexpr size_t kStep = static_cast<size_t>(kGemmLanes);
  if constexpr (IsInt8(kDot)) ScaleTile<kRows, kVecs>(t, acc);
  const hn::Vec<GemmTag> alpha = hn::Set(d, t.alpha);
  if (const float* add = t.add; add != nullptr) {
    const int64_t add_row = t.add_row;
    Unroll<kRows * kVecs>(GRAFT_EACH(i) {
      const float* from = add + static_cast<int64_t>(i / kVecs) * add_row + i % kVecs * kStep;
      acc[i] = hn::MulAdd(acc[i], alpha, hn::LoadU(d, from));
    });
  } else if (t.alpha != 1.0f) {
    Unroll<kRows * kVecs>(GRAFT_EACH(i) { acc[i] = hn::Mul(acc[i], alpha); });
  }
  if (const float* bias = t.bias; bias != nullptr) {
    Unroll<kRows * kVecs>(
        GRAFT_EACH(i) { acc[i] = hn::Add(acc[i], hn::LoadU(d, bias + i % kVecs * kStep)); });
  }
  if (uint16_t* out16 = t.out16; kGemmLanes == 16 && out16 != nullptr) {
    const int64_t row = t.out16_row;
    Unroll<kRows * kVecs>(GRAFT_EACH(i) {
      StoreBf16<true>(d, acc[i], out16 + static_cast<int64_t>(i / kVecs) * row + i % kVecs * kStep);
    });
    return;
  }
  float* out = t.out;  // a copy, which no store can change
  const int64_t out_row = t.out_row;
  Unroll<kRows * kVecs>(GRAFT_EACH(i) {
    hn::StoreU(acc[i], d, out + static_cast<int64_t>(i / kVecs) * out_row + i % kVecs * kStep);
  });
}

template <size_t kRows, size_t kVecs, StepA kA, StepB kB, Dot kDot>
HWY_NOINLINE void TileBy(const TileArgs& t) {
  const GemmTag d;
  using V = hn::Vec<GemmTag>;
  constexpr size_t kStep = static_cast<size_t>(kGemmLanes);
  constexpr size_t kGroups = (kRows + 2) / 3;
  constexpr int64_t kFloat = sizeof(float);
  V acc[kRows * kVecs];
  Unroll<kRows * kVecs>(GRAFT_EACH(i) { acc[i] = hn::Zero(d); });
  // One pointer for three rows: x86 addresses p, p + s and p + 2 s without further registers.
  // Strides are in bytes.
  const char* a[kGroups];
  int64_t row = t.a_row * kFloat;
  const int64_t a_k = t.a_k * kFloat, b_k = t.b_k * kFloat;
  Unroll<kGroups>(GRAFT_EACH(g) {
    a[g] = reinterpret_cast<const char*>(t.a) + static_cast<int64_t>(3 * g) * row;
  });
  const char* b = reinterpret_cast<const char*>(t.b);
  // acc += a[.][k] b[k][.]; at(i): where A's element of row i lies.
  const auto step = [&](const auto& at, int64_t offset_b) HWY_ATTR __attribute__((always_inline)) {
    V bv[kVecs];
    Unroll<kVecs>(GRAFT_EACH(j) {
      bv[j] = hn::LoadU(d, reinterpret_cast<const float*>(b + offset_b) + j * kStep);
    });
    Unroll<kRows>(GRAFT_EACH(i) {
      const V av = hn::Set(d, *reinterpret_cast<const float*>(at(i)));
      Unroll<kVecs>(
          GRAFT_EACH(j) { acc[i * kVecs + j] = TileDot<kDot>(av, bv[j], acc[i * kVecs + j]); });
    });
  };
  const auto step_by_rows = [&](int64_t offset_a, int64_t offset_b) HWY_ATTR
      __attribute__((always_inline)) {
    // Otherwise the compiler computes each row's address in each step ahead and runs out of
    // registers.
    __asm__ volatile("" : "+r"(row));
    step(
        GRAFT_EACH(i) { return a[i / 3] + static_cast<int64_t>(i % 3) * row + offset_a; },
        offset_b);
  };
  int64_t k = t.k;
  if constexpr (kA != StepA::kAny) {
    const int64_t* line = t.out_lines;
    const float* fetch = t.fetch;
    const int64_t fetch_step = t.fetch_step;
    for (; k >= kUnroll; k -= kUnroll) {
      if (line != nullptr) {
        Unroll<kFetchLines>(GRAFT_EACH(i) {
          __builtin_prefetch(fetch + static_cast<int64_t>(i) * kLineFloats, 0, 2);
        });
        fetch += fetch_step;
        __builtin_prefetch(t.out + *line++, 1, 3);
      }
      Unroll<kUnroll>(GRAFT_EACH(u) {
        const int64_t offset_b = kB == StepB::kPanel ? int64_t{u} * kGemmNr * kFloat : 0;
        if constexpr (kA == StepA::kByRows) {
          step_by_rows(int64_t{u} * kFloat, offset_b);
        } else {
          step(
              GRAFT_EACH(i) { return a[0] + int64_t{i} * kFloat; }, offset_b);
          a[0] += a_k;
        }
        if constexpr (kB == StepB::kAny) b += b_k;
      });
      if constexpr (kA == StepA::kByRows) {
        Unroll<kGroups>(GRAFT_EACH(g) { a[g] += kUnroll * kFloat; });
      }
      if constexpr (kB == StepB::kPanel) b += kUnroll * kGemmNr * kFloat;
    }
    if constexpr (kA == StepA::kByCols) {
      Unroll<kGroups>(GRAFT_EACH(g) { a[g] = a[0] + int64_t{3 * g} * row; });
    }
  }
  for (; k > 0; --k) {
    step_by_rows(0, 0);
    Unroll<kGroups>(GRAFT_EACH(g) { a[g] += a_k; });
    b += b_k;
  }
  FinishTile<kRows, kVecs, kDot>(t, acc);
}
#undef GRAFT_EACH

// Cells that this target multiplies by several instructions, or not at all: only tests come here,
// and all forms of the tile would take minutes to compile.
constexpr bool IsSlow(Dot dot) {
  return dot != Dot::kF32 &&
         (HWY_TARGET != HWY_AVX3 || dot == Dot::kBf16Any || dot == Dot::kInt8Any);
}
template <size_t kVecs, Dot kDot>
HWY_NOINLINE void TileRowByRow(int64_t rows, TileArgs t) {
  t.out_lines = nullptr;  // nothing is fetched ahead
  for (int64_t r = 0; r < rows; ++r) {
    TileBy<1, kVecs, StepA::kAny, StepB::kAny, kDot>(t);
    t.a += t.a_row, t.out += t.out_row;
    if (t.add != nullptr) t.add += t.add_row;
    if (t.row_range != nullptr) t.row_range += 2;
    if (t.out16 != nullptr) t.out16 += t.out16_row;
  }
}

template <size_t kRows, size_t kVecs, Dot kDot>
void Tile(const TileArgs& t) {
  if constexpr (IsSlow(kDot)) return TileRowByRow<kVecs, kDot>(kRows, t);
  if constexpr (kVecs == kGemmVecs && !IsSlow(kDot)) {
    const bool panel = t.b_k == kGemmNr;
    if (t.a_k == 1 && panel) return TileBy<kRows, kVecs, StepA::kByRows, StepB::kPanel, kDot>(t);
    if constexpr (!IsInt8(kDot)) {  // bytes lie in no other way
      if (t.a_k == 1) return TileBy<kRows, kVecs, StepA::kByRows, StepB::kAny, kDot>(t);
      if (t.a_row == 1) {
        return panel ? TileBy<kRows, kVecs, StepA::kByCols, StepB::kPanel, kDot>(t)
                     : TileBy<kRows, kVecs, StepA::kByCols, StepB::kAny, kDot>(t);
      }
    }
  }
  if constexpr (!IsSlow(kDot)) TileBy<kRows, kVecs, StepA::kAny, StepB::kAny, kDot>(t);
}

using TileFunction = void (*)(const TileArgs&);
template <Dot kDot, size_t kVecs, size_t... I>
constexpr auto TileTable(std::index_sequence<I...>) {
  return std::array<TileFunction, static_cast<size_t>(TileRows(1))>{&Tile<I + 1, kVecs, kDot>...};
}
template <Dot kDot, size_t... J>
constexpr auto TileTables(std::index_sequence<J...>) {
  return std::array{
      TileTable<kDot, J + 1>(std::make_index_sequence<static_cast<size_t>(TileRows(J + 1))>())...};
}
template <Dot kDot>
constexpr auto kTiles =
    TileTables<kDot>(std::make_index_sequence<static_cast<size_t>(kGemmVecs)>());

// The kernel for `cols` in [1, kGemmNr] and `rows` in [1, TileRows]; it computes whole vectors.
constexpr int64_t TileVecs(int64_t cols) { return CeilDiv(cols, kGemmLanes); }
template <Dot kDot = Dot::kF32>
HWY_INLINE TileFunction TileFor(int64_t rows, int64_t cols) {
  return kTiles<kDot>[TileVecs(cols) - 1][rows - 1];
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
