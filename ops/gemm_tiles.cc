// The tiles of matrix products in all their forms, once for all files that multiply.
#include <array>
#include <cstdint>
#include <utility>

#include "ops/each.h"
#include "ops/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/gemm_tiles.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "ops/bf16-inl.h"
#include "ops/gemm_micro-inl.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace {

// What the compiler may know of the strides of A and B, which spares additions in each step.
enum class StepA { kAny, kByRows, kByCols };  // kByRows: a_k == 1, kByCols: a_row == 1
enum class StepB { kAny, kPanel };            // kPanel: b_k == kGemmNr

// Sums of bytes become numbers.
template <size_t kRows, size_t kVecs>
HWY_INLINE void ScaleTile(const TileArgs& t, hn::Vec<GemmTag> (&acc)[kRows * kVecs]) {
  const GemmTag d;
  const hn::RebindToSigned<GemmTag> di;
  constexpr size_t kStep = static_cast<size_t>(kGemmLanes);
  GRAFT_EACH(i, kRows * kVecs) {
    const size_t col = i % kVecs * kStep;
    const float* range = t.row_range + 2 * (i / kVecs);
    const auto scale = hn::Mul(hn::Set(d, range[0]), hn::LoadU(d, t.col_scale + col));
    const auto sum = hn::ConvertTo(d, hn::BitCast(di, acc[i]));
    acc[i] =
        hn::Mul(hn::NegMulAdd(hn::Set(d, range[1]), hn::LoadU(d, t.col_sum + col), sum), scale);
  }
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
    GRAFT_EACH(i, kRows * kVecs) {
      const float* from = add + static_cast<int64_t>(i / kVecs) * add_row + i % kVecs * kStep;
      acc[i] = hn::MulAdd(acc[i], alpha, hn::LoadU(d, from));
    }
  } else if (t.alpha != 1.0f) {
    GRAFT_EACH(i, kRows * kVecs) { acc[i] = hn::Mul(acc[i], alpha); }
  }
  if (const float* bias = t.bias; bias != nullptr) {
    GRAFT_EACH(i, kRows * kVecs) {
      acc[i] = hn::Add(acc[i], hn::LoadU(d, bias + i % kVecs * kStep));
    }
  }
  if (uint16_t* out16 = t.out16; kGemmLanes == 16 && out16 != nullptr) {
    const int64_t row = t.out16_row;
    GRAFT_EACH(i, kRows * kVecs) {
      StoreBf16<true>(d, acc[i], out16 + static_cast<int64_t>(i / kVecs) * row + i % kVecs * kStep);
    }
    return;
  }
  float* out = t.out;  // a copy, which no store can change
  const int64_t out_row = t.out_row;
  GRAFT_EACH(i, kRows * kVecs) {
    hn::StoreU(acc[i], d, out + static_cast<int64_t>(i / kVecs) * out_row + i % kVecs * kStep);
  }
}

template <size_t kRows, size_t kVecs, StepA kA, StepB kB, Dot kDot>
HWY_NOINLINE void TileBy(const TileArgs& t) {
  const GemmTag d;
  using V = hn::Vec<GemmTag>;
  constexpr size_t kStep = static_cast<size_t>(kGemmLanes);
  constexpr size_t kGroups = (kRows + 2) / 3;
  constexpr int64_t kFloat = sizeof(float);
  V acc[kRows * kVecs];
  GRAFT_EACH(i, kRows * kVecs) { acc[i] = hn::Zero(d); }
  // One pointer for three rows: x86 addresses p, p + s and p + 2 s without further registers.
  // Strides are in bytes.
  const char* a[kGroups];
  int64_t row = t.a_row * kFloat;
  const int64_t a_k = t.a_k * kFloat, b_k = t.b_k * kFloat;
  GRAFT_EACH(g, kGroups) {
    a[g] = reinterpret_cast<const char*>(t.a) + static_cast<int64_t>(3 * g) * row;
  }
  const char* b = reinterpret_cast<const char*>(t.b);
  // acc += a[.][k] b[k][.]; at(i): where A's element of row i lies.
  const auto step = [&](const auto& at, int64_t offset_b) HWY_ATTR __attribute__((always_inline)) {
    V bv[kVecs];
    GRAFT_EACH(j, kVecs) {
      bv[j] = hn::LoadU(d, reinterpret_cast<const float*>(b + offset_b) + j * kStep);
    }
    GRAFT_EACH(i, kRows) {
      const V av = hn::Set(d, *reinterpret_cast<const float*>(at(i)));
      GRAFT_EACH(j, kVecs) { acc[i * kVecs + j] = TileDot<kDot>(av, bv[j], acc[i * kVecs + j]); }
    }
  };
  const auto step_by_rows = [&](int64_t offset_a, int64_t offset_b) HWY_ATTR
      __attribute__((always_inline)) {
    // Otherwise the compiler computes each row's address in each step ahead and runs out of
    // registers.
    __asm__ volatile("" : "+r"(row));
    step(
        [&](size_t i) HWY_ATTR __attribute__((always_inline)) {
          return a[i / 3] + static_cast<int64_t>(i % 3) * row + offset_a;
        },
        offset_b);
  };
  int64_t k = t.k;
  if constexpr (kA != StepA::kAny) {
    const int64_t* line = t.out_lines;
    const float* fetch = t.fetch;
    const int64_t fetch_step = t.fetch_step;
    for (; k >= kUnroll; k -= kUnroll) {
      if (line != nullptr) {
        GRAFT_EACH(i, kFetchLines) {
          __builtin_prefetch(fetch + static_cast<int64_t>(i) * kLineFloats, 0, 2);
        }
        fetch += fetch_step;
        __builtin_prefetch(t.out + *line++, 1, 3);
      }
      GRAFT_EACH(u, kUnroll) {
        const int64_t offset_b =
            kB == StepB::kPanel ? static_cast<int64_t>(u) * kGemmNr * kFloat : 0;
        if constexpr (kA == StepA::kByRows) {
          step_by_rows(static_cast<int64_t>(u) * kFloat, offset_b);
        } else {
          step(
              [&](size_t i) HWY_ATTR
              __attribute__((always_inline)) { return a[0] + static_cast<int64_t>(i) * kFloat; },
              offset_b);
          a[0] += a_k;
        }
        if constexpr (kB == StepB::kAny) b += b_k;
      }
      if constexpr (kA == StepA::kByRows) {
        GRAFT_EACH(g, kGroups) { a[g] += kUnroll * kFloat; }
      }
      if constexpr (kB == StepB::kPanel) b += kUnroll * kGemmNr * kFloat;
    }
    if constexpr (kA == StepA::kByCols) {
      GRAFT_EACH(g, kGroups) { a[g] = a[0] + static_cast<int64_t>(3 * g) * row; }
    }
  }
  for (; k > 0; --k) {
    step_by_rows(0, 0);
    GRAFT_EACH(g, kGroups) { a[g] += a_k; }
    b += b_k;
  }
  FinishTile<kRows, kVecs, kDot>(t, acc);
}

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

template <Dot kDot, size_t kVecs, size_t... I>
constexpr TilesOfRows OfVectors(std::index_sequence<I...>) {
  return {&Tile<I + 1, kVecs, kDot>...};
}

template <Dot kDot, size_t... J>
constexpr TilesOfDot OfDot(std::index_sequence<J...>) {
  return {OfVectors<kDot, J + 1>(
      std::make_index_sequence<static_cast<size_t>(TileRows(int64_t{J} + 1))>())...};
}

template <size_t... D>
constexpr std::array<TilesOfDot, kDots> OfAll(std::index_sequence<D...>) {
  return {OfDot<static_cast<Dot>(D)>(std::make_index_sequence<size_t{kGemmVecs}>())...};
}

}  // namespace

constinit const std::array<TilesOfDot, kDots> kTiles = OfAll(std::make_index_sequence<kDots>());

}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
