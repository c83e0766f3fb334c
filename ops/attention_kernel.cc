#include "ops/attention_kernel.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <limits>

#include "ops/rows.h"
#include "ops/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/attention_kernel.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "ops/gemm_micro-inl.h"
#include "ops/math-inl.h"

#ifndef GRAFT_OPS_ATTENTION_KERNEL_ONCE_
#define GRAFT_OPS_ATTENTION_KERNEL_ONCE_
namespace graft {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kScoreFloats = 32768;  // of a block of scores: 128 KiB, half of a small L2
constexpr int64_t kMostBlockRows = 192;
constexpr int64_t kMostGroups = 8;  // partial sums of a prefix gradient

int64_t RoundUp(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

// Hands out pieces of a task's scratch, 64-byte aligned.
struct Workspace {
  float* next;
  float* Take(int64_t floats) {
    float* piece = next;
    next += RoundUp(floats, 16);
    return piece;
  }
};

// Where the gradients of a task's keys go: own rows, then the prefix.
struct KeyGradient {
  float* own;
  float* prefix;
  bool add_prefix;  // to what earlier sequences of the group gave
};

}  // namespace
}  // namespace graft
#endif

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace {

// One sequence of one head.
struct Head {
  int64_t width, d, first_col;  // columns of all heads, of this one; where it begins
  Segment queries, rows;        // rows: own keys; the prefix follows
  int64_t keys, padded;         // padded: to whole vectors
  const float *k, *v;           // [keys, d] with stride kv_stride
  int64_t kv_stride;
  const float* bias;  // [padded], the mask, or null
  int64_t blocks;     // of query rows
};

// Rows of keys followed by those of the prefix, of one head.
const float* JoinRows(const float* own, const Segment& rows, const float* prefix, const Head& h,
                      Workspace& w) {
  float* to = w.Take(h.keys * h.d);
  for (int64_t j = 0; j < h.keys; ++j) {
    const float* from =
        j < rows.size() ? own + (rows.begin + j) * h.width : prefix + (j - rows.size()) * h.width;
    CopyFloats(to + j * h.d, from + h.first_col, h.d);
  }
  return to;
}

// Query rows of a block: multiples of a tile, so many that the scores stay in L2.
int64_t BlockRows(int64_t padded) {
  const int64_t rows = std::min(kMostBlockRows, kScoreFloats / std::max<int64_t>(1, padded));
  return std::max(kGemmMr, rows / kGemmMr * kGemmMr);
}

Head MakeHead(const AttentionArgs& x, int64_t sequence, int64_t head, Workspace& w) {
  Head h;
  h.width = x.heads * x.d, h.d = x.d, h.first_col = head * x.d;
  h.queries = SegmentOf(x.q_offsets, sequence, x.q_rows);
  h.rows = SegmentOf(x.kv_offsets, sequence, x.kv_rows);
  h.keys = h.rows.size() + x.prefix_rows;
  h.padded = RoundUp(h.keys, kGemmLanes);
  h.k = x.k + h.rows.begin * h.width + h.first_col;
  h.v = x.v + h.rows.begin * h.width + h.first_col;
  h.kv_stride = h.width;
  if (x.prefix_rows > 0) {
    h.k = JoinRows(x.k, h.rows, x.prefix_k, h, w);
    h.v = JoinRows(x.v, h.rows, x.prefix_v, h, w);
    h.kv_stride = h.d;
  }
  h.bias = nullptr;
  if (x.mask) {
    float* bias = w.Take(h.padded);
    std::fill_n(bias, h.padded, 0.0f);
    CopyFloats(bias, x.mask + h.rows.begin, h.rows.size());
    h.bias = bias;
  }
  const int64_t block_rows = BlockRows(h.padded);
  h.blocks = (h.queries.size() + block_rows - 1) / block_rows;
  return h;
}

// b [k, n] as panels, rounded up to whole ones; b_k and b_n are its strides.
const float* PackAll(const float* b, int64_t b_k, int64_t b_n, int64_t k, int64_t n,
                     float* packed) {
  for (int64_t col = 0; col < n; col += kGemmNr)
    PackPanel(b + col * b_n, b_k, b_n, k, std::min(n - col, kGemmNr), packed + col * k);
  return packed;
}
int64_t PackedFloats(int64_t k, int64_t n) { return k * RoundUp(n, kGemmNr); }

struct Strided {
  const float* data;
  int64_t row, col;  // strides
};

// c [m, n] (+)= alpha a b (+ bias); a [m, k], b [k, n] in panels.
void Product(int64_t m, int64_t n, int64_t k, float alpha, const Strided& a, const float* b,
             const float* bias, float* c, int64_t ldc, bool accumulate) {
  const int64_t pieces = (m + kGemmMr - 1) / kGemmMr;
  TileArgs t{};
  t.k = k;
  t.a_row = a.row, t.a_k = a.col;
  t.b_k = kGemmNr;
  t.alpha = alpha;
  t.add_row = t.out_row = ldc;
  for (int64_t col = 0; col < n; col += kGemmNr) {
    t.b = b + col * k;
    t.bias = bias ? bias + col : nullptr;
    for (int64_t p = 0; p < pieces; ++p) {
      const Piece rows = EvenPiece(m, pieces, p);
      t.a = a.data + rows.begin * a.row;
      t.out = c + rows.begin * ldc + col;
      t.add = accumulate ? t.out : nullptr;
      TileOf(rows.size, std::min(n - col, kGemmNr), t);
    }
  }
}

// Scores of a row -> exp(s - most), unnormalised; lse and what normalises the row.
struct RowSums {
  float lse, inverse;
};
RowSums SoftmaxRow(float* s, int64_t keys, int64_t padded) {
  const GemmTag d;
  for (int64_t j = keys; j < padded; ++j) s[j] = -kInfinity;
  auto high = hn::Set(d, -kInfinity);
  for (int64_t j = 0; j < padded; j += kGemmLanes) high = hn::Max(high, hn::LoadU(d, s + j));
  const float most = hn::GetLane(hn::MaxOfLanes(d, high));
  if (!(most > -kInfinity)) {  // no key at all, unless Max has dropped a NaN
    float all = most;
    for (int64_t j = 0; j < padded; ++j) all += s[j];
    const float fill = std::isnan(all) ? all : 0;
    std::fill_n(s, padded, fill);
    return {std::isnan(all) ? all : -kInfinity, fill};
  }
  const auto shift = hn::Set(d, most);
  auto sum = hn::Zero(d);
  for (int64_t j = 0; j < padded; j += kGemmLanes) {
    const auto e = Exp(d, hn::Sub(hn::LoadU(d, s + j), shift));
    hn::StoreU(e, d, s + j);
    sum = hn::Add(sum, e);
  }
  const float total = hn::GetLane(hn::SumOfLanes(d, sum));
  return {most + std::log(total), 1 / total};
}

void ForwardHead(const AttentionArgs& x, int64_t sequence, int64_t head, float* context, float* lse,
                 float* scratch) {
  Workspace w{scratch};
  const Head h = MakeHead(x, sequence, head, w);
  const float* kt = PackAll(h.k, 1, h.kv_stride, h.d, h.keys, w.Take(PackedFloats(h.d, h.keys)));
  const float* v = PackAll(h.v, h.kv_stride, 1, h.keys, h.d, w.Take(PackedFloats(h.keys, h.d)));
  float* scores = w.Take(BlockRows(h.padded) * h.padded);
  for (int64_t block = 0; block < h.blocks; ++block) {
    const Piece rows = EvenPiece(h.queries.size(), h.blocks, block);
    const int64_t first = h.queries.begin + rows.begin;
    const float* q = x.q + first * h.width + h.first_col;
    float* out = context + first * h.width + h.first_col;
    Product(rows.size, h.padded, h.d, x.scale, {q, h.width, 1}, kt, h.bias, scores, h.padded,
            false);
    RowSums sums[kMostBlockRows];
    for (int64_t r = 0; r < rows.size; ++r) {
      sums[r] = SoftmaxRow(scores + r * h.padded, h.keys, h.padded);
      lse[(first + r) * x.heads + head] = sums[r].lse;
    }
    Product(rows.size, h.d, h.keys, 1, {scores, h.padded, 1}, v, nullptr, out, h.width, false);
    for (int64_t r = 0; r < rows.size; ++r)
      for (int64_t c = 0; c < h.d; ++c) out[r * h.width + c] *= sums[r].inverse;
  }
}

// s -> p = exp(s - lse); dp -> ds = scale p (dp - delta), unless dp is null.
void ProbabilityRow(float* s, float* dp, int64_t padded, float lse, float delta, float scale) {
  const GemmTag d;
  if (lse == -kInfinity) {
    ZeroFloats(s, padded);
    if (dp) ZeroFloats(dp, padded);
    return;
  }
  const auto shift = hn::Set(d, lse), vdelta = hn::Set(d, delta), vscale = hn::Set(d, scale);
  for (int64_t j = 0; j < padded; j += kGemmLanes) {
    const auto p = Exp(d, hn::Sub(hn::LoadU(d, s + j), shift));
    hn::StoreU(p, d, s + j);
    if (!dp) continue;
    const auto change = hn::Sub(hn::LoadU(d, dp + j), vdelta);
    hn::StoreU(hn::Mul(hn::Mul(p, vscale), change), d, dp + j);
  }
}

float Dot(const float* a, const float* b, int64_t count) {
  const GemmTag d;
  auto sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + kGemmLanes <= count; i += kGemmLanes)
    sum = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum);
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < count; ++i) total += a[i] * b[i];
  return total;
}

// Own rows and prefix rows of p' b, or of ds' b; a block of `rows` queries.
void AddKeyRows(const Head& h, const KeyGradient& to, bool first_block, int64_t rows,
                const float* p, const float* b) {
  const int64_t own = h.rows.size();
  if (to.own)
    Product(own, h.d, rows, 1, {p, 1, h.padded}, b, nullptr,
            to.own + h.rows.begin * h.width + h.first_col, h.width, !first_block);
  if (to.prefix)
    Product(h.keys - own, h.d, rows, 1, {p + own, 1, h.padded}, b, nullptr, to.prefix + h.first_col,
            h.width, !first_block || to.add_prefix);
}

void BackwardHead(const AttentionGradArgs& x, int64_t sequence, int64_t head, const KeyGradient& dk,
                  const KeyGradient& dv, float* scratch) {
  Workspace w{scratch};
  const Head h = MakeHead(x, sequence, head, w);
  const bool want_k = dk.own || dk.prefix, want_v = dv.own || dv.prefix, want_s = want_k || x.dq;
  const int64_t packed = PackedFloats(h.d, h.keys), block_rows = BlockRows(h.padded);
  const float* kt = PackAll(h.k, 1, h.kv_stride, h.d, h.keys, w.Take(packed));
  const float *vt = nullptr, *k = nullptr;
  if (want_s) vt = PackAll(h.v, 1, h.kv_stride, h.d, h.keys, w.Take(packed));
  if (x.dq) k = PackAll(h.k, h.kv_stride, 1, h.keys, h.d, w.Take(PackedFloats(h.keys, h.d)));
  float* p = w.Take(block_rows * h.padded);
  float* ds = want_s ? w.Take(block_rows * h.padded) : nullptr;
  float* b = w.Take(PackedFloats(block_rows, h.d));
  if (h.blocks == 0) {  // keys that nobody asks for
    for (float* own : {dk.own, dv.own})
      for (int64_t r = h.rows.begin; own && r < h.rows.end; ++r)
        ZeroFloats(own + r * h.width + h.first_col, h.d);
    for (const KeyGradient& g : {dk, dv})
      for (int64_t r = 0; g.prefix && !g.add_prefix && r < x.prefix_rows; ++r)
        ZeroFloats(g.prefix + r * h.width + h.first_col, h.d);
  }
  for (int64_t block = 0; block < h.blocks; ++block) {
    const Piece rows = EvenPiece(h.queries.size(), h.blocks, block);
    const int64_t first = h.queries.begin + rows.begin, at = first * h.width + h.first_col;
    const Strided q{x.q + at, h.width, 1}, dcontext{x.dcontext + at, h.width, 1};
    Product(rows.size, h.padded, h.d, x.scale, q, kt, h.bias, p, h.padded, false);
    if (want_s) Product(rows.size, h.padded, h.d, 1, dcontext, vt, nullptr, ds, h.padded, false);
    for (int64_t r = 0; r < rows.size; ++r) {
      const int64_t row = at + r * h.width;
      const float delta = want_s ? Dot(x.dcontext + row, x.context + row, h.d) : 0;
      ProbabilityRow(p + r * h.padded, ds ? ds + r * h.padded : nullptr, h.padded,
                     x.lse[(first + r) * x.heads + head], delta, x.scale);
    }
    if (want_v) {
      PackAll(dcontext.data, h.width, 1, rows.size, h.d, b);
      AddKeyRows(h, dv, block == 0, rows.size, p, b);
    }
    if (x.dq)
      Product(rows.size, h.d, h.keys, 1, {ds, h.padded, 1}, k, nullptr, x.dq + at, h.width, false);
    if (want_k) {
      PackAll(q.data, h.width, 1, rows.size, h.d, b);
      AddKeyRows(h, dk, block == 0, rows.size, ds, b);
    }
  }
}

// Scratch of a task with that many keys at most.
int64_t TaskFloats(int64_t keys, int64_t prefix_rows, int64_t d, bool gradient) {
  const int64_t padded = RoundUp(keys, kGemmLanes);
  const int64_t scores = std::max(kScoreFloats, kGemmMr * padded);
  const int64_t kt = PackedFloats(d, keys), k = PackedFloats(keys, d);
  const int64_t joined = prefix_rows > 0 ? 2 * keys * d : 0;
  const int64_t block = gradient ? PackedFloats(kMostBlockRows, d) : 0;
  const int64_t pieces = 16 * 10;  // rounding
  return joined + padded + (gradient ? 2 : 1) * (kt + scores) + k + block + pieces;
}

}  // namespace
}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft {
namespace {

HWY_EXPORT(ForwardHead);
HWY_EXPORT(BackwardHead);
HWY_EXPORT(TaskFloats);

// Runs task(i, scratch) for i < tasks; which slot takes which task is left to chance.
template <class F>
void ForTasks(const AttentionArgs& x, int64_t tasks, const F& task) noexcept {
  std::atomic<int64_t> next{0};
  const AttentionScratch& plan = *x.scratch_plan;
  float* slots = reinterpret_cast<float*>(x.scratch) + plan.partial_floats;
  ParallelFor(std::min(tasks, plan.slots), [&](int64_t slot) {
    float* scratch = slots + slot * static_cast<int64_t>(plan.slot_floats);
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) task(i, scratch);
  });
}

}  // namespace

AttentionScratch PlanAttention(const AttentionSizes& most, bool gradient, bool prefix_gradient) {
  AttentionScratch plan;
  const int64_t tasks = std::max<int64_t>(1, most.sequences * most.heads);
  plan.slots = std::min<int64_t>(tasks, Threads());
  if (prefix_gradient)
    plan.partial_floats =
        static_cast<size_t>(RoundUp(2 * kMostGroups * most.prefix_rows * most.heads * most.d, 16));
  const int64_t floats = HWY_DYNAMIC_DISPATCH(TaskFloats)(most.kv_rows + most.prefix_rows,
                                                          most.prefix_rows, most.d, gradient);
  plan.slot_floats = static_cast<size_t>(RoundUp(floats, 16));
  plan.bytes =
      (plan.partial_floats + static_cast<size_t>(plan.slots) * plan.slot_floats) * sizeof(float);
  return plan;
}

void AttentionForward(const AttentionArgs& x, float* context, float* lse) noexcept {
  ZeroGaps(x.q_offsets, x.sequences, x.q_rows, x.heads * x.d, context);
  ZeroGaps(x.q_offsets, x.sequences, x.q_rows, x.heads, lse);
  ForTasks(x, x.sequences * x.heads, [&](int64_t i, float* scratch) {
    HWY_DYNAMIC_DISPATCH(ForwardHead)(x, i / x.heads, i % x.heads, context, lse, scratch);
  });
}

// Prefix gradients are summed over the sequences of a group by its task, in order, then over
// groups.
void AttentionBackward(const AttentionGradArgs& x) noexcept {
  const int64_t width = x.heads * x.d, prefix = x.prefix_rows * width;
  if (x.dq) ZeroGaps(x.q_offsets, x.sequences, x.q_rows, width, x.dq);
  for (float* out : {x.dk, x.dv})
    if (out) ZeroGaps(x.kv_offsets, x.sequences, x.kv_rows, width, out);
  const bool partial = x.dprefix_k != nullptr;
  const int64_t groups = partial ? std::min(x.sequences, kMostGroups) : x.sequences;
  float* sums = reinterpret_cast<float*>(x.scratch);
  ForTasks(x, groups * x.heads, [&](int64_t i, float* scratch) {
    const int64_t group = i / x.heads;
    float* sum = partial ? sums + 2 * group * prefix : nullptr;
    const int64_t begin = x.sequences * group / groups, end = x.sequences * (group + 1) / groups;
    for (int64_t s = begin; s < end; ++s) HWY_DYNAMIC_DISPATCH(BackwardHead)
    (x, s, i % x.heads, {x.dk, sum, s > begin}, {x.dv, sum ? sum + prefix : nullptr, s > begin},
     scratch);
  });
  if (!partial) return;
  ZeroFloats(x.dprefix_k, prefix);
  ZeroFloats(x.dprefix_v, prefix);
  for (int64_t group = 0; group < groups; ++group) {
    AddFloats(x.dprefix_k, sums + 2 * group * prefix, prefix);
    AddFloats(x.dprefix_v, sums + (2 * group + 1) * prefix, prefix);
  }
}

}  // namespace graft
#endif  // HWY_ONCE
