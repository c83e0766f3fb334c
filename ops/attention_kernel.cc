#include "ops/attention_kernel.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "ops/rows.h"
#include "ops/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/attention_kernel.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "ops/attention_kernel-inl.h"
#include "ops/math-inl.h"

#ifndef GRAFT_OPS_ATTENTION_KERNEL_ONCE_
#define GRAFT_OPS_ATTENTION_KERNEL_ONCE_
namespace graft {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kMostGroups = 8;  // partial sums of a prefix gradient
// Of fewer heads, as of one image in DeiT-Ti, each becomes two tasks, or threads would wait.
constexpr int64_t kFewHeads = 6;

// One head of a sequence, and of its blocks of queries, the part-th of `parts` pieces.
struct HeadTask {
  int64_t sequence, head, part, parts;
};

// Where the gradients of a task's keys go: own rows, then the prefix.
struct KeyGradient {
  Tensor own;  // no data: not wanted
  float* prefix;
  bool add_prefix;  // to what earlier sequences of the group gave
};

}  // namespace
}  // namespace graft
#endif

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace {

// The largest of whole vectors, in two chains, as each comparison waits for the last one.
float MostOf(const float* s, int64_t count) {
  const GemmTag d;
  auto even = hn::Set(d, -kInfinity), odd = even;
  int64_t j = 0;
  for (; j + 2 * kGemmLanes <= count; j += 2 * kGemmLanes) {
    even = hn::Max(even, hn::LoadU(d, s + j));
    odd = hn::Max(odd, hn::LoadU(d, s + j + kGemmLanes));
  }
  if (j < count) even = hn::Max(even, hn::LoadU(d, s + j));
  return hn::GetLane(hn::MaxOfLanes(d, hn::Max(even, odd)));
}

// Of each row of a block.
struct BlockSums {
  float most[kMostBlockRows], total[kMostBlockRows];  // total: of exp(s - most)
  float lse[kMostBlockRows], inverse[kMostBlockRows];
};

// The cells of a row without any key, unless Max has dropped a NaN; what stands for its total.
template <Dot kDot>
float FillRow(const float* s, int64_t padded, float most, float* cells) {
  const GemmTag d;
  float all = most;
  for (int64_t j = 0; j < padded; ++j) all += s[j];
  const float fill = std::isnan(all) ? all : 0;
  for (int64_t j = 0; j < padded; j += kGemmLanes) StoreCells<kDot>(hn::Set(d, fill), cells, j);
  return fill;
}

// Scores of a row -> cells of exp(s - most); their sum.
template <Dot kDot>
float ExpRow(const float* s, int64_t padded, float most, float* cells) {
  const GemmTag d;
  const auto shift = hn::Set(d, kDot == Dot::kBf16 ? most * kLog2E : most);
  auto sum = hn::Zero(d);
  for (int64_t j = 0; j < padded; j += kGemmLanes) {
    const auto x = hn::LoadU(d, s + j);
    const auto e = kDot == Dot::kBf16 ? ExpNear(d, x, shift) : ExpOfNegative(d, hn::Sub(x, shift));
    StoreCells<kDot>(e, cells, j);
    sum = hn::Add(sum, e);
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

// Scores of a block's rows -> cells of exp(s - most), unnormalised, where the scores are or before
// them; what normalises the rows. One loop for each step, as the rows of one do not wait for each
// other.
template <Dot kDot>
void SoftmaxRows(const Head& h, int64_t rows, float* scores, BlockSums* sums) {
  for (int64_t r = 0; r < rows; ++r) {
    float* s = scores + r * h.padded;
    for (int64_t j = h.keys; j < h.padded; ++j) s[j] = -kInfinity;
    sums->most[r] = MostOf(s, h.padded);
  }
  for (int64_t r = 0; r < rows; ++r) {
    const float* s = scores + r * h.padded;
    float* cells = scores + r * h.padded / kNumbers<kDot>;  // not ahead of the row's scores
    const float most = sums->most[r];
    sums->total[r] = most > -kInfinity ? ExpRow<kDot>(s, h.padded, most, cells)
                                       : FillRow<kDot>(s, h.padded, most, cells);
  }
  const GemmTag d;
  std::fill(sums->total + rows, sums->total + RoundUp(rows, kGemmLanes), 1.0f);
  for (int64_t r = 0; r < rows && kDot == Dot::kBf16; r += kGemmLanes)
    hn::StoreU(LogNear(d, hn::LoadU(d, sums->total + r)), d, sums->lse + r);
  for (int64_t r = 0; r < rows; ++r) {
    const float total = sums->total[r], log = kDot == Dot::kBf16 ? sums->lse[r] : std::log(total);
    sums->lse[r] = total == 0 ? -kInfinity : sums->most[r] + log;
    sums->inverse[r] = total == 0 ? 0 : 1 / total;
  }
}

template <Dot kDot>
void ForwardHeadBy(const AttentionArgs& x, const HeadTask& task, const Tensor& context, float* lse,
                   float* scratch) {
  const int64_t head = task.head;
  Workspace w{scratch};
  const Head h = MakeHead(x, task.sequence, head, w);
  const Piece blocks = EvenPiece(h.blocks, task.parts, task.part);
  if (blocks.size == 0) return;
  const int64_t block_rows = BlockRows(h.padded);
  float* copy = w.Take(h.keys * h.cols);
  const float* kt = PackTranspose<kDot>(h, CopyKeys(h, x.k, h.prefix_k, copy),
                                        w.Take(PackedFloats(h.d, h.padded)));
  const float* v = PairRows<kDot>(h.keys, h.cols, CopyKeys(h, x.v, h.prefix_v, copy),
                                  w.Take(PairedFloats<kDot>(h.keys, h.cols)));
  float* scores = w.Take(block_rows * h.padded);
  float* q = w.Take(block_rows * h.cols);
  float* out = w.Take(block_rows * h.cols);
  for (int64_t block = blocks.begin; block < blocks.begin + blocks.size; ++block) {
    const Piece rows = EvenPiece(h.queries.size(), h.blocks, block);
    const int64_t first = h.queries.begin + rows.begin;
    CopyBlock(h, x.q, first, rows.size, x.scale, q);
    PairCols<kDot>(rows.size, h.cols, q);
    ProductKeys<kDot>(h, rows.size, q, kt, h.bias, scores);
    BlockSums sums;
    SoftmaxRows<kDot>(h, rows.size, scores, &sums);
    for (int64_t r = 0; r < rows.size; ++r) lse[(first + r) * x.heads + head] = sums.lse[r];
    ProductCols<kDot>(h, rows.size, h.keys, 1, {scores, h.padded / kNumbers<kDot>, 1}, v, out,
                      false);
    for (int64_t r = 0; r < rows.size; ++r) {
      float* row = out + r * h.cols;
      for (int64_t c = 0; c < h.d; ++c) row[c] *= sums.inverse[r];
      StoreRow(h, kDot == Dot::kBf16, row, context, first + r);
    }
  }
}

void ForwardHead(const AttentionArgs& x, const HeadTask& task, const Tensor& context, float* lse,
                 float* scratch) {
#if HWY_TARGET == HWY_AVX3  // others have no such instruction
  if (x.dot == Dot::kBf16) return ForwardHeadBy<Dot::kBf16>(x, task, context, lse, scratch);
#endif
  if (x.dot == Dot::kBf16Any) return ForwardHeadBy<Dot::kBf16Any>(x, task, context, lse, scratch);
  ForwardHeadBy<Dot::kF32>(x, task, context, lse, scratch);
}

// s -> p = exp(s - lse); dp -> ds = p (dp - delta), unless dp is null.
template <Dot kDot>
void ProbabilityRow(float* s, float* dp, int64_t padded, float lse, float delta) {
  const GemmTag d;
  if (lse == -kInfinity) {
    ZeroFloats(s, padded);
    if (dp) ZeroFloats(dp, padded);
    return;
  }
  const auto shift = hn::Set(d, kDot == Dot::kBf16 ? lse * kLog2E : lse);
  const auto vdelta = hn::Set(d, delta);
  for (int64_t j = 0; j < padded; j += kGemmLanes) {
    const auto x = hn::LoadU(d, s + j);
    const auto p = kDot == Dot::kBf16 ? ExpNear(d, x, shift) : Exp(d, hn::Sub(x, shift));
    hn::StoreU(p, d, s + j);
    if (!dp) continue;
    const auto change = hn::Sub(hn::LoadU(d, dp + j), vdelta);
    hn::StoreU(hn::Mul(p, change), d, dp + j);
  }
}

template <class T>
float InnerProduct(const float* a, const T* b, int64_t count) {
  const GemmTag d;
  auto sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + kGemmLanes <= count; i += kGemmLanes)
    sum = hn::MulAdd(hn::LoadU(d, a + i), LoadNumbers(d, b + i), sum);
  float total = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < count; ++i) total += a[i] * Number(b + i);
  return total;
}

// Sums [keys, cols] to where they belong. No query at all: zeros.
void StoreKeys(const Head& h, bool native, float* sums, const KeyGradient& to) {
  const int64_t own = h.rows.size();
  if (h.blocks == 0) std::fill_n(sums, h.keys * h.cols, 0.0f);
  for (int64_t j = 0; j < own && to.own.data; ++j)
    StoreRow(h, native, sums + j * h.cols, to.own, h.rows.begin + j);
  for (int64_t j = own; j < h.keys && to.prefix; ++j) {
    float* out = to.prefix + (j - own) * h.width + h.first_col;
    const float* sum = sums + j * h.cols;
    for (int64_t c = 0; c < h.d; ++c) out[c] = to.add_prefix ? out[c] + sum[c] : sum[c];
  }
}

// The keys whose gradients are wanted: own ones, those of the prefix, or both, which are adjacent.
Segment WantedKeys(const Head& h, const KeyGradient& to) {
  return {to.own.data ? 0 : h.rows.size(), to.prefix ? h.keys : h.rows.size()};
}

template <Dot kDot>
void BackwardHeadBy(const AttentionGradArgs& x, int64_t sequence, int64_t head,
                    const KeyGradient& dk, const KeyGradient& dv, float* scratch) {
  Workspace w{scratch};
  const Head h = MakeHead(x, sequence, head, w);
  const bool want_k = dk.own.data || dk.prefix, want_v = dv.own.data || dv.prefix;
  const bool want_s = want_k || x.dq.data, native = kDot == Dot::kBf16;
  const int64_t packed = PackedFloats(h.d, h.padded), block_rows = BlockRows(h.padded);
  const Segment for_k = WantedKeys(h, dk), for_v = WantedKeys(h, dv);
  float* copy = w.Take(h.keys * h.cols);
  float *kt = w.Take(packed), *vt = w.Take(packed);
  if (want_s) PackTranspose<kDot>(h, CopyKeys(h, x.v, h.prefix_v, copy), vt);
  CopyKeys(h, x.k, h.prefix_k, copy);
  const float* k = PairRows<kDot>(h.keys, h.cols, copy, w.Take(PairedFloats<kDot>(h.keys, h.cols)));
  PackTranspose<kDot>(h, copy, kt);
  float *sum_k = w.Take(h.keys * h.cols), *sum_v = w.Take(h.keys * h.cols);
  float *p = w.Take(block_rows * h.padded), *ds = w.Take(block_rows * h.padded);
  float *q = w.Take(block_rows * h.cols), *dcontext = w.Take(block_rows * h.cols);
  float* dq = w.Take(block_rows * h.cols);
  const int64_t pairs = PairedFloats<kDot>(block_rows, h.cols);
  float *q_pairs = w.Take(pairs), *dcontext_pairs = w.Take(pairs);
  float* scores_pairs = w.Take(PairedFloats<kDot>(block_rows, h.padded));
  for (int64_t block = 0; block < h.blocks; ++block) {
    const Piece rows = EvenPiece(h.queries.size(), h.blocks, block);
    const int64_t first = h.queries.begin + rows.begin;
    CopyBlock(h, x.q, first, rows.size, x.scale, q);
    CopyBlock(h, x.dcontext, first, rows.size, 1, dcontext);
    float delta[kMostBlockRows] = {};
    for (int64_t r = 0; r < rows.size && want_s; ++r)
      WithNumbers(x.context, (first + r) * h.width + h.first_col, [&](const auto* context) {
        delta[r] = InnerProduct(dcontext + r * h.cols, context, h.d);
      });
    const float* q_right = PairRows<kDot>(rows.size, h.cols, q, q_pairs);
    const float* dcontext_right = PairRows<kDot>(rows.size, h.cols, dcontext, dcontext_pairs);
    PairCols<kDot>(rows.size, h.cols, q);
    PairCols<kDot>(rows.size, h.cols, dcontext);
    ProductKeys<kDot>(h, rows.size, q, kt, h.bias, p);
    if (want_s) ProductKeys<kDot>(h, rows.size, dcontext, vt, nullptr, ds);
    for (int64_t r = 0; r < rows.size; ++r)
      ProbabilityRow<kDot>(p + r * h.padded, want_s ? ds + r * h.padded : nullptr, h.padded,
                           x.lse[(first + r) * x.heads + head], delta[r]);
    // Transposed, the sum is over the rows of the block.
    if (want_v) {
      const float* left = PairRows<kDot>(rows.size, h.padded, p, scores_pairs);
      ProductCols<kDot>(h, for_v.size(), rows.size, 1, {left + for_v.begin, 1, h.padded},
                        dcontext_right, sum_v + for_v.begin * h.cols, block > 0);
    }
    if (want_k) {  // q has the factor `scale`
      const float* left = PairRows<kDot>(rows.size, h.padded, ds, scores_pairs);
      ProductCols<kDot>(h, for_k.size(), rows.size, 1, {left + for_k.begin, 1, h.padded}, q_right,
                        sum_k + for_k.begin * h.cols, block > 0);
    }
    if (!x.dq.data) continue;
    if (kDot != Dot::kF32 && h.keys % 2 != 0)  // its pair is no key and may be anything
      for (int64_t r = 0; r < rows.size; ++r) ds[r * h.padded + h.keys] = 0;
    PairCols<kDot>(rows.size, h.padded, ds);
    ProductCols<kDot>(h, rows.size, h.keys, x.scale, {ds, h.padded / kNumbers<kDot>, 1}, k, dq,
                      false);
    for (int64_t r = 0; r < rows.size; ++r) StoreRow(h, native, dq + r * h.cols, x.dq, first + r);
  }
  if (want_k) StoreKeys(h, native, sum_k, dk);
  if (want_v) StoreKeys(h, native, sum_v, dv);
}

void BackwardHead(const AttentionGradArgs& x, int64_t sequence, int64_t head, const KeyGradient& dk,
                  const KeyGradient& dv, float* scratch) {
#if HWY_TARGET == HWY_AVX3
  if (x.dot == Dot::kBf16) return BackwardHeadBy<Dot::kBf16>(x, sequence, head, dk, dv, scratch);
#endif
  if (x.dot == Dot::kBf16Any)
    return BackwardHeadBy<Dot::kBf16Any>(x, sequence, head, dk, dv, scratch);
  BackwardHeadBy<Dot::kF32>(x, sequence, head, dk, dv, scratch);
}

// Scratch of a task with that many keys at most.
int64_t TaskFloats(int64_t keys, int64_t d, bool gradient, bool pairs) {
  const int64_t padded = PaddedRow(keys), cols = PaddedRow(d);
  const int64_t scores = std::max(kScoreFloats, 24 * padded), packed = PackedFloats(d, padded);
  const int64_t block = kMostBlockRows * cols, copy = keys * cols;
  const int64_t pieces = 16 * 12;  // rounding
  // Pairs of rows are half of what they are made from, and a row more.
  const int64_t paired = (copy + cols) / 2, paired_blocks = (2 * block + scores) / 2 + 2 * padded;
  return padded + pieces + (pairs ? paired + (gradient ? paired_blocks : 0) : 0) +
         (gradient ? 3 * copy + 2 * packed + 2 * scores + 3 * block
                   : copy + packed + scores + 2 * block);
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

// Runs task(i, scratch) for i < tasks; which thread takes which task is left to chance.
template <class F>
void ForTasks(const AttentionArgs& x, int64_t tasks, const F& task) noexcept {
  ParallelForThreads(tasks, x.own.threads, [&](int64_t i, int thread) {
    task(i, reinterpret_cast<float*>(x.own.of(thread)));
  });
}

void ZeroRows(const int32_t* offsets, int64_t sequences, int64_t rows, const Tensor& out,
              int64_t width) {
  if (out.dtype == DType::kBf16)
    ZeroGaps(offsets, sequences, rows, width, out.bf16());
  else
    ZeroGaps(offsets, sequences, rows, width, out.f32());
}

}  // namespace

AttentionScratch PlanAttention(const AttentionSizes& most, bool gradient, bool prefix_gradient,
                               Dot dot) {
  AttentionScratch plan;
  if (prefix_gradient)
    plan.bytes =
        static_cast<size_t>(RoundUp(2 * kMostGroups * most.prefix_rows * most.heads * most.d, 16)) *
        sizeof(float);
  const int64_t floats = HWY_DYNAMIC_DISPATCH(TaskFloats)(most.kv_rows + most.prefix_rows, most.d,
                                                          gradient, dot != Dot::kF32);
  plan.thread_bytes = static_cast<size_t>(RoundUp(floats, 16)) * sizeof(float);
  return plan;
}

void AttentionForward(const AttentionArgs& x, const Tensor& context, float* lse) noexcept {
  ZeroRows(x.q_offsets, x.sequences, x.q_rows, context, x.heads * x.d);
  ZeroGaps(x.q_offsets, x.sequences, x.q_rows, x.heads, lse);
  const int64_t heads = x.sequences * x.heads, parts = heads < kFewHeads ? 2 : 1;
  ForTasks(x, heads * parts, [&](int64_t i, float* scratch) {
    const int64_t head = i / parts;
    HWY_DYNAMIC_DISPATCH(ForwardHead)
    (x, {head / x.heads, head % x.heads, i % parts, parts}, context, lse, scratch);
  });
}

// Prefix gradients are summed over the sequences of a group by its task, in order, then over
// groups.
void AttentionBackward(const AttentionGradArgs& x) noexcept {
  const int64_t width = x.heads * x.d, prefix = x.prefix_rows * width;
  if (x.dq.data) ZeroRows(x.q_offsets, x.sequences, x.q_rows, x.dq, width);
  for (const Tensor& out : {x.dk, x.dv})
    if (out.data) ZeroRows(x.kv_offsets, x.sequences, x.kv_rows, out, width);
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
