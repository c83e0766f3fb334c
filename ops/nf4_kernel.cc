#include "ops/nf4_kernel.h"

#include <algorithm>
#include <bit>

#include "ops/targets.h"
#include "runtime/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/nf4_kernel.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "ops/gemm_micro-inl.h"
#include "ops/gemm_pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace {

// absmax' of a block, rounded after each operation.
float ScaleOf(const Nf4View& w, int64_t block) {
  if (w.absmax_codes == nullptr) return w.absmax[block];
  const float product = w.scale_map[w.absmax_codes[block]] * w.absmax2[block / kNf4ScaleBlock];
  return product + w.offset;
}

// Computes out[i] = level[code i] scale for whole vectors of the codes that begin with a byte at
// `codes`. Returns how many values it made: a multiple of the lanes, or 0 where a vector is too
// short to hold a part of the levels.
HWY_INLINE int64_t DecodeVectors(const uint8_t* HWY_RESTRICT codes, int64_t count, float scale,
                                 float* HWY_RESTRICT out) {
#if HWY_TARGET == HWY_SCALAR
  (void)codes, (void)count, (void)scale, (void)out;
  return 0;
#else
  if constexpr (kGemmLanes < 8) {
    return 0;
  } else {
    const GemmTag d;
    const hn::RebindToSigned<GemmTag> di;
    // Each byte is spread to 16 bits, so that there is room for its two codes, the high half first.
    const hn::FixedTag<uint8_t, kGemmLanes / 2> d8;
    const hn::FixedTag<uint16_t, kGemmLanes / 2> d16;
    const hn::FixedTag<uint8_t, kGemmLanes> d_codes;
    const auto factor = hn::Set(d, scale);
    const auto low = hn::LoadU(d, kNf4Levels.data());
    const auto high = hn::LoadU(d, kNf4Levels.data() + (kGemmLanes == 16 ? 0 : 8));
    int64_t i = 0;
    for (; i + kGemmLanes <= count; i += kGemmLanes) {
      const auto wide = hn::PromoteTo(d16, hn::LoadU(d8, codes + i / 2));
      const auto pair =
          hn::And(hn::Or(hn::ShiftRight<4>(wide), hn::ShiftLeft<8>(wide)), hn::Set(d16, 0x0F0F));
      const auto code = hn::PromoteTo(di, hn::BitCast(d_codes, pair));
      auto level = hn::TableLookupLanes(
          low, hn::IndicesFromVec(d, hn::And(code, hn::Set(di, kGemmLanes - 1))));
      if constexpr (kGemmLanes == 8) {
        const auto upper =
            hn::TableLookupLanes(high, hn::IndicesFromVec(d, hn::And(code, hn::Set(di, 7))));
        level = hn::IfThenElse(hn::RebindMask(d, hn::Gt(code, hn::Set(di, 7))), upper, level);
      }
      hn::StoreU(hn::Mul(level, factor), d, out + i);
    }
    return i;
  }
#endif
}

// Decodes the values [begin, begin + count) of the flattened weight, all of one block.
HWY_INLINE void DecodeInBlock(const uint8_t* codes, int64_t begin, int64_t count, float scale,
                              float* out) {
  const auto high = [&](uint8_t byte) { return kNf4Levels[byte >> 4] * scale; };
  const auto low = [&](uint8_t byte) { return kNf4Levels[byte & 15] * scale; };
  if (begin % 2 != 0 && count > 0) {
    *out++ = low(codes[begin / 2]);
    ++begin, --count;
  }
  const uint8_t* from = codes + begin / 2;
  int64_t i = DecodeVectors(from, count, scale, out);
  for (; i + 2 <= count; i += 2) {
    out[i] = high(from[i / 2]);
    out[i + 1] = low(from[i / 2]);
  }
  if (i < count) out[i] = high(from[i / 2]);
}

HWY_INLINE void Decode(const Nf4View& w, int64_t begin, int64_t count, float* out) {
  while (count > 0) {
    const int64_t block = begin >> w.block_shift;
    const int64_t here = std::min(count, ((block + 1) << w.block_shift) - begin);
    DecodeInBlock(w.codes, begin, here, ScaleOf(w, block), out);
    begin += here, count -= here, out += here;
  }
}

void DecodeRange(const Nf4View& w, int64_t begin, int64_t count, float* out) {
  Decode(w, begin, count, out);
}

// Rows of B are columns of W: a piece is a panel, made from tiles of rows of W that stay in L1.
constexpr int64_t kTileDepth = 64;
void PackTransposed(const Nf4View& w, const GemmPart& part, int64_t i, float* packed) {
  HWY_ALIGN float tile[kGemmNr * kTileDepth];
  const int64_t first = part.n + i * kGemmNr;
  const int64_t cols = std::min(kGemmNr, part.n + part.cols - first);
  float* panel = packed + i * kGemmNr * part.depth;
  for (int64_t k = 0; k < part.depth; k += kTileDepth) {
    const int64_t depth = std::min(kTileDepth, part.depth - k);
    for (int64_t c = 0; c < cols; ++c) {
      Decode(w, (first + c) * w.cols + part.k + k, depth, tile + c * kTileDepth);
    }
    PackPanel(tile, 1, kTileDepth, depth, cols, panel + k * kGemmNr);
  }
}

// Rows of B are rows of W: a piece is some rows of all panels.
void PackRows(const Nf4View& w, const GemmPart& part, int64_t i, float* packed) {
  const int64_t end = std::min(part.depth, (i + 1) * kSlab);
  for (int64_t c = 0; c < part.cols; c += kGemmNr) {
    const int64_t cols = std::min(kGemmNr, part.cols - c);
    float* panel = packed + c * part.depth;
    for (int64_t k = i * kSlab; k < end; ++k) {
      Decode(w, (part.k + k) * w.cols + part.n + c, cols, panel + k * kGemmNr);
      std::fill(panel + k * kGemmNr + cols, panel + (k + 1) * kGemmNr, 0.0f);
    }
  }
}

int64_t PackPieces(const GemmPart& part, bool transposed) {
  return transposed ? CeilDiv(part.cols, kGemmNr) : CeilDiv(part.depth, kSlab);
}

}  // namespace
}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft {
namespace {

HWY_EXPORT(DecodeRange);
HWY_EXPORT(PackTransposed);
HWY_EXPORT(PackRows);
HWY_EXPORT(PackPieces);

// The functions of a GemmSource, whose context is the view.
template <bool kTransposed>
int64_t Pieces(const void*, const GemmPart& part) {
  return HWY_DYNAMIC_DISPATCH(PackPieces)(part, kTransposed);
}
template <bool kTransposed>
void Pack(const void* context, const GemmPart& part, int64_t i, float* packed) {
  const Nf4View& w = *static_cast<const Nf4View*>(context);
  if (kTransposed) {
    HWY_DYNAMIC_DISPATCH(PackTransposed)(w, part, i, packed);
  } else {
    HWY_DYNAMIC_DISPATCH(PackRows)(w, part, i, packed);
  }
}

}  // namespace

Nf4View ViewNf4(const Nf4Attrs& format, std::span<const Tensor> params) {
  Nf4View w;
  w.rows = format.rows, w.cols = format.cols;
  w.block_shift = std::countr_zero(static_cast<uint64_t>(format.block));
  w.codes = params[0].u8();
  if (format.double_quantised) {
    w.absmax_codes = params[1].u8();
    w.absmax2 = params[2].f32();
    w.offset = *params[3].f32();
  } else {
    w.absmax = params[1].f32();
  }
  w.scale_map = Nf4ScaleMap().data();
  return w;
}

void DequantizeNf4(const Nf4View& w, int64_t begin, int64_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(DecodeRange)(w, begin, count, out);
}

GemmSource Nf4Source(const Nf4View& w, bool transposed) {
  return transposed ? GemmSource{&w, Pieces<true>, Pack<true>}
                    : GemmSource{&w, Pieces<false>, Pack<false>};
}

}  // namespace graft
#endif  // HWY_ONCE
