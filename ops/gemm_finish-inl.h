// What comes to the results of a matrix product on their way out, behind the tiles of
// gemm_micro-inl.h, for files compiled once per SIMD target: activation and slope, factors,
// residual, bf16.
#if defined(GRAFT_OPS_GEMM_FINISH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRAFT_OPS_GEMM_FINISH_INL_H_
#undef GRAFT_OPS_GEMM_FINISH_INL_H_
#else
#define GRAFT_OPS_GEMM_FINISH_INL_H_
#endif

#include <cstdint>
#include <type_traits>

#include "hwy/highway.h"
#include "ops/bf16-inl.h"
#include "ops/gemm_core.h"
#include "ops/gemm_micro-inl.h"
#include "ops/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {

// Rows [row, row + rows) and columns [col, col + cols) of C, which lie at `c`; what the epilogue
// reads and writes beside it has rows of out_ld.
struct FinishedTile {
  float* c;
  int64_t ldc, row, rows, col, cols, out_ld;
};

// Where one row of a tile goes and what comes to it on the way; null where there is no such thing.
struct FinishRow {
  float *c, *slope;
  uint16_t *c16, *slope16;
  const float* residual;
  const uint16_t* times;
  FinishRow(const GemmEpilogue& e, const FinishedTile& tile, int64_t r) {
    const int64_t row = tile.row + r, at = row * tile.out_ld + tile.col;
    const auto from = [at](auto* p) { return p ? p + at : nullptr; };
    c = tile.c + r * tile.ldc;
    slope = from(e.slope), c16 = from(e.c16), slope16 = from(e.slope16), times = from(e.times);
    residual = e.residual ? e.residual + row * e.residual_stride + tile.col : nullptr;
  }
};

// What Finish reads and writes beside C comes from memory, in a few lines of many rows: while the
// tile is computed there is time to fetch it.
inline void FetchForFinish(const GemmEpilogue& e, const FinishedTile& tile) {
  const auto fetch = [cols = tile.cols](const auto* p, auto write) {
    if (!p) return;
    for (int64_t j = 0; j < cols; j += kLineFloats * 4 / int64_t{sizeof(*p)})
      __builtin_prefetch(p + j, decltype(write)::value, 3);
  };
  for (int64_t r = 0; r < tile.rows; ++r) {
    const FinishRow at(e, tile, r);
    fetch(at.times, std::false_type()), fetch(at.residual, std::false_type());
    fetch(at.slope, std::true_type()), fetch(at.slope16, std::true_type());
    fetch(at.c16, std::true_type());
  }
}

// The part of the epilogue that Tile does not do, on a finished tile of C that is still in L1.
// act(v, slope) gives the activation and its slope.
template <class Act>
void FinishBy(const Act& act, const GemmEpilogue& e, const FinishedTile& tile) {
  const GemmTag d;
  const int64_t cols = tile.cols;
  const bool native = e.native_bf16;
  hn::Vec<GemmTag> slope;
  for (int64_t r = 0; r < tile.rows; ++r) {
    const FinishRow to(e, tile, r);
    int64_t j = 0;
    for (; j + kGemmLanes <= cols; j += kGemmLanes) {
      auto v = act(hn::LoadU(d, to.c + j), slope);
      if (to.slope) hn::StoreU(slope, d, to.slope + j);
      if (to.slope16) StoreBf16(native, d, slope, to.slope16 + j);
      if (to.times) v = hn::Mul(v, LoadNumbers(d, to.times + j));
      if (to.residual) v = hn::Add(v, hn::LoadU(d, to.residual + j));
      to.c16 ? StoreBf16(native, d, v, to.c16 + j) : hn::StoreU(v, d, to.c + j);
    }
    if (j == cols) continue;
    HWY_ALIGN float tail[kGemmLanes] = {};
    HWY_ALIGN float tail_slope[kGemmLanes];
    for (int64_t x = j; x < cols; ++x) tail[x - j] = to.c[x];
    hn::StoreU(act(hn::LoadU(d, tail), slope), d, tail);
    hn::StoreU(slope, d, tail_slope);
    for (int64_t x = j; x < cols; ++x) {
      if (to.slope) to.slope[x] = tail_slope[x - j];
      if (to.slope16) to.slope16[x] = ToBf16(tail_slope[x - j]);
      float v = tail[x - j];
      if (to.times) v *= FromBf16(to.times[x]);
      if (to.residual) v += to.residual[x];
      to.c16 ? void(to.c16[x] = ToBf16(v)) : void(to.c[x] = v);
    }
  }
}

inline void Finish(const GemmEpilogue& e, const FinishedTile& tile) {
  using V = hn::Vec<GemmTag>;
  const auto by = [&](const auto& act) HWY_ATTR { FinishBy(act, e, tile); };
  switch (e.activation) {
    case Activation::kNone:
      return by([](V v, V& slope) HWY_ATTR {
        slope = hn::Set(GemmTag(), 1.0f);
        return v;
      });
    case Activation::kGeluErf:
      return by([](V v, V& slope) HWY_ATTR { return GeluErf(GemmTag(), v, slope); });
    case Activation::kGeluNear:
      return by([](V v, V& slope) HWY_ATTR { return GeluNear(GemmTag(), v, slope); });
    case Activation::kGeluTanh:
      return by([](V v, V& slope) HWY_ATTR { return GeluTanh(GemmTag(), v, slope); });
  }
}

}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // GRAFT_OPS_GEMM_FINISH_INL_H_
