// What attention_kernel.cc builds on, for each SIMD target: the rows of one head copied together,
// and products of blocks that stay in the caches.
#ifndef GRAFT_OPS_ATTENTION_KERNEL_ONCE_INL_
#define GRAFT_OPS_ATTENTION_KERNEL_ONCE_INL_
#include "ops/attention_kernel.h"
#include "ops/rows.h"
namespace graft {
namespace {

constexpr int64_t kScoreFloats = 32768;  // a block of scores has 128 KiB, half of a small L2
constexpr int64_t kMostBlockRows = 192;

int64_t RoundUp(int64_t x, int64_t to) { return CeilDiv(x, to) * to; }

// Hands out pieces of a task's scratch, 64-byte aligned.
struct Workspace {
  float* next;
  float* Take(int64_t floats) {
    float* piece = next;
    next += RoundUp(floats, 16);
    return piece;
  }
};

}  // namespace
}  // namespace graft
#endif

#if defined(GRAFT_OPS_ATTENTION_KERNEL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRAFT_OPS_ATTENTION_KERNEL_INL_H_
#undef GRAFT_OPS_ATTENTION_KERNEL_INL_H_
#else
#define GRAFT_OPS_ATTENTION_KERNEL_INL_H_
#endif

#include "ops/bf16-inl.h"
#include "ops/gemm_micro-inl.h"
#include "ops/gemm_pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace {

// One sequence of one head. Its rows lie heads * d floats apart, often a multiple of a large power
// of two, which few sets of L1 serve: whatever is read more than once is copied to adjacent rows of
// `cols` floats, zero behind d.
struct Head {
  int64_t width, d;         // columns of all heads, and of this one
  int64_t cols, first_col;  // d rounded up to whole vectors, and the column where the head begins
  Segment queries, rows;    // `rows` are the keys but for those of the prefix, which follow
  int64_t keys, padded;     // `padded` is keys rounded up to whole vectors
  const float *prefix_k, *prefix_v;
  const float* bias;  // [padded], the mask, or null
  int64_t blocks;     // of query rows
};

// Copies `rows` rows times scale.
template <class T>
void CopyRows(const Head& h, const T* x, int64_t rows, float scale, float* to) {
  const GemmTag d;
  const auto vscale = hn::Set(d, scale);
  const int64_t whole = h.d / kGemmLanes * kGemmLanes;
  for (int64_t r = 0; r < rows; ++r) {
    const T* from = x + r * h.width + h.first_col;
    float* out = to + r * h.cols;
    for (int64_t c = 0; c < whole; c += kGemmLanes)
      hn::StoreU(hn::Mul(LoadNumbers(d, from + c), vscale), d, out + c);
    for (int64_t c = whole; c < h.cols; ++c) out[c] = c < h.d ? Number(from + c) * scale : 0;
  }
}
// The same of x from row `first` on.
void CopyBlock(const Head& h, const Tensor& x, int64_t first, int64_t rows, float scale,
               float* to) {
  WithNumbers(x, first * h.width, [&](const auto* from) { CopyRows(h, from, rows, scale, to); });
}

// Copies the sequence's own rows and, behind them, those of the prefix.
float* CopyKeys(const Head& h, const Tensor& own, const float* prefix, float* to) {
  CopyBlock(h, own, h.rows.begin, h.rows.size(), 1, to);
  if (prefix) CopyRows(h, prefix, h.keys - h.rows.size(), 1, to + h.rows.size() * h.cols);
  return to;
}

// The head's columns of row `row` of `to`.
void StoreRow(const Head& h, bool native, const float* from, const Tensor& to, int64_t row) {
  const int64_t at = row * h.width + h.first_col;
  if (to.dtype == DType::kBf16)
    RoundNumbers(native, from, h.d, to.bf16() + at);
  else
    CopyFloats(to.f32() + at, from, h.d);
}

// Rows are whole vectors and whole cells of two numbers.
int64_t PaddedRow(int64_t numbers) { return RoundUp(numbers, std::max<int64_t>(2, kGemmLanes)); }

// How many query rows a block has, so that the scores stay in L2.
int64_t BlockRows(int64_t padded) {
  const int64_t rows = std::min(kMostBlockRows, kScoreFloats / std::max<int64_t>(1, padded));
  return std::max<int64_t>(24, rows / 24 * 24);
}

Head MakeHead(const AttentionArgs& x, int64_t sequence, int64_t head, Workspace& w) {
  Head h;
  h.width = x.heads * x.d, h.d = x.d, h.first_col = head * x.d;
  h.cols = PaddedRow(x.d);
  h.queries = SegmentOf(x.q_offsets, sequence, x.q_rows);
  h.rows = SegmentOf(x.kv_offsets, sequence, x.kv_rows);
  h.keys = h.rows.size() + x.prefix_rows;
  h.padded = PaddedRow(h.keys);
  h.prefix_k = x.prefix_rows > 0 ? x.prefix_k : nullptr;
  h.prefix_v = x.prefix_rows > 0 ? x.prefix_v : nullptr;
  h.bias = nullptr;
  if (x.mask) {
    float* bias = w.Take(h.padded);
    std::fill_n(bias, h.padded, 0.0f);
    CopyFloats(bias, x.mask + h.rows.begin, h.rows.size());
    h.bias = bias;
  }
  const int64_t block_rows = BlockRows(h.padded);
  h.blocks = CeilDiv(h.queries.size(), block_rows);
  return h;
}

// Numbers in a cell of 32 bits. Of bf16, matrices are made of cells along the sum's dimension: the
// left one and what is packed hold pairs of columns, the right one pairs of rows.
template <Dot kDot>
constexpr int64_t kNumbers = kDot == Dot::kF32 ? 1 : 2;

// Numbers of one vector to where those from number `at` on lie.
template <Dot kDot, class V>
HWY_INLINE void StoreCells(V v, float* cells, int64_t at) {
  const GemmTag d;
  if constexpr (kDot == Dot::kF32)
    hn::StoreU(v, d, cells + at);
  else
    StoreBf16<kDot == Dot::kBf16>(d, v, reinterpret_cast<uint16_t*>(cells) + at);
}

// x [rows, cols] by rows, in place -> cells [rows, cols / kNumbers]. cols is a whole number of
// vectors.
template <Dot kDot>
void PairCols(int64_t rows, int64_t cols, float* x) {
  if constexpr (kDot == Dot::kF32) return;
  const GemmTag d;
  uint16_t* out = reinterpret_cast<uint16_t*>(x);  // never ahead of what is read
  for (int64_t i = 0; i < rows * cols; i += kGemmLanes)
    StoreBf16<kDot == Dot::kBf16>(d, hn::LoadU(d, x + i), out + i);
}

// x [rows, cols] by rows -> cells [ceil(rows / 2), cols], zeros behind the last row. Of f32, x as
// it is.
template <Dot kDot>
const float* PairRows(int64_t rows, int64_t cols, const float* x, float* cells) {
  if constexpr (kDot == Dot::kF32) return x;
  const GemmTag d;
  for (int64_t r = 0; r < rows; r += 2)
    for (int64_t c = 0; c < cols; c += kGemmLanes) {
      const float* from = x + r * cols + c;
      const auto next = r + 1 < rows ? hn::LoadU(d, from + cols) : hn::Zero(d);
      StoreBf16Pairs<kDot == Dot::kBf16>(d, hn::LoadU(d, from), next,
                                         reinterpret_cast<uint32_t*>(cells + r / 2 * cols + c));
    }
  return cells;
}
template <Dot kDot>
int64_t PairedFloats(int64_t rows, int64_t cols) {
  return kDot == Dot::kF32 ? 0 : CeilDiv(rows, 2) * cols;
}

// Packs the transpose of x [keys, cols] as panels; x is gone then.
int64_t PackedFloats(int64_t k, int64_t n) { return k * RoundUp(n, kGemmNr); }
template <Dot kDot>
const float* PackTranspose(const Head& h, float* x, float* packed) {
  const int64_t stride = h.cols / kNumbers<kDot>, k = CeilDiv(h.d, kNumbers<kDot>);
  PairCols<kDot>(h.keys, h.cols, x);
  for (int64_t col = 0; col < h.padded; col += kGemmNr)
    PackPanel(x + col * stride, 1, stride, k, std::clamp<int64_t>(h.keys - col, 0, kGemmNr),
              packed + col * k);
  return packed;
}

struct Strided {
  const float* data;
  int64_t row, col;  // strides
};
struct Panels {
  const float* data;
  int64_t row, panel;  // strides from row to row, from panel to panel
};

// Computes c [m, n] (+)= alpha a b (+ bias) for a [m, k], k in cells. REQUIRES: n is a whole number
// of vectors.
template <Dot kDot>
void Product(int64_t m, int64_t n, int64_t k, float alpha, const Strided& a, const Panels& b,
             const float* bias, float* c, int64_t ldc, bool accumulate) {
  TileArgs t{};
  t.k = k;
  t.a_row = a.row, t.a_k = a.col;
  t.b_k = b.row;
  t.alpha = alpha;
  t.add_row = t.out_row = ldc;
  for (int64_t col = 0; col < n; col += kGemmNr) {
    const int64_t cols = std::min(n - col, kGemmNr);
    const int64_t pieces = CeilDiv(m, TileRows(TileVecs(cols)));
    t.b = b.data + col / kGemmNr * b.panel;
    t.bias = bias ? bias + col : nullptr;
    for (int64_t p = 0; p < pieces; ++p) {
      const Piece rows = EvenPiece(m, pieces, p);
      t.a = a.data + rows.begin * a.row;
      t.out = c + rows.begin * ldc + col;
      t.add = accumulate ? t.out : nullptr;
      TileFor<kDot>(rows.size, cols)(t);
    }
  }
}

// The product of a block of rows (PairCols) with all keys; b comes from PackTranspose.
template <Dot kDot>
void ProductKeys(const Head& h, int64_t m, const float* a, const float* b, const float* bias,
                 float* c) {
  const int64_t k = CeilDiv(h.d, kNumbers<kDot>);
  Product<kDot>(m, h.padded, k, 1, {a, h.cols / kNumbers<kDot>, 1}, {b, kGemmNr, kGemmNr * k}, bias,
                c, h.padded, false);
}

// The product with the columns of a head, where rows of c [m, cols] and of b [k, cols] (PairRows)
// are adjacent; k in numbers.
template <Dot kDot>
void ProductCols(const Head& h, int64_t m, int64_t k, float alpha, const Strided& a, const float* b,
                 float* c, bool accumulate) {
  Product<kDot>(m, h.cols, CeilDiv(k, kNumbers<kDot>), alpha, a, {b, h.cols, kGemmNr}, nullptr, c,
                h.cols, accumulate);
}

}  // namespace
}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // GRAFT_OPS_ATTENTION_KERNEL_INL_H_
