// What the records of matrix products (matmul.cc, low_matmul.cc, nf4_matmul.cc) have in common.
#pragma once
#include <memory>

#include "ops/gemm_core.h"
#include "ops/rows.h"
#include "runtime/aligned_memory.h"
#include "runtime/io/mapped_file.h"

namespace graft {

// Which inputs of a low_matmul are its options.
inline size_t LowBiasAt(const LowMatmulAttrs& low) { return low.calibrated || low.bytes ? 3 : 2; }
inline size_t LowTimesAt(const LowMatmulAttrs& low) { return LowBiasAt(low) + low.product.bias; }

// Allocates memory for packed weights. Throws Error if there is none.
inline std::shared_ptr<float> AllocatePanels(size_t bytes) {
  return std::reinterpret_pointer_cast<float>(AllocatePiece(bytes, "packed weights"));
}

// A bound of the scratch for products of at most the plan's size: it grows with k, and with n up to
// a row of rounding.
inline size_t ScratchBound(const GemmPlan& plan) {
  const int64_t row = plan.n_block + plan.panel + plan.shape.m;
  return RoundUpAligned(plan.scratch_bytes + static_cast<size_t>(row) * sizeof(float));
}

// The plan for a run's size: where k and n depend on the batch, they are smaller for a smaller
// batch.
inline GemmPlan PlanOf(GemmPlan plan, int64_t k, int64_t n, size_t scratch_bytes) {
  if (plan.shape.k == k && plan.shape.n == n) return plan;
  plan.shape.k = k, plan.shape.n = n;
  plan = PlanGemm(plan.shape);
  GRAFT_CHECK(plan.scratch_bytes <= scratch_bytes);
  return plan;
}

// Gives back the pages of a frozen weight of so many numbers that was packed, as the copy is used
// from now on.
inline void GiveBackWeight(const float* weight, int64_t numbers) {
  GiveBackPages(weight, static_cast<size_t>(numbers) * sizeof(float));
}

// The bytes of scratch for what ProductEpilogue may copy, of n columns.
inline size_t BiasCopyBytes(const MatmulAttrs& p, int64_t n) {
  return p.bias ? static_cast<size_t>(n) * sizeof(float) : 0;
}

// Makes the epilogue of a product whose bias is input `bias` and whose residual is the last input.
// A result of one row may have taken over the memory of its bias, which is then copied.
inline GemmEpilogue ProductEpilogue(const KernelArgs& args, const MatmulAttrs& p, size_t bias,
                                    std::byte* copy) {
  const int64_t n = args.out[0].shape[1];
  GemmEpilogue e{.alpha = static_cast<float>(p.alpha)};
  if (p.bias) {
    e.bias = args.in[bias].f32();
    if (e.bias == args.out[0].data) {
      CopyFloats(reinterpret_cast<float*>(copy), e.bias, n);
      e.bias = reinterpret_cast<const float*>(copy);
    }
  }
  if (p.residual) e.residual = args.in.back().f32(), e.residual_stride = n;
  if (p.act != "none") {
    e.activation = p.act == "gelu"        ? Activation::kGeluErf
                   : p.act == "gelu_near" ? Activation::kGeluNear
                                          : Activation::kGeluTanh;
    if (args.out[1].dtype == DType::kBf16)
      e.slope16 = args.out[1].bf16();
    else
      e.slope = args.out[1].f32();
  }
  if (args.out[0].dtype == DType::kBf16) e.c16 = args.out[0].bf16();
  return e;
}

}  // namespace graft
