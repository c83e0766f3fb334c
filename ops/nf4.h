// NF4: frozen weights in 4 bits a value, with doubly quantised scales (QLoRA: Dettmers et al. 2023,
// arXiv 2305.14314; the numbers are those of bitsandbytes).
//
// A tensor is flattened in row order and cut into blocks of `block` values (the last may be
// shorter).
//   absmax_b = max |w| in block b
//   code     = index of the level that is nearest to w / absmax_b, of two the lower one
//   w'       = level[code] absmax_b
// The 16 levels are quantiles of a normal distribution, scaled to [-1, 1]. Two codes make a byte,
// the first one in its high half; a half that is left over holds the code of 0.
// Double quantisation takes the scales down from 32 bits a block to 8 and a little:
//   offset = mean of absmax;  absmax2_s = max |absmax - offset| over each 256 blocks
//   absmax code = index of the nearest of 256 entries of a map to (absmax - offset) / absmax2_s
//   absmax' = map[absmax code] absmax2_s + offset, which takes the place of absmax_b above
// So a value takes 4 + 8/64 + 32/(64 256) = 4.127 bits. All arithmetic is f32, one rounding for
// each operation, on one order of values: equal weights give equal bytes everywhere.
//
// In a ParamStore the weight NAME is four parameters of their natural types, so that each has a
// shape which the operators check, every safetensors tool can read them, and nothing needs an
// alignment or a byte order of its own as one packed blob would:
//   NAME.nf4          u8  [ceil(n/2)]         codes
//   NAME.nf4.absmax   u8  [ceil(n/block)]     absmax codes; f32, the scales, if quantised once
//   NAME.nf4.absmax2  f32 [ceil(blocks/256)]  absent if quantised once
//   NAME.nf4.offset   f32 [1]                 likewise
//
// What a method does at a dense layer y = x W' whose frozen weight w is called NAME:
//
//   const Extents e = At(g.shape(w), {});
//   const Nf4Attrs format{.rows = e[0], .cols = e[1], .block = 64, .double_quantised = true};
//   QuantizeParam(params, "NAME", format);  // puts NAME.nf4... there and erases the f32 NAME
//   g.ReplaceUses(w, Nf4Weight(g, "NAME", format));  // adds the leaves NAME.nf4... and one node
//   g.EraseDead();                                   // takes the leaf w away
//
// Nothing else changes: layers stay matmuls of a value that is called NAME and depends on
// parameters only, so branches, gradients (to x; there is none to the weight), merging (exact, as
// the sum of the dequantised weight and the branch) and folding are what they were. The step pass
// nf4_matmul (optimise.h) puts the product and what makes its weight into one kernel, which
// dequantises tiles on the way; without that pass a session would keep the whole weight in f32.
#pragma once
#include <array>

#include "ops/ops.h"
#include "runtime/params.h"

namespace graft {

constexpr int64_t kNf4LeastBlock = 32, kNf4MostBlock = 4096;
constexpr int64_t kNf4ScaleBlock = 256;  // scales that share an absmax2

// The levels as published, which bitsandbytes' code has as literals. Making them from quantiles
// would agree to 1e-7 only, because of rounding in the library that made them.
inline constexpr std::array<float, 16> kNf4Levels{-1.0f,
                                                  -0.6961928009986877f,
                                                  -0.5250730514526367f,
                                                  -0.39491748809814453f,
                                                  -0.28444138169288635f,
                                                  -0.18477343022823334f,
                                                  -0.09105003625154495f,
                                                  0.0f,
                                                  0.07958029955625534f,
                                                  0.16093020141124725f,
                                                  0.24611230194568634f,
                                                  0.33791524171829224f,
                                                  0.44070982933044434f,
                                                  0.5626170039176941f,
                                                  0.7229568362236023f,
                                                  1.0f};

// The signed dynamic map of 8 bits, sorted: for i = 0 ... 6 the midpoints of 2^i equal parts of
// [0.1, 1], times 10^(i-6), with both signs; 0 and 1.
const std::array<float, 256>& Nf4ScaleMap();

struct Nf4Tensor {
  int64_t count = 0, block = 64;
  bool double_quantised = true;
  std::vector<uint8_t> codes, absmax_codes;
  std::vector<float> absmax2;
  float offset = 0;
  std::vector<float> absmax;  // if quantised once; then the three before are empty
};

// Throws Error for a block that is no power of two from 32 to 4096, and for values that are not
// finite (`name` is for the message). A block of zeros stays zeros.
Nf4Tensor QuantizeNf4(std::span<const float> values, int64_t block, bool double_quantised,
                      std::string_view name);
// REQUIRES: out.size() == tensor.count. Scalar code, bit for bit what the kernels compute.
void DequantizeNf4(const Nf4Tensor& tensor, std::span<float> out);
// How many elements each of the parameters above has, and the bytes of all of them.
struct Nf4Sizes {
  int64_t codes, blocks, absmax2;
  int64_t bytes;
};
Nf4Sizes Nf4SizesOf(const Nf4Attrs& format);

// --- what methods call ---

// The parameters of the weight `name`, in the order in which the operators read them. Nf4ParamTypes
// throws Error for sizes and blocks that cannot be.
std::vector<std::string> Nf4ParamNames(const std::string& name, bool double_quantised);
std::vector<TensorType> Nf4ParamTypes(const Nf4Attrs& format);

// Puts the quantised form of the f32 matrix `name`, which is [rows,cols] of the format, into the
// store and erases the matrix. Memory of the store's own is freed as soon as no copy of the store
// shares it, pages of a mapped file as soon as the kernel wants them. If the matrix is gone
// already, by an earlier graph on the same store, the form that is there is checked and kept.
// Throws Error if there is neither, if what is there has other types, and as QuantizeNf4 does.
void QuantizeParam(ParamStore& params, const std::string& name, const Nf4Attrs& format);

// Adds these parameters and the node that makes the weight from them, f32 [rows,cols]. The value is
// called `name`, as the folded weight will be.
ValueId Nf4Weight(Graph& g, const std::string& name, const Nf4Attrs& format,
                  Where at = Where::Here());

// Turns matmul(a, w, p) into one nf4_matmul, where w is the result of an nf4_dequantize. `epilogue`
// holds the bias and the residual, as far as p has them. Returns what matmul returns.
ValueList Nf4Matmul(Graph& g, ValueId a, ValueId w, std::span<const ValueId> epilogue,
                    const MatmulAttrs& p, Where at = Where::Here());

}  // namespace graft
