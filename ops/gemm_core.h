// Matrix product on Highway, for any shape and any strides: C = act(alpha A B + bias) +
// residual.
//
// Each element of C is a fixed sequence of operations: multiply-adds over blocks of k that depend
// on K alone, the blocks added in order. The bits depend on the SIMD target, but not on the number
// of threads, on M, on which rows are computed together, or on whether B was packed before.
//
//   const GemmPlan plan = PlanGemm({.m = 1576, .k = 768, .n = 3072, .b = BOrder::kPacked});
//   PackB({weight, 1, 768}, 768, 3072, packed);               // torch weight [N, K]
//   Gemm(plan, rows, {x, 768, 1}, {.packed = packed}, y, 3072, {.bias = bias}, scratch);
#pragma once
#include <cstddef>
#include <cstdint>

#include "runtime/threads.h"

namespace graft {

struct MatrixView {
  const float* data = nullptr;
  int64_t row_stride = 0, col_stride = 0;  // in elements; one of them is 1 in the fast cases
};

// What 32 bits of A and B hold along k. kF32: one number. kBf16: two, the first in the lower half.
// kInt8: four bytes, of A as unsigned, of B as signed ones. Products of bf16 are added in f32 and
// those of bytes in i32; C is f32. With other cells than kF32, k counts cells, which low_cells.h
// makes; of bytes, A lies by rows and B is packed.
enum class CellType { kF32, kBf16, kInt8 };
// The instruction that multiplies and adds cells. kAny: made of others, where the CPU lacks it.
enum class Dot { kF32, kBf16, kBf16Any, kInt8, kInt8Any };
constexpr size_t kDots = 5;
constexpr int64_t kMostInt8Cells = 1024;  // of k: sums of bytes are not cut

enum class Activation { kNone, kGeluErf, kGeluNear, kGeluTanh };

struct GemmEpilogue {
  float alpha = 1;
  const float* bias = nullptr;      // [N]
  const float* residual = nullptr;  // [M, N]; may be C itself (accumulation) if there is no
  int64_t residual_stride = 0;      // activation and no slope
  Activation activation = Activation::kNone;
  float* slope = nullptr;  // [M, N], stride of C: gets act'(alpha A B + bias)
  // In bf16, all [M, N] with the stride of C: what alpha A B + bias is multiplied by, if there is
  // no activation; the slope; and the result, C then being scratch or null.
  const uint16_t* times = nullptr;
  uint16_t *slope16 = nullptr, *c16 = nullptr;
  bool native_bf16 = false;  // round to bf16 by the CPU's instruction: HasCells(kBf16)
  // Of bytes, (A B)[m, n] = s[m] col_scale[n] (sum of products - z[m] col_sum[n]), row_range being
  // s and z of each row, [M, 2];
  // what is of columns has the length of whole panels.
  const float *row_range = nullptr, *col_scale = nullptr, *col_sum = nullptr;

  // Whether the tile's sums need nothing more once they are complete.
  bool linear() const {
    return activation == Activation::kNone && !slope && !slope16 && !c16 && !times;
  }
  // Whether all that they need is the CPU's rounding to bf16.
  bool only_rounds() const {
    return activation == Activation::kNone && !slope && !slope16 && !times && !residual && c16 &&
           native_bf16;
  }
};

enum class BOrder {
  kPacked,  // by PackB
  kRows,    // col_stride == 1
  kOther,   // any strides
  kMade,    // by a GemmSource, part by part
};

struct GemmShape {
  int64_t m = 0, k = 0, n = 0;  // m: the most rows of a call
  BOrder b = BOrder::kOther;
  bool a_by_rows = true;  // A has col_stride == 1; otherwise it is packed in the scratch
  CellType cell = CellType::kF32;
};

// Block sizes, which are a pure function of the shape and the SIMD target of this process. Planning
// allocates nothing: where k is the rows of a batch, each call is planned anew. The scratch of a
// larger k is enough.
struct GemmPlan {
  GemmShape shape;
  int64_t panel = 0;               // columns of a panel of B
  int64_t k_block = 0, group = 0;  // rows of B in a block; rows packed at once
  int64_t n_block = 0;             // columns packed at once
  bool pack_a = false, pack_b = false;
  Dot dot = Dot::kF32;
  size_t scratch_bytes = 0;
};
GemmPlan PlanGemm(const GemmShape& shape);

// Whether this CPU, and the SIMD target that runs, multiply such cells by an instruction of their
// own.
bool HasCells(CellType cell);
Dot DotOf(CellType cell);

// Packed floats lie as [panel][k][panel width], with the last panel filled up with zeros. The width
// is that of the SIMD target, so packed data belongs to this process. PackB is parallel inside.
size_t PackedBytes(int64_t k, int64_t n);
void PackB(const MatrixView& b, int64_t k, int64_t n, float* packed) noexcept;

// The width of a panel also tells which SIMD target runs: hwy::SupportedTargets() must not be
// asked, as in Highway 1.0.3 it undoes DisableTargets, so that a user's limit (--isa) would be
// lost.
constexpr int64_t kAvx512Panel = 64;  // columns of a panel with AVX-512; with less, fewer

// Rows [k, k + depth) and columns [n, n + cols) of B.
struct GemmPart {
  int64_t k, depth, n, cols;
};
// Makes B on the way, as from quantised weights: a part is packed in pieces, side by side on
// several threads. `pack` writes those floats of piece i that PackB would write of the part alone.
struct GemmSource {
  const void* context = nullptr;
  int64_t (*pieces)(const void* context, const GemmPart& part) = nullptr;
  void (*pack)(const void* context, const GemmPart& part, int64_t i, float* packed) = nullptr;
};

struct GemmB {
  const float* packed = nullptr;  // if the plan says BOrder::kPacked
  MatrixView view;                // if kRows or kOther
  GemmSource source = {};         // if kMade
};

// C has m <= plan.shape.m rows of stride ldc, and `scratch` has plan.scratch_bytes, 64-byte
// aligned. The product is parallel inside. A, B and scratch overlap neither each other nor C.
//
// With a result in bf16, C may be null where ChunkBytes is not 0: each thread then has that much of
// its own in `own`, and sums stay in its caches.
void Gemm(const GemmPlan& plan, int64_t m, const MatrixView& a, const GemmB& b, float* c,
          int64_t ldc, const GemmEpilogue& epilogue, std::byte* scratch,
          ThreadScratch own = {}) noexcept;
size_t ChunkBytes(const GemmPlan& plan);  // 0: sums over k leave a chunk before they are done

}  // namespace graft
