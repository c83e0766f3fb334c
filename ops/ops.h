// Every operator by name, its attributes, and the builders that models, methods and gradient rules
// call. Comments give shapes: R rows (tokens or sequences), C columns, S sequences, T tokens in a
// sequence, D width. Offsets are i32 [1+S]: sequence i owns rows [offsets[i], offsets[i+1]).
#pragma once
#include "runtime/op.h"

namespace graft {

// The only list of operators: declarations, tests, benchmarks and documents come from it. An
// operator that is left out has no name that anybody could use.
// clang-format off
#define GRAFT_OPS(X)                                                                              \
  /* elementwise.cc */ X(Add) X(Sub) X(Mul) X(Div) X(Scale) X(BroadcastLike)                      \
  /* activation.cc  */ X(Gelu) X(GeluNear) X(GeluTanh) X(Relu) X(Silu) X(Tanh) X(Sigmoid)        \
                     X(GeluGrad) X(GeluTanhGrad) X(ReluGrad) X(SiluGrad) X(TanhGrad) X(SigmoidGrad)\
  /* reduce.cc      */ X(SumRows) X(SumCols) X(SumAll) X(SumSquares)                              \
  /* norm.cc        */ X(LayerNorm) X(LowLayerNorm) X(LayerNormGradInput) X(LayerNormGradAffine)  \
  /* softmax.cc     */ X(Softmax)                                                                 \
  /* matmul.cc      */ X(Matmul)                                                                  \
  /* nf4_matmul.cc  */ X(Nf4Dequantize) X(Nf4Matmul)                                              \
  /* low_matmul.cc  */ X(LowMatmul)                                                               \
  /* byte_rows.cc   */ X(ByteRows)                                                                \
  /* bf16.cc        */ X(ToBf16) X(ToF32)                                                      \
  /* attention.cc   */ X(Attention) X(AttentionGrad) X(LowAttention) X(LowAttentionGrad)          \
  /* shape.cc       */ X(SliceCols) X(PadCols) X(ConcatCols) X(SliceRows) X(PadRows)              \
                     X(ConcatRows) X(Transpose) X(Patchify)                                       \
  /* heads.cc       */ X(SplitHeads) X(JoinHeads)                                              \
  /* gather.cc      */ X(GatherRows) X(ScatterAddRows)                                            \
  /* mean_rows.cc   */ X(MeanRows) X(MeanRowsGrad)                                                \
  /* sequence.cc    */ X(Offsets) X(ShiftOffsets) X(FirstRows) X(InsertTokens) X(DropTokens)      \
                     X(AddPositions) X(SumPositions) X(SegmentMean) X(SegmentMeanGrad)            \
  /* dropout.cc     */ X(Dropout)                                                                 \
  /* loss.cc        */ X(CrossEntropy) X(CrossEntropyGrad)                                        \
  /* target_loss.cc */ X(SquaredError) X(BinaryCrossEntropy)                                      \
  /* optimizer.cc   */ X(AdamW) X(Sgd) X(ClipScale)
// clang-format on

#define GRAFT_DECLARE(name) extern const OpDef k##name;
GRAFT_OPS(GRAFT_DECLARE)
#undef GRAFT_DECLARE
std::span<const OpDef* const> AllOps();

// --- elementwise.cc: b is like a, or a row vector [C], a column [R,1], or a scalar [1] ---

inline ValueId Add(Graph& g, ValueId a, ValueId b) { return g.Add1(kAdd, {a, b}); }
inline ValueId Sub(Graph& g, ValueId a, ValueId b) { return g.Add1(kSub, {a, b}); }
inline ValueId Mul(Graph& g, ValueId a, ValueId b) { return g.Add1(kMul, {a, b}); }
inline ValueId Div(Graph& g, ValueId a, ValueId b) { return g.Add1(kDiv, {a, b}); }
struct ScaleAttrs {
  double by = 1;
  bool operator==(const ScaleAttrs&) const = default;
  static void Visit(auto& self, auto&& f) { f("by", self.by); }
};
inline ValueId Scale(Graph& g, ValueId a, double by) { return g.Add1(kScale, {a}, ScaleAttrs{by}); }
// v ([C], [R,1] or [1]) repeated to the shape of `like`, whose values are not read.
inline ValueId BroadcastLike(Graph& g, ValueId v, ValueId like) {
  return g.Add1(kBroadcastLike, {v, like});
}

// --- activation.cc: the *Grad operators take (x, dy) ---

inline ValueId Gelu(Graph& g, ValueId x) { return g.Add1(kGelu, {x}); }

// --- reduce.cc ---

inline ValueId SumRows(Graph& g, ValueId x) { return g.Add1(kSumRows, {x}); }  // [R,C] -> [C]
inline ValueId SumCols(Graph& g, ValueId x) { return g.Add1(kSumCols, {x}); }  // [R,C] -> [R,1]
inline ValueId SumAll(Graph& g, ValueId x) { return g.Add1(kSumAll, {x}); }    // any -> [1]
inline ValueId SumSquares(Graph& g, ValueId x) { return g.Add1(kSumSquares, {x}); }  // any -> [1]

// --- norm.cc ---

struct NormAttrs {
  double eps = 1e-6;
  bool operator==(const NormAttrs&) const = default;
  static void Visit(auto& self, auto&& f) { f("eps", self.eps); }
};
// x [R,C], gain [C], bias [C] -> y [R,C] (and mean [R,1], rstd [R,1]; variance over C, biased).
inline ValueId LayerNorm(Graph& g, ValueId x, ValueId gain, ValueId bias, double eps,
                         Where at = Where::Here()) {
  return g.Add1(kLayerNorm, {x, gain, bias}, NormAttrs{eps}, at);
}
// kLowLayerNorm: y in bf16. kLayerNormGradInput: (x, gain, mean, rstd, dy) -> dx.
// kLayerNormGradAffine: (x, mean, rstd, dy) -> dgain [C], dbias [C].

inline ValueId Softmax(Graph& g, ValueId x) { return g.Add1(kSoftmax, {x}); }  // over columns

// --- matmul.cc ---

// op(a) op(b) * alpha, with op(a) [M,K] and op(b) [K,N]; ta, tb say that a, b are stored
// transposed. The fused forms are made by optimising passes: y = act(alpha a b + bias) + residual.
struct MatmulAttrs {
  bool ta = false, tb = false;
  double alpha = 1;
  bool bias = false;         // a third input [N]
  bool residual = false;     // a last input [M,N], added after act
  std::string act = "none";  // none | gelu | gelu_near | gelu_tanh
  // With act: result 1 is its slope act'(alpha a b + bias), by which gradients are multiplied.
  bool operator==(const MatmulAttrs&) const = default;
  static void Visit(auto& self, auto&& f) {
    f("ta", self.ta), f("tb", self.tb), f("alpha", self.alpha), f("bias", self.bias);
    f("residual", self.residual), f("act", self.act);
  }
};
inline ValueId Matmul(Graph& g, ValueId a, ValueId b, bool ta = false, bool tb = false,
                      Where at = Where::Here()) {
  return g.Add1(kMatmul, {a, b}, MatmulAttrs{.ta = ta, .tb = tb}, at);
}
// x [R,in], weight [out,in], bias [out] (may be invalid): x W' + b as matmul and add.
inline ValueId Linear(Graph& g, ValueId x, ValueId weight, ValueId bias, Where at = Where::Here()) {
  const ValueId y = Matmul(g, x, weight, false, true, at);
  return bias.valid() ? Add(g, y, bias) : y;
}

// --- low_matmul.cc ---

// kLowMatmul: inputs and results of matmul, b being a frozen weight; a and b are rounded to cells
// of bf16 or int8 (low_cells.h). Only for graphs that are compiled: the pass low_precision makes
// it of matmul.
// `calibrated` (int8, static scales): input 2, before the bias, is [2k]: the factor of each number
// of a row of a, then the inverses; `zero` is that of all rows.
// `bytes` (int8, not calibrated): a is what byte_rows makes of it, and input 2 its range.
// a may be bf16, as may b with ta. `times`: an input before the residual, bf16 [M,N], without act:
//   y = (alpha a b + bias) times + residual.
// y16, slope16: results 0 and 1 are bf16.
struct LowMatmulAttrs {
  MatmulAttrs product;
  std::string cell = "bf16";  // bf16 | int8
  bool calibrated = false, bytes = false;
  int64_t zero = 0;
  bool times = false, y16 = false, slope16 = false;
  bool operator==(const LowMatmulAttrs&) const = default;
  static void Visit(auto& self, auto&& f) {
    MatmulAttrs::Visit(self.product, f), f("cell", self.cell);
    f("calibrated", self.calibrated), f("bytes", self.bytes), f("zero", self.zero);
    f("times", self.times), f("y16", self.y16), f("slope16", self.slope16);
  }
};

// --- byte_rows.cc: kByteRows, x [R,k] -> bytes i32 [R,ceil(k/4)], range f32 [R,2]; low_cells.h ---
// --- bf16.cc: kToBf16 [..] f32 -> bf16, rounded to nearest, ties to even; kToF32 back ---

// --- nf4_matmul.cc: frozen weights of 4 bits; nf4.h has the format and what methods call ---

// A weight [rows,cols] as parameters: codes u8, absmax u8, absmax2 f32, offset f32 [1]; or, without
// the double quantisation, codes u8, absmax f32.
struct Nf4Attrs {
  int64_t rows = 1, cols = 1, block = 64;
  bool double_quantised = true;
  bool operator==(const Nf4Attrs&) const = default;
  static void Visit(auto& self, auto&& f) {
    f("rows", self.rows), f("cols", self.cols), f("block", self.block);
    f("double", self.double_quantised);
  }
};
// kNf4Dequantize: (those parameters) -> f32 [rows,cols].
//
// kNf4Matmul: (a, those parameters, then bias and residual as matmul has them) is matmul(a, w, ...)
// for w = nf4_dequantize(parameters), with the same bits and without w in memory. Only the right
// operand can be quantised: `ta` is false.
struct Nf4MatmulAttrs {
  Nf4Attrs weight;
  MatmulAttrs product;
  bool operator==(const Nf4MatmulAttrs&) const = default;
  static void Visit(auto& self, auto&& f) {
    Nf4Attrs::Visit(self.weight, f), MatmulAttrs::Visit(self.product, f);
  }
};

// --- attention.cc ---

// softmax(scale q k' + mask) v per head and sequence, never materialised beyond a tile. Inputs: q
// [Rq,D], k [Rk,D], v [Rk,D], q_offsets, kv_offsets; then with mask: [Rk,1], added to the scores of
// that key; with prefix: prefix_k [P,D], prefix_v [P,D], further keys of every sequence. Results:
// context [Rq,D], lse [Rq,heads] (log of the sum of exp of the scores).
struct AttentionAttrs {
  int64_t heads = 1;
  double scale = 1;
  bool mask = false, prefix = false;
  bool operator==(const AttentionAttrs&) const = default;
  static void Visit(auto& self, auto&& f) {
    f("heads", self.heads), f("scale", self.scale), f("mask", self.mask), f("prefix", self.prefix);
  }
};
// Inputs: those of Attention, then context, lse, dcontext. Results dq, dk, dv (and dprefix_k,
// dprefix_v). `want` names those that are computed ("q", "kv", "qkv", ...: letters q k v, and p for
// both prefix gradients); the others are [0,0] and cost nothing.
struct AttentionGradAttrs {
  int64_t heads = 1;
  double scale = 1;
  bool mask = false, prefix = false;
  std::string want = "qkv";
  bool operator==(const AttentionGradAttrs&) const = default;
  static void Visit(auto& self, auto&& f) {
    f("heads", self.heads), f("scale", self.scale), f("mask", self.mask), f("prefix", self.prefix);
    f("want", self.want);
  }
};
// kLowAttention, kLowAttentionGrad: the same with products of bf16. q, k, v, context and dcontext
// may be bf16; with context16 the result is, and of the gradients those that grads16 names.
struct LowAttentionAttrs : AttentionAttrs {
  bool context16 = false;
  bool operator==(const LowAttentionAttrs&) const = default;
  static void Visit(auto& self, auto&& f) {
    AttentionAttrs::Visit(self, f), f("context16", self.context16);
  }
};
struct LowAttentionGradAttrs : AttentionGradAttrs {
  std::string grads16 = "none";  // none, or letters of q k v
  bool operator==(const LowAttentionGradAttrs&) const = default;
  static void Visit(auto& self, auto&& f) {
    AttentionGradAttrs::Visit(self, f), f("grads16", self.grads16);
  }
};

// --- shape.cc ---

// For PadCols and PadRows there are `begin` zeros before and `count` columns or rows in all.
struct SliceAttrs {
  int64_t begin = 0, count = 0;
  bool operator==(const SliceAttrs&) const = default;
  static void Visit(auto& self, auto&& f) { f("begin", self.begin), f("count", self.count); }
};
inline ValueId SliceCols(Graph& g, ValueId x, int64_t begin, int64_t count) {
  return g.Add1(kSliceCols, {x}, SliceAttrs{begin, count});
}
inline ValueId SliceRows(Graph& g, ValueId x, int64_t begin, int64_t count) {
  return g.Add1(kSliceRows, {x}, SliceAttrs{begin, count});
}
inline ValueId ConcatCols(Graph& g, ValueId a, ValueId b) { return g.Add1(kConcatCols, {a, b}); }
inline ValueId ConcatRows(Graph& g, ValueId a, ValueId b) { return g.Add1(kConcatRows, {a, b}); }
inline ValueId Transpose(Graph& g, ValueId x) { return g.Add1(kTranspose, {x}); }  // [R,C] -> [C,R]
struct PatchifyAttrs {
  int64_t patch = 16;
  bool operator==(const PatchifyAttrs&) const = default;
  static void Visit(auto& self, auto&& f) { f("patch", self.patch); }
};
// image [S,Ch,H,W] -> [S*n, Ch*P*P], n = (H/P)(W/P) patches in row order, columns in the order of a
// convolution weight [D,Ch,P,P], so that patch embedding is a matmul.
inline ValueId Patchify(Graph& g, ValueId image, int64_t patch, Where at = Where::Here()) {
  return g.Add1(kPatchify, {image}, PatchifyAttrs{patch}, at);
}

// --- heads.cc ---

struct HeadsAttrs {
  int64_t heads = 1;
  bool operator==(const HeadsAttrs&) const = default;
  static void Visit(auto& self, auto&& f) { f("heads", self.heads); }
};
// [R,HC] -> [RH,C]: the same numbers in the same order, a row for each head. JoinHeads: the
// inverse.
inline ValueId SplitHeads(Graph& g, ValueId x, int64_t heads) {
  return g.Add1(kSplitHeads, {x}, HeadsAttrs{heads});
}
inline ValueId JoinHeads(Graph& g, ValueId x, int64_t heads) {
  return g.Add1(kJoinHeads, {x}, HeadsAttrs{heads});
}

// --- gather.cc ---

// x [R,C], rows i32 [N] -> [N,C]. An index outside [0,R) gives zeros (and adds nothing backward).
inline ValueId GatherRows(Graph& g, ValueId x, ValueId rows) {
  return g.Add1(kGatherRows, {x, rows});
}
// (y [N,C], rows i32 [N], like [R,C]) -> [R,C], equal rows added in order of N. Reads no `like`
// values.
inline ValueId ScatterAddRows(Graph& g, ValueId y, ValueId rows, ValueId like) {
  return g.Add1(kScatterAddRows, {y, rows, like});
}

// --- mean_rows.cc ---

// Groups of rows as text: "3+17,4|9" are two groups, of which the first has two parts, rows 3 and
// 17, and row 4.
struct MeanRowsAttrs {
  std::string groups;
  bool operator==(const MeanRowsAttrs&) const = default;
  static void Visit(auto& self, auto&& f) { f("groups", self.groups); }
};
// x [R,C] or [R] -> [K,C] or [K]: row k is the mean over the parts of group k of the mean of a
// part's rows.
inline ValueId MeanRows(Graph& g, ValueId x, const std::string& groups) {
  return g.Add1(kMeanRows, {x}, MeanRowsAttrs{groups});
}
// kMeanRowsGrad: (dy, x) -> dx, of x only the shape is read.

// --- sequence.cc ---

struct OffsetsAttrs {
  int64_t length = 1;
  bool operator==(const OffsetsAttrs&) const = default;
  static void Visit(auto& self, auto&& f) { f("length", self.length); }
};
// i32 [1+S]: 0, length, 2 length, ...: all sequences are of one length, as for images.
inline ValueId Offsets(Graph& g, int64_t length) {
  return g.Add1(kOffsets, {}, OffsetsAttrs{length});
}
struct ShiftAttrs {
  int64_t by = 0;
  bool operator==(const ShiftAttrs&) const = default;
  static void Visit(auto& self, auto&& f) { f("by", self.by); }
};
// offsets[i] + i*by: every sequence has grown by `by` rows.
inline ValueId ShiftOffsets(Graph& g, ValueId offsets, int64_t by) {
  return g.Add1(kShiftOffsets, {offsets}, ShiftAttrs{by});
}
// i32 [S]: the first row of every sequence, or the one `at` rows behind it, which it must have.
struct FirstRowsAttrs {
  int64_t at = 0;
  bool operator==(const FirstRowsAttrs&) const = default;
  static void Visit(auto& self, auto&& f) { f("at", self.at); }
};
inline ValueId FirstRows(Graph& g, ValueId offsets, int64_t at = 0) {
  return g.Add1(kFirstRows, {offsets}, FirstRowsAttrs{at});
}
struct TokensAttrs {
  int64_t position = 0, count = 0;
  bool operator==(const TokensAttrs&) const = default;
  static void Visit(auto& self, auto&& f) { f("position", self.position), f("count", self.count); }
};
// x [R,D], tokens [P,D], offsets of x -> [R+P*S, D]: the tokens go before row `position` of each
// sequence; `count` is P. kDropTokens (x, offsets of x) removes rows [position, position+count) of
// each sequence; the two are each other's gradient.
inline ValueId InsertTokens(Graph& g, ValueId x, ValueId tokens, ValueId offsets,
                            int64_t position) {
  const int64_t count = g.shape(tokens)[0].constant;
  return g.Add1(kInsertTokens, {x, tokens, offsets}, TokensAttrs{position, count});
}
inline ValueId DropTokens(Graph& g, ValueId x, ValueId offsets, int64_t position, int64_t count) {
  return g.Add1(kDropTokens, {x, offsets}, TokensAttrs{position, count});
}
// x [R,D], table [P,D], offsets -> x + table row by position in the sequence.
inline ValueId AddPositions(Graph& g, ValueId x, ValueId table, ValueId offsets) {
  return g.Add1(kAddPositions, {x, table, offsets});
}
// (x [R,D], offsets) -> [count,D]: row p is the sum over sequences of their row position+p.
inline ValueId SumPositions(Graph& g, ValueId x, ValueId offsets, int64_t position, int64_t count) {
  return g.Add1(kSumPositions, {x, offsets}, TokensAttrs{position, count});
}
// (x [R,D], offsets){position}: mean over rows position.. of each sequence -> [S,D].
inline ValueId SegmentMean(Graph& g, ValueId x, ValueId offsets, int64_t position = 0) {
  return g.Add1(kSegmentMean, {x, offsets}, TokensAttrs{position, 0});
}

// --- dropout.cc ---

// (x [R,C], offsets, rng i32 [2] = {step, index of the batch's first sequence here}) -> x
// mask/(1-p). With per_sequence one draw decides for a whole sequence (drop-path). The mask is a
// function of (seed, purpose, stream, step, sequence in the user's batch, position), so backward is
// the same operator on dy.
struct DropoutAttrs {
  double p = 0;
  bool per_sequence = false;
  int64_t seed = 0;
  std::string stream;  // a scope name
  bool operator==(const DropoutAttrs&) const = default;
  static void Visit(auto& self, auto&& f) {
    f("p", self.p), f("per_sequence", self.per_sequence), f("seed", self.seed),
        f("stream", self.stream);
  }
};
inline ValueId Dropout(Graph& g, ValueId x, ValueId offsets, ValueId rng, DropoutAttrs attrs) {
  return g.Add1(kDropout, {x, offsets, rng}, std::move(attrs));
}

// --- loss.cc ---

struct LossAttrs {
  double smoothing = 0;
  bool operator==(const LossAttrs&) const = default;
  static void Visit(auto& self, auto&& f) { f("smoothing", self.smoothing); }
};
// logits [S,K], labels i32 [S] -> losses [S,1] as torch's cross_entropy(reduction="none",
// label_smoothing). kCrossEntropyGrad: (logits, labels, dlosses [S,1]) -> [S,K].
inline ValueId CrossEntropy(Graph& g, ValueId logits, ValueId labels, double smoothing = 0) {
  return g.Add1(kCrossEntropy, {logits, labels}, LossAttrs{smoothing});
}

// --- target_loss.cc: logits [S,K], targets f32 [S,K] -> losses [S,1], means over the columns ---

inline ValueId SquaredError(Graph& g, ValueId z, ValueId y) {
  return g.Add1(kSquaredError, {z, y});
}
// The loss of independent yes-no questions; targets are 0, 1 or between.
inline ValueId BinaryCrossEntropy(Graph& g, ValueId z, ValueId y) {
  return g.Add1(kBinaryCrossEntropy, {z, y});
}

// --- optimizer.cc: results take the place of param and state (Graph::updates) ---

// hyper f32 [3] = {learning rate, 1 - beta1^t, 1 - beta2^t}.
struct AdamWAttrs {  // torch.optim.AdamW: p *= 1 - lr wd; p -= lr m^ / (sqrt(v^) + eps)
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  bool operator==(const AdamWAttrs&) const = default;
  static void Visit(auto& self, auto&& f) {
    f("beta1", self.beta1), f("beta2", self.beta2), f("eps", self.eps);
    f("weight_decay", self.weight_decay);
  }
};
// kAdamW: (param, gradient, m, v, hyper) -> param, m, v.
struct SgdAttrs {  // torch.optim.SGD: g += wd p; buf = momentum buf + g; p -= lr buf
  double momentum = 0.9, weight_decay = 0;
  bool operator==(const SgdAttrs&) const = default;
  static void Visit(auto& self, auto&& f) {
    f("momentum", self.momentum), f("weight_decay", self.weight_decay);
  }
};
// kSgd: (param, gradient, buffer, hyper) -> param, buffer.
struct ClipAttrs {
  double max_norm = 1;
  bool operator==(const ClipAttrs&) const = default;
  static void Visit(auto& self, auto&& f) { f("max_norm", self.max_norm); }
};
// squared norm [1] -> [1]: min(1, max_norm / (sqrt(n) + 1e-6)), torch's clip_grad_norm_.
inline ValueId ClipScale(Graph& g, ValueId squared_norm, double max_norm) {
  return g.Add1(kClipScale, {squared_norm}, ClipAttrs{max_norm});
}

}  // namespace graft
