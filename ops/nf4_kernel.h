// SIMD code of the operators on quantised weights (nf4_matmul.cc): it makes parts of a weight in
// f32, as plain rows or packed for matrix products. Nothing here allocates or throws.
#pragma once
#include "ops/gemm_core.h"
#include "ops/nf4.h"

namespace graft {

// The bytes of a quantised weight [rows,cols] where they lie; see nf4.h.
struct Nf4View {
  int64_t rows = 0, cols = 0;
  int block_shift = 6;  // log2 of the block
  const uint8_t* codes = nullptr;
  const uint8_t* absmax_codes = nullptr;  // null if quantised once
  const float* absmax2 = nullptr;
  float offset = 0;
  const float* absmax = nullptr;     // if quantised once
  const float* scale_map = nullptr;  // Nf4ScaleMap
};
// `params` are the tensors that the operators read, in their order.
Nf4View ViewNf4(const Nf4Attrs& format, std::span<const Tensor> params);

// Makes the values [begin, begin + count) of the flattened weight.
void DequantizeNf4(const Nf4View& w, int64_t begin, int64_t count, float* out);

// W' [cols,rows] (transposed) or W as the right operand of a product. The view must outlive it.
GemmSource Nf4Source(const Nf4View& w, bool transposed);

}  // namespace graft
