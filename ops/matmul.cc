// matmul: act(alpha op(a) op(b) + bias) + residual, the one dense product of the runtime. Its
// gradient is made of matmuls again. Which kernel serves a shape is decided in `prepare`.
#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "ops/kernel_choice.h"
#include "ops/onednn_gemm.h"
#include "ops/product.h"
#include "ops/records.h"
#include "ops/rows.h"

namespace graft {
namespace {

constexpr std::string_view kNoAct = "none";

// op(a) [m,k], op(b) [k,n].
template <class D>
struct Sizes {
  D m, k, k_of_b, n;
};
template <class D, class S>
Sizes<D> SizesOf(const S& a, const S& b, const MatmulAttrs& p) {
  return {a[p.ta ? 1 : 0], a[p.ta ? 0 : 1], b[p.tb ? 1 : 0], b[p.tb ? 0 : 1]};
}

std::vector<TensorType> InferMatmul(Types in, const Attrs& attrs) {
  const MatmulAttrs& p = attrs.As<MatmulAttrs>();
  ExpectInputs(in, size_t{2} + p.bias + p.residual);
  ExpectMatrix(in[0], "a");
  ExpectMatrix(in[1], "b");
  const Sizes<Dim> d = SizesOf<Dim>(in[0].shape, in[1].shape, p);
  if (!(d.k == d.k_of_b))
    Fail("inner dimensions differ: {} of a, {} of b", ToString(d.k), ToString(d.k_of_b));
  const TensorType out{DType::kF32, {d.m, d.n}};
  if (p.bias && !(in[2] == TensorType{DType::kF32, {d.n}}))
    Fail("bias: expected f32[{}], found {}", ToString(d.n), ToString(in[2]));
  if (p.residual && !(in.back() == out))
    Fail("residual: expected {}, found {}", ToString(out), ToString(in.back()));
  if (p.act != kNoAct && p.act != "gelu" && p.act != "gelu_near" && p.act != "gelu_tanh")
    Fail("unknown act '{}'; known: none, gelu, gelu_near, gelu_tanh", p.act);
  return p.act == kNoAct ? std::vector{out} : std::vector{out, out};
}

// x [rows, cols] as it is; [cols, rows], if transposed, as [rows, cols].
std::vector<double> AsRows(const std::vector<double>& x, int64_t rows, int64_t cols,
                           bool transposed) {
  if (!transposed) return x;
  std::vector<double> out;
  out.reserve(x.size());
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) out.push_back(x[static_cast<size_t>(c * rows + r)]);
  return out;
}

// Each element is one sum over k, in order; those of a row are made together, which spares tests
// the wait for one addition after the other.
void RefMatmul(const ReferenceArgs& args) {
  const MatmulAttrs& p = args.attrs.As<MatmulAttrs>();
  const Sizes<int64_t> d = SizesOf<int64_t>(args.in_shape[0], args.in_shape[1], p);
  const std::vector<double> a = AsRows(args.in[0], d.m, d.k, p.ta);
  const std::vector<double> b = AsRows(args.in[1], d.k, d.n, p.tb);
  std::vector<double> sums(static_cast<size_t>(d.n));
  for (int64_t i = 0; i < d.m; ++i) {
    std::ranges::fill(sums, 0.0);
    for (int64_t x = 0; x < d.k; ++x) {
      const double factor = a[static_cast<size_t>(i * d.k + x)];
      const double* row = b.data() + x * d.n;
      for (int64_t j = 0; j < d.n; ++j) sums[static_cast<size_t>(j)] += factor * row[j];
    }
    for (int64_t j = 0; j < d.n; ++j) {
      double y = p.alpha * sums[static_cast<size_t>(j)] + (p.bias ? args.in[2][j] : 0);
      const size_t e = static_cast<size_t>(i * d.n + j);
      if (p.act != kNoAct) {
        const Activated64 activated = p.act == "gelu"        ? Gelu64(y)
                                      : p.act == "gelu_near" ? GeluNear64(y)
                                                             : GeluTanh64(y);
        args.out[1][e] = activated.slope, y = activated.y;
      }
      args.out[0][e] = y + (p.residual ? args.in.back()[e] : 0);
    }
  }
}

// With p = alpha op(a) op(b) + bias, y = act(p) + residual:
//   dp = act'(p) dy,  d op(a) = alpha dp op(b)',  d op(b) = alpha op(a)' dp,  dbias = sum of rows
//   of dp.
std::vector<ValueId> MatmulGradient(const GradientArgs& v) {
  const MatmulAttrs& p = v.attrs.As<MatmulAttrs>();
  Graph& g = v.g;
  std::vector<ValueId> d(v.in.size());
  const ValueId a = v.in[0], b = v.in[1], dy = v.cotangent[0];
  if (p.residual && v.need.back()) d.back() = dy;
  ValueId dp = dy;
  const bool want_dp = v.need[0] || v.need[1] || (p.bias && v.need[2]);
  if (p.act != kNoAct) {
    if (v.cotangent[1].valid()) Fail("matmul has no gradient through its slope");
    if (want_dp && dy.valid()) dp = Mul(g, dy, v.out[1]);
  }
  if (!want_dp || !dp.valid()) return d;
  auto product = [&](ValueId l, ValueId r, bool tl, bool tr) {
    return g.Add1(kMatmul, {l, r}, MatmulAttrs{.ta = tl, .tb = tr, .alpha = p.alpha});
  };
  if (v.need[0]) d[0] = p.ta ? product(b, dp, p.tb, true) : product(dp, b, false, !p.tb);
  if (v.need[1]) d[1] = p.tb ? product(dp, a, true, p.ta) : product(a, dp, !p.ta, false);
  if (p.bias && v.need[2]) d[2] = SumRows(g, dp);
  return d;
}

Cost MatmulCost(const CostArgs& args) {
  const MatmulAttrs& p = args.attrs.As<MatmulAttrs>();
  const double k = static_cast<double>(args.in[0][p.ta ? 0 : 1]);
  const double elements = static_cast<double>(args.out[0].size());
  Cost cost = MoveCost(args);
  cost.flops = elements * (2 * k + p.bias + p.residual + (p.act == kNoAct ? 0 : 20));
  return cost;
}

// --- kernels ---
// prepare picks, as a function of shapes and SIMD target:
//   packed    b is a frozen weight and rows are few: its panels are packed once.
//   thin      a reduction over the rows of the batch with a thin result (low-rank gradients:
//             dA = dh' x, dB = dy' h): its short side becomes the rows, so that the long operand is
//             streamed as it lies; the product goes to the scratch, then is transposed and added.
//   otherwise gemm_core packs what it wants packed at every run.
// oneDNN serves what PreferOnednn gives it.

constexpr int64_t kThin = 16;
// A weight is packed at every run if there are many rows: this saves a copy of it, or two if it
// serves forward and backward. The number is an estimate (packing 768 x 3072 takes about 1 ms, 3 %
// of a product of some 700 rows at 100 GF/s) and has not been measured on whole models.
constexpr int64_t kPackOnceRows = 1024;

struct MatmulState {
  GemmPlan plan;
  std::optional<OnednnGemm> onednn;     // for plan.shape.k only
  bool swap = false;                    // a thin product: computes the transpose
  size_t gemm_scratch = 0;              // bytes; behind it a copy of the bias or a thin product
  std::shared_ptr<const float> packed;  // b
  KernelChoice choice;
};

MatrixView View(const float* data, int64_t cols, bool transposed) {
  return transposed ? MatrixView{data, 1, cols} : MatrixView{data, cols, 1};
}
MatrixView Flip(const MatrixView& x) { return {x.data, x.col_stride, x.row_stride}; }

void RunGeneral(const KernelArgs& args) noexcept {
  const MatmulAttrs& p = args.attrs.As<MatmulAttrs>();
  const MatmulState& state = *static_cast<const MatmulState*>(args.state);
  const Sizes<int64_t> d = SizesOf<int64_t>(args.in[0].shape, args.in[1].shape, p);
  if (d.m == 0 || d.n == 0) return;
  const float *a = args.in[0].f32(), *b = args.in[1].f32();
  float* y = args.out[0].f32();
  const GemmEpilogue e = ProductEpilogue(args, p, 2, args.scratch + state.gemm_scratch);
  if (state.onednn && d.k == state.plan.shape.k && d.n == state.plan.shape.n) {
    state.onednn->Run(d.m, a, b, e.bias, e.residual, y, args.scratch, args.own);
    return;
  }
  Gemm(PlanOf(state.plan, d.k, d.n, state.gemm_scratch), d.m, View(a, args.in[0].shape[1], p.ta),
       {state.packed.get(), View(b, args.in[1].shape[1], p.tb)}, y, d.n, e, args.scratch);
}

// y [m,n] = alpha c (+ residual), c [m,n] or, if swapped, [n,m].
void FinishThin(const float* c, bool swap, float alpha, const float* residual, int64_t m, int64_t n,
                float* y) {
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      const float x = alpha * (swap ? c[j * m + i] : c[i * n + j]);
      y[i * n + j] = residual ? x + residual[i * n + j] : x;
    }
}

// a is stored as [k,m] and b as [k,n]. The transpose of the result is op(b)' op(a)'.
void RunThin(const KernelArgs& args) noexcept {
  const MatmulAttrs& p = args.attrs.As<MatmulAttrs>();
  const MatmulState& state = *static_cast<const MatmulState*>(args.state);
  const Sizes<int64_t> d = SizesOf<int64_t>(args.in[0].shape, args.in[1].shape, p);
  if (d.m == 0 || d.n == 0) return;
  MatrixView a = View(args.in[0].f32(), d.m, true), b = View(args.in[1].f32(), d.n, false);
  if (state.swap) a = std::exchange(b, Flip(a)), a = Flip(a);
  const int64_t rows = std::min(d.m, d.n), cols = std::max(d.m, d.n);
  float* c = reinterpret_cast<float*>(args.scratch + state.gemm_scratch);
  if (state.onednn && d.k == state.plan.shape.k)
    state.onednn->Run(rows, a.data, b.data, nullptr, nullptr, c, args.scratch, args.own);
  else
    Gemm(PlanOf(state.plan, d.k, cols, state.gemm_scratch), rows, a, {nullptr, b}, c, cols, {},
         args.scratch);
  FinishThin(c, state.swap, static_cast<float>(p.alpha),
             p.residual ? args.in.back().f32() : nullptr, d.m, d.n, args.out[0].f32());
}

// Where rows depend on the batch they count as many, so that the choice is the same for every
// batch.
void MaybeOnednn(MatmulState& state, const OnednnShape& shape) {
  const int64_t m = shape.a_transposed ? shape.m : std::numeric_limits<int64_t>::max();
  const bool avx512 = state.plan.panel == kAvx512Panel;
  state.choice.refused = "onednn: not ahead at such a shape";
  if (!PreferOnednn({m, shape.k, shape.n, shape.a_transposed, avx512})) return;
  state.onednn = OnednnGemm::Prepare(shape);
  state.choice.refused = "onednn: it has only reference code for this shape";
  if (!state.onednn) return;
  state.gemm_scratch = std::max(state.gemm_scratch, RoundUpAligned(state.onednn->scratch_bytes()));
  state.choice = {shape.a_transposed && avx512 ? "the left operand is transposed, with AVX-512"
                  : m <= 16                    ? "at most 16 rows"
                                               : "a sum of at most 16 numbers",
                  "gemm_core: behind onednn at such a shape"};
}

void PrepareThin(const Sizes<int64_t>& d, MatmulState& state) {
  state.choice.why = "a sum over the rows of the batch, with a side of at most 16";
  state.swap = d.n < d.m;
  const int64_t rows = std::min(d.m, d.n), cols = std::max(d.m, d.n);
  state.plan = PlanGemm({rows, d.k, cols, BOrder::kRows, false});
  state.gemm_scratch = ScratchBound(state.plan);
  MaybeOnednn(state, {.m = rows, .k = d.k, .n = cols, .a_transposed = true});
}

// Packs b into panels, unless an earlier node has them: new ones are filled by `finish`.
void PackOnce(const PrepareArgs& args, const Sizes<int64_t>& d, bool transposed, MatmulState& state,
              Prepared& prepared) {
  std::shared_ptr<const float>& kept =
      args.packed[{args.constant[1], fmt::format("{}x{}{}", d.k, d.n, transposed ? "t" : "")}];
  if (!kept) {
    prepared.state_bytes = PackedBytes(d.k, d.n);
    const std::shared_ptr<float> fresh = AllocatePanels(prepared.state_bytes);
    prepared.finish = [fresh, d, b = View(args.constant[1], args.in[1][1], transposed)] {
      PackB(b, d.k, d.n, fresh.get());
      GiveBackWeight(b.data, d.k * d.n);
    };
    kept = fresh;
  }
  state.packed = kept;
}

void PrepareGeneral(const PrepareArgs& args, const Sizes<int64_t>& d, MatmulState& state,
                    Prepared& prepared) {
  const MatmulAttrs& p = args.attrs.As<MatmulAttrs>();
  GemmShape shape{d.m, d.k, d.n, p.tb ? BOrder::kOther : BOrder::kRows, !p.ta};
  if (args.constant[1] && d.m < kPackOnceRows) {
    shape.b = BOrder::kPacked;
    PackOnce(args, d, p.tb, state, prepared);
    state.choice = {"a frozen weight and fewer than 1024 rows: packed once, before the first run",
                    "onednn: the weight is packed for gemm_core"};
  } else {
    state.choice = {args.constant[1] ? "a frozen weight and 1024 rows or more: packed at every run"
                                     : "the right operand changes: packed at every run",
                    "onednn: it has no alpha and no slope of an activation"};
  }
  state.plan = PlanGemm(shape);
  state.gemm_scratch = ScratchBound(state.plan);
  if (state.packed || p.alpha != 1 || p.act != kNoAct) return;
  OnednnShape onednn{.m = d.m, .k = d.k, .n = d.n, .a_transposed = p.ta, .b_transposed = p.tb};
  onednn.bias = p.bias, onednn.residual = p.residual;
  MaybeOnednn(state, onednn);
}

Prepared PrepareMatmul(const PrepareArgs& args) {
  const MatmulAttrs& p = args.attrs.As<MatmulAttrs>();
  const Sizes<int64_t> d = SizesOf<int64_t>(args.in[0], args.in[1], p);
  const bool linear = !p.bias && p.act == kNoAct;
  const bool thin = p.ta && !p.tb && linear && std::min(d.m, d.n) <= kThin;
  auto state = std::make_shared<MatmulState>();
  Prepared prepared;
  if (thin)
    PrepareThin(d, *state);
  else
    PrepareGeneral(args, d, *state, prepared);
  prepared.run = thin ? RunThin : RunGeneral;
  prepared.scratch = state->gemm_scratch + (thin ? static_cast<size_t>(d.m * d.n) * sizeof(float)
                                                 : BiasCopyBytes(p, d.n));
  prepared.thread_scratch = state->onednn ? state->onednn->thread_bytes() : 0;
  prepared.impl = state->onednn   ? "onednn:" + state->onednn->implementation()
                  : state->packed ? "gemm_core:packed"
                  : thin          ? "gemm_core:thin"
                                  : "gemm_core";
  prepared.state = std::move(state);
  return prepared;
}

}  // namespace

KernelChoice WhyMatmul(const PrepareArgs& args) {
  return static_cast<const MatmulState*>(PrepareMatmul(args).state.get())->choice;
}

namespace {

std::vector<Sample> MatmulSamples() {
  const MatmulAttrs nt{.tb = true};
  const MatmulAttrs fused{.tb = true, .alpha = 0.5, .bias = true, .residual = true, .act = "gelu"};
  const MatmulAttrs thin{.ta = true, .alpha = 0.25};
  const MatmulAttrs tanh{.bias = true, .act = "gelu_tanh"};
  return {{"one", {{{1, 1}}, {{1, 1}}}, nt},
          {"nn", {{{3, 5}}, {{5, 2}}}, MatmulAttrs{}},
          {"odd", {{{3, 5}}, {{2, 5}}}, nt},
          {"tn", {{{5, 3}}, {{5, 2}}}, MatmulAttrs{.ta = true, .alpha = -2}},
          {"tt", {{{5, 3}}, {{2, 5}}}, MatmulAttrs{.ta = true, .tb = true}},
          {"prime", {{{29, 53}}, {{37, 53}}}, nt},
          {"prime_tn", {{{53, 29}}, {{53, 37}}}, MatmulAttrs{.ta = true}},
          {"bias", {{{7, 5}}, {{9, 5}}, {{9}}}, MatmulAttrs{.tb = true, .bias = true}},
          {"residual", {{{7, 5}}, {{5, 9}}, {{7, 9}}}, MatmulAttrs{.residual = true}},
          {"fused", {{{7, 5}}, {{9, 5}}, {{9}}, {{7, 9}}}, fused},
          {"fused_tanh", {{{13, 19}}, {{19, 17}}, {{17}}}, tanh},
          {"one_row", {{{1, 40}}, {{23, 40}}, {{23}}}, MatmulAttrs{.tb = true, .bias = true}},
          {"thin", {{{50, 23}}, {{50, 3}}}, thin},
          {"thin_rows", {{{50, 4}}, {{50, 29}}}, thin},
          {"thin_long", {{{1031, 8}}, {{1031, 517}}}, MatmulAttrs{.ta = true}},
          {"empty", {{{0, 5}}, {{2, 5}}, {{2}}, {{0, 2}}}, fused},
          {"empty_cols", {{{3, 5}}, {{0, 5}}}, nt},
          {"empty_sum", {{{3, 0}}, {{2, 0}}, {{2}}, {{3, 2}}}, fused},
          {"bench", {{{197, 768}}, {{768, 768}}, {{768}}}, MatmulAttrs{.tb = true, .bias = true}}};
}

std::vector<ErrorSample> MatmulErrors() {
  return {{{F32({3, 5}), F32({4, 2})}, MatmulAttrs{}, "inner dimensions differ: 5 of a, 4 of b"},
          {{F32({3, 5}), F32({5})}, MatmulAttrs{}, "b: expected an f32 matrix, found f32[5]"},
          {{F32({3, 5}), F32({5, 2})}, MatmulAttrs{.bias = true}, "expected 3 inputs, found 2"},
          {{F32({3, 5}), F32({5, 2}), F32({3})},
           MatmulAttrs{.bias = true},
           "bias: expected f32[2], found f32[3]"},
          {{F32({3, 5}), F32({5, 2}), F32({2, 3})},
           MatmulAttrs{.residual = true},
           "residual: expected f32[3,2], found f32[2,3]"},
          {{F32({3, 5}), F32({5, 2})},
           MatmulAttrs{.act = "gelu_tan"},
           "known: none, gelu, gelu_near, gelu_tanh"}};
}

}  // namespace

// Row r reads row r of a and of the residual (the last input). The residual may share the result's
// memory: gradients accumulate by updates of a state, acc + dY' X.
constinit const OpDef kMatmul{.name = "matmul",
                              .default_attrs = +[] { return Attrs(MatmulAttrs{}); },
                              .infer = InferMatmul,
                              .reference = RefMatmul,
                              .prepare = PrepareMatmul,
                              .gradient = MatmulGradient,
                              .cost = MatmulCost,
                              .samples = MatmulSamples,
                              .error_samples = MatmulErrors,
                              .rtol = 3e-6,
                              .cancels = true,
                              .row_inputs = 0b1101};

}  // namespace graft
