// matmul: act(alpha op(a) op(b) + bias) + residual, the one dense product of the runtime. Its
// gradient is made of matmuls again. Which kernel serves a shape is decided in `prepare`.
#include <cmath>
#include <cstdlib>

#include "ops/gemm_core.h"
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
  if (p.act != kNoAct && p.act != "gelu" && p.act != "gelu_tanh")
    Fail("unknown act '{}'{}", p.act, DidYouMean(p.act, {"none", "gelu", "gelu_tanh"}));
  return p.act == kNoAct ? std::vector{out} : std::vector{out, out};
}

double RefAct(double x, std::string_view act) {
  if (act == "gelu") return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

void RefMatmul(const ReferenceArgs& args) {
  const MatmulAttrs& p = args.attrs.As<MatmulAttrs>();
  const Sizes<int64_t> d = SizesOf<int64_t>(args.in_shape[0], args.in_shape[1], p);
  auto at = [&](size_t input, bool transposed, int64_t row, int64_t col) {
    const int64_t i = transposed ? col : row, j = transposed ? row : col;
    return args.in[input][static_cast<size_t>(i * args.in_shape[input][1] + j)];
  };
  for (int64_t i = 0; i < d.m; ++i)
    for (int64_t j = 0; j < d.n; ++j) {
      double sum = 0;
      for (int64_t x = 0; x < d.k; ++x) sum += at(0, p.ta, i, x) * at(1, p.tb, x, j);
      double y = p.alpha * sum + (p.bias ? args.in[2][static_cast<size_t>(j)] : 0);
      const size_t e = static_cast<size_t>(i * d.n + j);
      if (p.act != kNoAct) args.out[1][e] = y, y = RefAct(y, p.act);
      args.out[0][e] = y + (p.residual ? args.in.back()[e] : 0);
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
  if (p.act != kNoAct && want_dp) {
    const OpDef& grad = p.act == "gelu" ? kGeluGrad : kGeluTanhGrad;
    if (dy.valid()) dp = g.Add1(grad, {v.out[1], dy});
    if (v.cotangent[1].valid()) dp = dp.valid() ? Add(g, dp, v.cotangent[1]) : v.cotangent[1];
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

Cost MatmulCost(std::span<const Extents> in, std::span<const Extents> out, const Attrs& attrs) {
  const MatmulAttrs& p = attrs.As<MatmulAttrs>();
  const double k = static_cast<double>(in[0][p.ta ? 0 : 1]);
  const double elements = static_cast<double>(out[0].size());
  Cost cost = MoveCost(in, out, attrs);
  cost.flops = elements * (2 * k + p.bias + p.residual + (p.act == kNoAct ? 0 : 20));
  return cost;
}

// --- kernels
// ----------------------------------------------------------------------------------------

struct FreeDeleter {
  void operator()(void* p) const { std::free(p); }
};
using Floats = std::unique_ptr<float, FreeDeleter>;

size_t RoundUp64(size_t bytes) { return (bytes + 63) / 64 * 64; }

Floats AllocateFloats(size_t bytes) {
  void* p = std::aligned_alloc(64, std::max<size_t>(64, RoundUp64(bytes)));
  if (!p) Fail("cannot allocate {} MiB for packed weights", bytes >> 20);
  return Floats(static_cast<float*>(p));
}

struct MatmulState {
  GemmPlan plan;
  size_t gemm_scratch = 0;  // of it; behind it a copy of the bias
  Floats packed;            // b, if it never changes
};

// Room for a product of at most this size: a shorter k may be cut into other blocks.
size_t ScratchBound(const GemmPlan& plan) {
  if (plan.group == 0) return RoundUp64(plan.scratch_bytes);
  const size_t per_row = plan.scratch_bytes / static_cast<size_t>(plan.group);
  const int64_t rows = std::min(std::max<int64_t>(plan.shape.k, 1), plan.group + 2 * plan.k_block);
  return RoundUp64(per_row * static_cast<size_t>(rows));
}

Activation ActOf(const MatmulAttrs& p) {
  if (p.act == kNoAct) return Activation::kNone;
  return p.act == "gelu" ? Activation::kGeluErf : Activation::kGeluTanh;
}

MatrixView View(const float* data, int64_t cols, bool transposed) {
  return transposed ? MatrixView{data, 1, cols} : MatrixView{data, cols, 1};
}

void RunCore(const KernelArgs& args) noexcept {
  const MatmulAttrs& p = args.attrs.As<MatmulAttrs>();
  const MatmulState& state = *static_cast<const MatmulState*>(args.state);
  const Sizes<int64_t> d = SizesOf<int64_t>(args.in[0].shape, args.in[1].shape, p);
  if (d.m == 0 || d.n == 0) return;
  const MatrixView a = View(args.in[0].f32(), args.in[0].shape[1], p.ta);
  const MatrixView b = View(args.in[1].f32(), args.in[1].shape[1], p.tb);
  float* y = args.out[0].f32();
  GemmEpilogue e{.alpha = static_cast<float>(p.alpha)};
  if (p.bias) {
    e.bias = args.in[2].f32();
    if (e.bias == y) {  // one row that took over the memory of the bias
      float* copy = reinterpret_cast<float*>(args.scratch + state.gemm_scratch);
      CopyFloats(copy, e.bias, d.n);
      e.bias = copy;
    }
  }
  if (p.residual) e.residual = args.in.back().f32(), e.residual_stride = d.n;
  e.activation = ActOf(p);
  if (p.act != kNoAct) e.pre_activation = args.out[1].f32();
  GemmPlan plan = state.plan;
  if (plan.shape.k != d.k || plan.shape.n != d.n) {  // a reduction over the rows of a smaller batch
    plan.shape.k = d.k, plan.shape.n = d.n;
    plan = PlanGemm(plan.shape);
    GRAFT_CHECK(plan.scratch_bytes <= state.gemm_scratch);
  }
  Gemm(plan, d.m, a, {state.packed.get(), b}, y, d.n, e, args.scratch);
}

Prepared PrepareMatmul(const PrepareArgs& args) {
  const MatmulAttrs& p = args.attrs.As<MatmulAttrs>();
  const Sizes<int64_t> d = SizesOf<int64_t>(args.in[0], args.in[1], p);
  auto state = std::make_shared<MatmulState>();
  GemmShape shape{d.m, d.k, d.n, p.tb ? BLayout::kOther : BLayout::kRows, !p.ta};
  Prepared prepared;
  prepared.run = RunCore;
  prepared.impl = "gemm_core";
  if (args.constant[1]) {
    shape.b = BLayout::kPacked;
    prepared.state_bytes = PackedBytes(d.k, d.n);
    state->packed = AllocateFloats(prepared.state_bytes);
    PackB(View(args.constant[1], args.in[1][1], p.tb), d.k, d.n, state->packed.get());
    prepared.impl = "gemm_core:packed";
  }
  state->plan = PlanGemm(shape);
  state->gemm_scratch = ScratchBound(state->plan);
  prepared.scratch = state->gemm_scratch + (p.bias ? static_cast<size_t>(d.n) * sizeof(float) : 0);
  prepared.state = std::move(state);
  return prepared;
}

std::vector<Sample> MatmulSamples() {
  const MatmulAttrs nt{.tb = true};
  const MatmulAttrs fused{.tb = true, .alpha = 0.5, .bias = true, .residual = true, .act = "gelu"};
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
          {"narrow", {{{50, 23}}, {{50, 3}}}, MatmulAttrs{.ta = true}},
          {"empty", {{{0, 5}}, {{2, 5}}, {{2}}, {{0, 2}}}, fused},
          {"empty_cols", {{{3, 5}}, {{0, 5}}}, nt},
          {"empty_sum", {{{3, 0}}, {{2, 0}}, {{2}}, {{3, 2}}}, fused},
          {"bench", {{{197, 768}}, {{768, 768}}, {{768}}}, MatmulAttrs{.tb = true, .bias = true}}};
}

std::vector<ErrorSample> MatmulErrors() {
  return {
      {{F32({3, 5}), F32({4, 2})}, MatmulAttrs{}, "inner dimensions differ: 5 of a, 4 of b"},
      {{F32({3, 5}), F32({5})}, MatmulAttrs{}, "b: expected an f32 matrix, found f32[5]"},
      {{F32({3, 5}), F32({5, 2})}, MatmulAttrs{.bias = true}, "expected 3 inputs, found 2"},
      {{F32({3, 5}), F32({5, 2}), F32({3})},
       MatmulAttrs{.bias = true},
       "bias: expected f32[2], found f32[3]"},
      {{F32({3, 5}), F32({5, 2}), F32({2, 3})},
       MatmulAttrs{.residual = true},
       "residual: expected f32[3,2], found f32[2,3]"},
      {{F32({3, 5}), F32({5, 2})}, MatmulAttrs{.act = "gelu_tan"}, "did you mean 'gelu_tanh'?"}};
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
