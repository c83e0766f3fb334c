// nf4_dequantize and nf4_matmul: weights in 4 bits (nf4.h) in the graph. The first is what the
// canonical graph has; the second is the first and a matmul in one kernel, which makes parts of the
// weight in its scratch, packed as gemm_core wants them, and forgets them after use.
#include "ops/nf4.h"
#include "ops/nf4_kernel.h"
#include "ops/product.h"
#include "ops/records.h"

namespace graft {
namespace {

// The inputs of nf4_matmul are a, then this many parameters, then bias and residual.
size_t ParamCount(const Nf4Attrs& w) { return w.double_quantised ? 4 : 2; }

void ExpectParams(Types in, const Nf4Attrs& w) {
  const std::vector<TensorType> want = Nf4ParamTypes(w);
  constexpr std::string_view kWhat[] = {"codes", "absmax", "absmax2", "offset"};
  for (size_t i = 0; i < want.size(); ++i)
    if (!(in[i] == want[i]))
      Fail("{} of a weight [{},{}] in blocks of {}: expected {}, found {}", kWhat[i], w.rows,
           w.cols, w.block, ToString(want[i]), ToString(in[i]));
}

std::vector<TensorType> InferDequantize(Types in, const Attrs& attrs) {
  const Nf4Attrs& w = attrs.As<Nf4Attrs>();
  ExpectInputs(in, ParamCount(w));
  ExpectParams(in, w);
  return {F32({w.rows, w.cols})};
}

// A value of the weight is what f32 arithmetic makes of the parameters. These roundings belong to
// the format, so the reference has them, too.
void Dequantize64(std::span<const std::vector<double>> in, const Nf4Attrs& w,
                  std::vector<double>& out) {
  for (size_t i = 0; i < out.size(); ++i) {
    const size_t block = i / static_cast<size_t>(w.block);
    float scale = static_cast<float>(in[1][block]);
    if (w.double_quantised) {
      scale = Nf4ScaleMap()[in[1][block]];
      scale *= static_cast<float>(in[2][block / static_cast<size_t>(kNf4ScaleBlock)]);
      scale += static_cast<float>(in[3][0]);
    }
    const size_t byte = static_cast<size_t>(in[0][i / 2]);
    out[i] = double{kNf4Levels[i % 2 == 0 ? byte / 16 : byte % 16] * scale};
  }
}

void RefDequantize(const ReferenceArgs& args) {
  Dequantize64(args.in, args.attrs.As<Nf4Attrs>(), args.out[0]);
}

void RunDequantize(const KernelArgs& args) noexcept {
  const Nf4View w = ViewNf4(args.attrs.As<Nf4Attrs>(), args.in);
  float* out = args.out[0].f32();
  const FixedChunks cut(args.out[0].shape.size(), kChunk);
  ParallelFor(cut.count(), [&](int64_t i) {
    DequantizeNf4(w, cut.begin(i), cut.end(i) - cut.begin(i), out + cut.begin(i));
  });
}

double DequantizeFlops(const Nf4Attrs& w) {
  return 2 * static_cast<double>(w.rows) * static_cast<double>(w.cols);
}

Cost DequantizeCost(const CostArgs& args) {
  return {DequantizeFlops(args.attrs.As<Nf4Attrs>()), args.Bytes()};
}

// --- nf4_matmul ---

// The inputs that matmul would get if it had the weight.
template <class T>
std::vector<T> MatmulInputs(std::span<const T> in, const Nf4Attrs& w, T weight) {
  std::vector<T> inputs{in[0], std::move(weight)};
  inputs.insert(inputs.end(), in.begin() + 1 + static_cast<std::ptrdiff_t>(ParamCount(w)),
                in.end());
  return inputs;
}

std::vector<TensorType> InferNf4Matmul(Types in, const Attrs& attrs) {
  const auto& [w, p] = attrs.As<Nf4MatmulAttrs>();
  ExpectInputs(in, 1 + ParamCount(w) + p.bias + p.residual);
  ExpectParams(in.subspan(1), w);
  if (p.ta) Fail("a: expected it as it lies (ta=0), found ta=1");
  return kMatmul.infer(MatmulInputs(in, w, F32({w.rows, w.cols})), p);
}

void RefNf4Matmul(const ReferenceArgs& args) {
  const auto& [w, p] = args.attrs.As<Nf4MatmulAttrs>();
  std::vector<double> weight(w.rows * w.cols);
  Dequantize64(args.in.subspan(1), w, weight);
  const auto in = MatmulInputs(args.in, w, std::move(weight));
  const auto in_shape = MatmulInputs(args.in_shape, w, Extents{w.rows, w.cols});
  const Attrs product(p);
  kMatmul.reference({in, args.out, in_shape, args.out_shape, product});
}

// The gradient of matmul, but the gradient to a reads the weight still quantised, and the weight
// has none.
std::vector<ValueId> Nf4MatmulGradient(const GradientArgs& v) {
  const auto& [w, p] = v.attrs.As<Nf4MatmulAttrs>();
  const size_t epilogue = 1 + ParamCount(w);
  for (size_t i = 1; i < epilogue; ++i)
    if (v.need[i]) Fail("the parameters of a quantised weight are frozen");
  std::vector<ValueId> d(v.in.size());
  const ValueId dy = v.cotangent[0];
  if (p.residual && v.need.back()) d.back() = dy;
  if (p.act != "none" && v.cotangent[1].valid())
    Fail("nf4_matmul has no gradient through its slope");
  const bool bias = p.bias && v.need[epilogue];
  if (!dy.valid() || (!v.need[0] && !bias)) return d;
  const ValueId dp = p.act == "none" ? dy : Mul(v.g, dy, v.out[1]);
  if (v.need[0]) {
    std::vector<ValueId> in{dp};
    in.insert(in.end(), v.in.begin() + 1, v.in.begin() + static_cast<std::ptrdiff_t>(epilogue));
    d[0] = v.g.Add1(kNf4Matmul, std::move(in), Nf4MatmulAttrs{w, {.tb = !p.tb, .alpha = p.alpha}});
  }
  if (bias) d[epilogue] = SumRows(v.g, dp);
  return d;
}

Cost Nf4MatmulCost(const CostArgs& args) {
  const auto& [w, p] = args.attrs.As<Nf4MatmulAttrs>();
  const auto in = MatmulInputs(args.in, w, Extents{w.rows, w.cols});
  const std::vector<DType> in_type(in.size(), DType::kF32);
  const Attrs product(p);
  const Cost matmul = kMatmul.cost({in, args.out, product, in_type, args.out_type});
  return {DequantizeFlops(w) + matmul.flops, args.Bytes()};
}

void RunNf4Matmul(const KernelArgs& args) noexcept {
  const auto& [w, p] = args.attrs.As<Nf4MatmulAttrs>();
  const Nf4View view = ViewNf4(w, args.in.subspan(1));
  const Tensor &a = args.in[0], &y = args.out[0];
  const GemmPlan& plan = *static_cast<const GemmPlan*>(args.state);
  Gemm(plan, y.shape[0], {a.f32(), a.shape[1], 1}, {.source = Nf4Source(view, p.tb)}, y.f32(),
       y.shape[1],
       ProductEpilogue(args, p, 1 + ParamCount(w),
                       args.scratch + RoundUpAligned(plan.scratch_bytes)),
       args.scratch);
}

Prepared PrepareNf4Matmul(const PrepareArgs& args) {
  const auto& [w, p] = args.attrs.As<Nf4MatmulAttrs>();
  const auto plan = std::make_shared<GemmPlan>(PlanGemm({.m = args.out[0][0],
                                                         .k = p.tb ? w.cols : w.rows,
                                                         .n = p.tb ? w.rows : w.cols,
                                                         .b = BOrder::kMade}));
  Prepared prepared;
  prepared.run = RunNf4Matmul;
  prepared.scratch = RoundUpAligned(plan->scratch_bytes) + BiasCopyBytes(p, plan->shape.n);
  prepared.impl = "gemm_core:nf4";
  prepared.state = plan;
  return prepared;
}

// --- samples ---

// Appends random parameters of a weight.
void AddParams(const Nf4Attrs& w, std::vector<SampleInput>& in) {
  const Nf4Sizes sizes = Nf4SizesOf(w);
  in.push_back({.shape = {sizes.codes}, .u8 = true});
  if (!w.double_quantised) return in.push_back({.shape = {sizes.blocks}, .lo = 0});
  in.push_back({.shape = {sizes.blocks}, .u8 = true});
  in.push_back({.shape = {sizes.absmax2}, .lo = 0});
  in.push_back({.shape = {1}, .lo = 0});
}

Sample DequantizeSample(std::string label, const Nf4Attrs& w) {
  Sample sample{std::move(label), {}, w};
  AddParams(w, sample.in);
  return sample;
}

std::vector<Sample> DequantizeSamples() {
  return {DequantizeSample("one", {1, 1}),
          DequantizeSample("odd", {3, 5, 32}),
          DequantizeSample("prime", {29, 53, 32}),
          DequantizeSample("many_blocks", {96, 97, 32}),  // more than share an absmax2
          DequantizeSample("long_block", {5, 997, 4096}),
          DequantizeSample("once", {31, 29, 64, false}),
          DequantizeSample("empty", {0, 5}),
          DequantizeSample("bench", {768, 768})};
}

TensorType Bytes(int64_t n) { return {DType::kU8, {n}}; }

std::vector<ErrorSample> DequantizeErrors() {
  const Nf4Attrs w{3, 50, 32};
  return {{{Bytes(75), Bytes(5)}, w, "expected 4 inputs, found 2"},
          {{Bytes(76), Bytes(5), F32({1}), F32({1})},
           w,
           "codes of a weight [3,50] in blocks of 32: expected u8[75], found u8[76]"},
          {{Bytes(75), F32({5}), F32({1}), F32({1})}, w, "absmax of a weight"},
          {{Bytes(75), Bytes(5), F32({2}), F32({1})}, w, "absmax2 of a weight"},
          {{Bytes(75), Bytes(5), F32({1}), F32({2})}, w, "offset of a weight"},
          {{Bytes(75), Bytes(5)}, Nf4Attrs{3, 50, 32, false}, "expected f32[5], found u8[5]"},
          {{Bytes(75), Bytes(5), F32({1}), F32({1})}, Nf4Attrs{3, 50, 48}, "a power of two"},
          {{Bytes(75), Bytes(5), F32({1}), F32({1})}, Nf4Attrs{-3, 50}, "found [-3,50]"}};
}

// Makes a sample with a [m,k], and bias and residual where the product has them.
Sample MatmulSample(std::string label, int64_t m, const Nf4Attrs& w, const MatmulAttrs& p) {
  Sample sample{std::move(label), {{{m, p.tb ? w.cols : w.rows}}}, Nf4MatmulAttrs{w, p}};
  AddParams(w, sample.in);
  const int64_t n = p.tb ? w.rows : w.cols;
  if (p.bias) sample.in.push_back({{n}});
  if (p.residual) sample.in.push_back({{m, n}});
  return sample;
}

std::vector<Sample> Nf4MatmulSamples() {
  const MatmulAttrs nn, nt{.tb = true}, bias{.tb = true, .bias = true};
  const MatmulAttrs fused{.tb = true, .alpha = 0.5, .bias = true, .residual = true, .act = "gelu"};
  const MatmulAttrs tanh{.bias = true, .act = "gelu_tanh"}, residual{.alpha = -2, .residual = true};
  return {MatmulSample("one", 1, {1, 1}, nt),
          MatmulSample("odd", 3, {2, 5, 32}, nt),
          MatmulSample("odd_nn", 3, {5, 9, 32}, nn),
          MatmulSample("prime", 29, {37, 53, 32}, nt),
          MatmulSample("prime_nn", 29, {53, 67, 64}, nn),
          MatmulSample("many_blocks", 5, {71, 131, 32}, nt),
          MatmulSample("once", 7, {33, 70, 64, false}, nt),
          MatmulSample("once_nn", 7, {70, 33, 128, false}, nn),
          MatmulSample("bias", 7, {9, 64}, bias),
          MatmulSample("residual", 7, {65, 24}, residual),
          MatmulSample("fused", 7, {9, 37}, fused),
          MatmulSample("fused_tanh", 13, {19, 17}, tanh),
          MatmulSample("empty", 0, {2, 5}, fused),
          MatmulSample("empty_cols", 3, {0, 5}, nt),
          MatmulSample("empty_sum", 3, {2, 0}, fused),
          MatmulSample("bench", 394, {768, 768}, bias),
          MatmulSample("bench_nn", 394, {768, 768}, nn)};
}

std::vector<ErrorSample> Nf4MatmulErrors() {
  const Nf4Attrs w{3, 50, 32};
  const auto with = [](TensorType a, std::vector<TensorType> more = {}) {
    std::vector<TensorType> in{std::move(a), Bytes(75), Bytes(5), F32({1}), F32({1})};
    in.insert(in.end(), more.begin(), more.end());
    return in;
  };
  return {{{F32({7, 50}), Bytes(75)}, Nf4MatmulAttrs{w, {}}, "expected 5 inputs, found 2"},
          {with(F32({7, 50})), Nf4MatmulAttrs{w, {}}, "inner dimensions differ: 50 of a, 3 of b"},
          {with(F32({7, 3})), Nf4MatmulAttrs{w, {.tb = true}}, "3 of a, 50 of b"},
          {with(F32({3, 7})), Nf4MatmulAttrs{w, {.ta = true}}, "found ta=1"},
          {with(F32({7, 3}), {F32({3})}), Nf4MatmulAttrs{w, {.bias = true}}, "expected f32[50]"},
          {with(F32({7, 3})), Nf4MatmulAttrs{w, {.bias = true}}, "expected 6 inputs, found 5"},
          {{F32({7, 3}), Bytes(75), Bytes(4), F32({1}), F32({1})},
           Nf4MatmulAttrs{w, {}},
           "absmax of a weight [3,50] in blocks of 32: expected u8[5], found u8[4]"}};
}

}  // namespace

constinit const OpDef kNf4Dequantize{.name = "nf4_dequantize",
                                     .default_attrs = +[] { return Attrs(Nf4Attrs{}); },
                                     .infer = InferDequantize,
                                     .reference = RefDequantize,
                                     .kernel = RunDequantize,
                                     .cost = DequantizeCost,
                                     .samples = DequantizeSamples,
                                     .error_samples = DequantizeErrors,
                                     .rtol = 0};

// Row r reads row r of a and of the residual, which is the last matrix among the inputs.
constinit const OpDef kNf4Matmul{.name = "nf4_matmul",
                                 .default_attrs = +[] { return Attrs(Nf4MatmulAttrs{}); },
                                 .infer = InferNf4Matmul,
                                 .reference = RefNf4Matmul,
                                 .prepare = PrepareNf4Matmul,
                                 .gradient = Nf4MatmulGradient,
                                 .cost = Nf4MatmulCost,
                                 .samples = Nf4MatmulSamples,
                                 .error_samples = Nf4MatmulErrors,
                                 .rtol = 3e-6,
                                 .cancels = true,
                                 .row_inputs = 0b1111001};

}  // namespace graft
