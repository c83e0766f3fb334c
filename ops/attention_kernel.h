// The kernels of attention and its gradient on plain pointers; the formulas are in attention.cc.
//
// One task is one (sequence, head); in the gradient of prefixes, a group of sequences. A task packs
// its keys and values, then walks over blocks of query rows whose scores stay in L2. No result
// depends on the number of threads, and a forward result on no other sequence.
#pragma once
#include <cstddef>
#include <cstdint>

#include "ops/gemm_core.h"
#include "runtime/tensor_type.h"
#include "runtime/threads.h"

namespace graft {

struct AttentionSizes {  // the largest of a session
  int64_t sequences = 0, heads = 1, d = 0, q_rows = 0, kv_rows = 0, prefix_rows = 0;
};

// Partial sums of prefix gradients, and what a task wants.
struct AttentionScratch {
  size_t bytes = 0, thread_bytes = 0;
};
AttentionScratch PlanAttention(const AttentionSizes& most, bool gradient, bool prefix_gradient,
                               Dot dot);

struct AttentionArgs {
  int64_t sequences = 0, heads = 1, d = 0, q_rows = 0, kv_rows = 0, prefix_rows = 0;
  float scale = 1;
  Dot dot = Dot::kF32;  // or one of bf16: what the products multiply; softmax and sums are f32
  Tensor q, k, v;       // [rows, heads * d], f32 or bf16
  const int32_t *q_offsets = nullptr, *kv_offsets = nullptr;  // [1 + sequences]
  const float* mask = nullptr;                                // [kv_rows], or null
  const float *prefix_k = nullptr, *prefix_v = nullptr;       // [prefix_rows, heads * d], or null
  std::byte* scratch = nullptr;
  ThreadScratch own = {};
};
struct AttentionGradArgs : AttentionArgs {
  Tensor context, dcontext;  // f32 or bf16, as what follows
  const float* lse = nullptr;
  Tensor dq, dk, dv;                                 // no data if not wanted
  float *dprefix_k = nullptr, *dprefix_v = nullptr;  // both or none
};

void AttentionForward(const AttentionArgs& args, const Tensor& context, float* lse) noexcept;
void AttentionBackward(const AttentionGradArgs& args) noexcept;

}  // namespace graft
