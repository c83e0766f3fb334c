// What the records of attention and of attention in low precision share: where inputs are, costs,
// and the way to the kernels. Both parts are templates over the attributes P: AttentionAttrs,
// AttentionGradAttrs or those that derive from them.
#pragma once
#include <algorithm>
#include <string>

#include "ops/attention_kernel.h"
#include "ops/low_cells.h"
#include "ops/rows.h"

namespace graft {

enum AttentionInput : size_t { kQ, kK, kV, kQOffsets, kKvOffsets, kFirstOption };

// Where the optional inputs and those of the gradient are.
template <class P>
struct AttentionInputs {
  size_t mask, prefix, context, lse, dcontext, count;
  AttentionInputs(const P& p, bool gradient)
      : mask(kFirstOption),
        prefix(mask + p.mask),
        context(prefix + 2 * p.prefix),
        lse(context + 1),
        dcontext(lse + 1),
        count(context + (gradient ? 3 : 0)) {}
};

inline bool Wants(const AttentionGradAttrs& p, char what) {
  return p.want.find(what) != std::string::npos;
}

// Multiply-adds of one of the products, if all sequences have the same length.
template <class P>
double ProductFlops(std::span<const Extents> in, const P& p) {
  const AttentionInputs<P> at(p, false);
  const double sequences = std::max(1.0, static_cast<double>(SequencesOf(in[kQOffsets])));
  const double prefix = p.prefix ? static_cast<double>(in[at.prefix][0]) : 0;
  const double keys = static_cast<double>(in[kK][0]) / sequences + prefix;
  return 2 * static_cast<double>(in[kQ].size()) * keys;
}

template <class P>
Cost AttentionCost(const CostArgs& args) {
  Cost cost = MoveCost(args);
  cost.flops = 2 * ProductFlops(args.in, args.attrs.As<P>());
  return cost;
}

template <class P>
Cost AttentionGradCost(const CostArgs& args) {
  const P& p = args.attrs.As<P>();
  Cost cost = MoveCost(args);
  const bool scores = Wants(p, 'q') || Wants(p, 'k') || Wants(p, 'p');  // else only dv, from p
  const bool keys = Wants(p, 'k') || Wants(p, 'p'), values = Wants(p, 'v') || Wants(p, 'p');
  cost.flops = ProductFlops(args.in, p) * (1 + scores + Wants(p, 'q') + keys + values);
  return cost;
}

template <class P>
AttentionSizes AttentionSizesOf(const PrepareArgs& a, const P& p) {
  const AttentionInputs<P> at(p, false);
  return {
      a.in[kQOffsets][0] - 1,           p.heads, a.in[kQ][1] / p.heads, a.in[kQ][0], a.in[kK][0],
      p.prefix ? a.in[at.prefix][0] : 0};
}

template <class P>
AttentionArgs AttentionArgsOf(const KernelArgs& a, const P& p) {
  const AttentionInputs<P> at(p, false);
  AttentionArgs x;
  x.sequences = SequencesOf(a.in[kQOffsets].shape);
  x.heads = p.heads;
  x.d = a.in[kQ].shape[1] / p.heads;
  x.q_rows = a.in[kQ].shape[0];
  x.kv_rows = a.in[kK].shape[0];
  x.prefix_rows = p.prefix ? a.in[at.prefix].shape[0] : 0;
  x.scale = static_cast<float>(p.scale);
  x.q = a.in[kQ], x.k = a.in[kK], x.v = a.in[kV];
  x.q_offsets = a.in[kQOffsets].i32(), x.kv_offsets = a.in[kKvOffsets].i32();
  x.mask = p.mask ? a.in[at.mask].f32() : nullptr;
  x.prefix_k = p.prefix ? a.in[at.prefix].f32() : nullptr;
  x.prefix_v = p.prefix ? a.in[at.prefix + 1].f32() : nullptr;
  x.scratch = a.scratch;
  x.own = a.own;
  return x;
}

template <class P, CellType kCell>
void RunAttention(const KernelArgs& a) noexcept {
  AttentionArgs x = AttentionArgsOf(a, a.attrs.As<P>());
  x.dot = DotOf(kCell);
  AttentionForward(x, a.out[0], a.out[1].f32());
}

template <class P, CellType kCell>
void RunAttentionGrad(const KernelArgs& a) noexcept {
  const P& p = a.attrs.As<P>();
  const AttentionInputs<P> at(p, true);
  AttentionGradArgs x;
  static_cast<AttentionArgs&>(x) = AttentionArgsOf(a, p);
  x.dot = DotOf(kCell);
  x.context = a.in[at.context], x.dcontext = a.in[at.dcontext];
  x.lse = a.in[at.lse].f32();
  if (Wants(p, 'q')) x.dq = a.out[0];
  if (Wants(p, 'k')) x.dk = a.out[1];
  if (Wants(p, 'v')) x.dv = a.out[2];
  if (Wants(p, 'p')) x.dprefix_k = a.out[3].f32(), x.dprefix_v = a.out[4].f32();
  AttentionBackward(x);
}

template <class P, bool kGradient, CellType kCell>
Prepared PrepareAttention(const PrepareArgs& a) {
  const P& p = a.attrs.As<P>();
  bool prefix_gradient = false;
  if constexpr (kGradient) prefix_gradient = Wants(p, 'p');
  const AttentionScratch plan =
      PlanAttention(AttentionSizesOf(a, p), kGradient, prefix_gradient, DotOf(kCell));
  Prepared prepared;
  if constexpr (kGradient)
    prepared.run = RunAttentionGrad<P, kCell>;
  else
    prepared.run = RunAttention<P, kCell>;
  prepared.scratch = plan.bytes;
  prepared.thread_scratch = plan.thread_bytes;
  if (kCell != CellType::kF32) prepared.impl = HasCells(kCell) ? "simd:bf16" : "simd:bf16:emulated";
  return prepared;
}

}  // namespace graft
