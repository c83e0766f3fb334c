// The inner kernels of matrix products, for files compiled once per SIMD target: a tile of C kept
// in registers. Single-threaded, no allocation.
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
#include "runtime/threads.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using GemmTag = hn::ScalableTag<float>;
constexpr int64_t kGemmLanes = hn::MaxLanes(GemmTag());
// Where the core's other hardware thread is busy too, loads are what is scarce. Of the tiles that
// fit 32 registers, 6 x 4 vectors has the fewest: 10 for 24 multiply-adds (8 x 3: 11, 12 x 2: 14).
constexpr int64_t kGemmVecs = kGemmLanes == 16 ? 4 : 2;  // vectors in a row of a tile
constexpr int64_t kGemmMr = 6;                           // most rows of a whole tile
constexpr int64_t kGemmNr = kGemmVecs * kGemmLanes;      // columns of a tile and of a panel of B

// Most rows of a tile of `vecs` vectors: narrow ones have registers left.
constexpr int64_t TileRows(int64_t vecs) {
  return kGemmLanes < 16 || vecs == 4 ? kGemmMr : vecs == 3 ? 8 : 12;
}

// Calls f(0) ... f(N-1) with compile-time indices: gcc keeps an array of vectors in registers only
// if no loop over it is left.
template <size_t N, class F>
HWY_INLINE void Unroll(const F& f) {
  [&]<size_t... I>(std::index_sequence<I...>) HWY_ATTR __attribute__((always_inline)) {
    (f(std::integral_constant<size_t, I>()), ...);
  }
  (std::make_index_sequence<N>());
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
  // If not null, and A's and B's rows are adjacent: in four steps over k, one line into L2 from
  // fetch + i * fetch_step, i = 0, 1, ..., and one of C into L1 from out + out_lines[i]. Evenly
  // over the tile, as a core waits for few lines at a time.
  const int64_t* out_lines = nullptr;  // k / 4 of them
  const float* fetch = nullptr;
  int64_t fetch_step = 0;
};

template <size_t kRows, size_t kVecs>
HWY_NOINLINE void Tile(const TileArgs& t) {
#define GRAFT_EACH(i) [&](auto i) HWY_ATTR __attribute__((always_inline))
#define GRAFT_EACH_OF(x, y) [&](int64_t x, int64_t y) HWY_ATTR __attribute__((always_inline))
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
  const auto step = GRAFT_EACH_OF(offset_a, offset_b) {
    // Else the compiler computes each row's address in each step ahead and runs out of registers.
    __asm__ volatile("" : "+r"(row));
    V bv[kVecs];
    Unroll<kVecs>(GRAFT_EACH(j) {
      bv[j] = hn::LoadU(d, reinterpret_cast<const float*>(b + offset_b) + j * kStep);
    });
    Unroll<kRows>(GRAFT_EACH(i) {
      const char* from = a[i / 3] + static_cast<int64_t>(i % 3) * row + offset_a;
      const V av = hn::Set(d, *reinterpret_cast<const float*>(from));
      Unroll<kVecs>(
          GRAFT_EACH(j) { acc[i * kVecs + j] = hn::MulAdd(av, bv[j], acc[i * kVecs + j]); });
    });
  };
  int64_t k = t.k;
  // Four steps: fewer leave more to count, and the code of eight is too much for the core's cache
  // of decoded instructions.
  if (kVecs == kGemmVecs && a_k == kFloat && b_k == kGemmNr * kFloat) {
    const int64_t* line = t.out_lines;
    const float* fetch = t.fetch;
    const int64_t fetch_step = t.fetch_step;
    for (; k >= 4; k -= 4) {
      if (line != nullptr) {
        __builtin_prefetch(fetch, 0, 2);
        fetch += fetch_step;
        __builtin_prefetch(t.out + *line++, 1, 3);
      }
      Unroll<4>(GRAFT_EACH(u) { step(int64_t{u} * kFloat, int64_t{u} * kGemmNr * kFloat); });
      Unroll<kGroups>(GRAFT_EACH(g) { a[g] += 4 * kFloat; });
      b += 4 * kGemmNr * kFloat;
    }
  }
  for (; k > 0; --k) {
    step(0, 0);
    Unroll<kGroups>(GRAFT_EACH(g) { a[g] += a_k; });
    b += b_k;
  }
  const V alpha = hn::Set(d, t.alpha);
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
  float* out = t.out;  // a copy, which no store can change
  const int64_t out_row = t.out_row;
  Unroll<kRows * kVecs>(GRAFT_EACH(i) {
    hn::StoreU(acc[i], d, out + static_cast<int64_t>(i / kVecs) * out_row + i % kVecs * kStep);
  });
#undef GRAFT_EACH
}

using TileFunction = void (*)(const TileArgs&);
template <size_t kVecs, size_t... I>
constexpr auto TileTable(std::index_sequence<I...>) {
  return std::array<TileFunction, static_cast<size_t>(TileRows(1))>{&Tile<I + 1, kVecs>...};
}
template <size_t... J>
constexpr auto TileTables(std::index_sequence<J...>) {
  return std::array{
      TileTable<J + 1>(std::make_index_sequence<static_cast<size_t>(TileRows(J + 1))>())...};
}
constexpr auto kTiles = TileTables(std::make_index_sequence<static_cast<size_t>(kGemmVecs)>());

// The kernel for `cols` in [1, kGemmNr] and `rows` in [1, TileRows]; it computes whole vectors.
constexpr int64_t TileVecs(int64_t cols) { return CeilDiv(cols, kGemmLanes); }
HWY_INLINE TileFunction TileFor(int64_t rows, int64_t cols) {
  return kTiles[static_cast<size_t>(TileVecs(cols) - 1)][static_cast<size_t>(rows - 1)];
}

inline HWY_NOINLINE void TileOfPartVectors(int64_t rows, int64_t cols, const TileArgs& t) {
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
  TileFor(rows, cols)(inner);
  for (int64_t r = 0; r < rows; ++r) std::memcpy(t.out + r * t.out_row, tile + r * kGemmNr, bytes);
}

// As Tile, for rows <= kGemmMr and any cols <= kGemmNr: reads and writes no column beyond them (B
// is a whole panel).
HWY_INLINE void TileOf(int64_t rows, int64_t cols, const TileArgs& t) {
  if (cols % kGemmLanes == 0) {
    TileFor(rows, cols)(t);
  } else {
    TileOfPartVectors(rows, cols, t);
  }
}

}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // GRAFT_OPS_GEMM_MICRO_INL_H_
