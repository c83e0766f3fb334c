// low_matmul: matmul of which both operands are rounded to bf16 or to bytes (low_cells.h), a as it
// comes and b once, if it is a frozen weight. Sums are in f32 or i32, results in f32. Made by the
// pass low_precision, from forward products, from the gradients to their inputs and, in bf16, from
// the gradients of weights.
#include <algorithm>
#include <utility>

#include "ops/low_cells.h"
#include "ops/low_matmul_samples.h"
#include "ops/low_reference.h"
#include "ops/product.h"
#include "ops/records.h"

namespace graft {
namespace {

CellType CellOf(const LowMatmulAttrs& attrs) {
  return attrs.cell == "bf16" ? CellType::kBf16 : CellType::kInt8;
}

struct Sizes {
  int64_t m, k, n;
};
Sizes SizesOf(const Extents& a, const Extents& b, const MatmulAttrs& p) {
  return {a[p.ta ? 1 : 0], b[p.tb ? 1 : 0], b[p.tb ? 0 : 1]};  // a may be cells
}

// The inputs of matmul: without factors and ranges.
template <class T>
std::vector<T> OfMatmul(std::span<const T> in, const LowMatmulAttrs& low) {
  std::vector<T> all(in.begin(), in.end());
  if (low.times) all.erase(all.begin() + static_cast<ptrdiff_t>(LowTimesAt(low)));
  if (LowBiasAt(low) > 2) all.erase(all.begin() + 2);
  return all;
}

// `times` of a result like `out`.
void ExpectTimes(Types in, const LowMatmulAttrs& low, const TensorType& out) {
  if (low.product.act != "none") Fail("times: expected no act, found {}", low.product.act);
  const TensorType want{DType::kBf16, out.shape}, &found = in[LowTimesAt(low)];
  if (!(found == want)) Fail("times: expected {}, found {}", ToString(want), ToString(found));
}

// Of bytes, input 0 in f32 as it was.
std::vector<TensorType> FromBytes(Types in, const LowMatmulAttrs& low) {
  ExpectRank(in[0], 2, "a");
  ExpectRank(in[1], 2, "b");
  const Dim k = in[1].shape[low.product.tb ? 1 : 0];
  const Dim cells = CellsOf(CellType::kInt8, k.constant);
  if (in[0].dtype != DType::kI32 || !(in[0].shape[1] == cells))
    Fail("a: expected cells i32[R,{}], found {}", cells.constant, ToString(in[0]));
  const TensorType range = F32({in[0].shape[0], 2});
  if (!(in[2] == range)) Fail("range: expected {}, found {}", ToString(range), ToString(in[2]));
  std::vector<TensorType> all(in.begin(), in.end());
  all[0] = F32({in[0].shape[0], k});
  return all;
}

// The types as matmul knows them, which has f32 alone.
std::vector<TensorType> AsF32(std::vector<TensorType> in, const LowMatmulAttrs& low) {
  if (in[0].dtype == DType::kBf16) in[0].dtype = DType::kF32;
  if (in[1].dtype == DType::kBf16 && low.product.ta) in[1].dtype = DType::kF32;
  return in;
}

std::vector<TensorType> InferLowMatmul(Types in, const Attrs& attrs) {
  const LowMatmulAttrs& low = attrs.As<LowMatmulAttrs>();
  if (low.cell != "bf16" && low.cell != "int8")
    Fail("unknown cell '{}'; known: bf16, int8", low.cell);
  if (low.calibrated && (low.cell != "int8" || in.size() < 3))
    Fail("calibrated: expected int8 and factors as input 2, found {} and {} inputs", low.cell,
         in.size());
  if (low.bytes && (low.cell != "int8" || low.calibrated))
    Fail("bytes: expected int8 without calibration, found {}", low.cell);
  if (in.size() < LowTimesAt(low) + low.times)
    Fail("expected at least {} inputs, found {}", LowTimesAt(low) + low.times, in.size());
  const std::vector<TensorType> given =
      low.bytes ? FromBytes(in, low) : std::vector<TensorType>(in.begin(), in.end());
  std::vector<TensorType> out =
      kMatmul.infer(AsF32(OfMatmul<TensorType>(given, low), low), low.product);
  if (low.times) ExpectTimes(in, low, out[0]);
  if (low.slope16 && out.size() < 2) Fail("slope16: expected an act, found none");
  if (low.slope16) out[1].dtype = DType::kBf16;
  if (low.y16) out[0].dtype = DType::kBf16;
  if (low.cell == "bf16") return out;
  if (low.product.ta) Fail("int8: expected a as it lies (ta=0), found ta=1");
  const Dim k = in[1].shape[low.product.tb ? 1 : 0];
  if (!(k == Dim(k.constant))) Fail("int8: expected a fixed size of b, found {}", ToString(in[1]));
  if (low.calibrated && !(in[2] == F32({2 * k.constant})))
    Fail("factors: expected f32[{}], found {}", 2 * k.constant, ToString(in[2]));
  if (low.zero < 0 || low.zero > 255) Fail("zero {}: expected a byte", low.zero);
  if (CellsOf(CellType::kInt8, k.constant) > kMostInt8Cells)
    Fail("int8: {} numbers in a sum, at most {}", k.constant, 4 * kMostInt8Cells);
  return out;
}

void RefLowMatmul(const ReferenceArgs& args) {
  const LowMatmulAttrs& low = args.attrs.As<LowMatmulAttrs>();
  const auto [m, k, n] = SizesOf(args.in_shape[0], args.in_shape[1], low.product);
  std::vector<std::vector<double>> in = OfMatmul<std::vector<double>>(args.in, low);
  std::vector<Extents> in_shape = OfMatmul<Extents>(args.in_shape, low);
  if (low.bytes) in[0].resize(static_cast<size_t>(m * k)), in_shape[0] = Extents{m, k};
  const double* factors = low.calibrated ? args.in[2].data() : nullptr;
  const bool bf16 = CellOf(low) == CellType::kBf16;
  const Line64 row{k, low.product.ta ? m : 1}, column{k, low.product.tb ? 1 : n};
  for (int64_t i = 0; i < m && k > 0; ++i) {
    const size_t first = static_cast<size_t>(i * (low.product.ta ? 1 : k));
    const double* x = args.in[0].data() + first;
    if (bf16)
      RoundToBf16(x, row, &in[0][first]);
    else if (low.bytes)
      NumbersOfCells(&args.in[0][static_cast<size_t>(i * CellsOf(CellType::kInt8, k))], k,
                     &args.in[2][static_cast<size_t>(2 * i)], &in[0][first]);
    else if (factors)
      RoundStaticRow(x, row, factors, low.zero, &in[0][first]);
    else
      RoundRow(x, row, &in[0][first]);
  }
  for (int64_t j = 0; j < n && k > 0; ++j) {
    const size_t first = static_cast<size_t>(j * (low.product.tb ? k : 1));
    if (bf16)
      RoundToBf16(&args.in[1][first], column, &in[1][first]);
    else
      RoundColumn(&args.in[1][first], column, factors, &in[1][first]);
  }
  MatmulAttrs product = low.product;
  if (low.times) product.residual = false;
  const Attrs plain(product);
  kMatmul.reference({in, args.out, in_shape, args.out_shape, plain});
  std::vector<double>& y = args.out[0];
  for (size_t i = 0; i < y.size() && low.times; ++i) {
    y[i] *= args.in[LowTimesAt(low)][i];
    if (low.product.residual) y[i] += args.in.back()[i];
  }
  if (low.y16) RoundToBf16(y);
  if (low.slope16) RoundToBf16(args.out[1]);
}

// Of a frozen weight its cells are read.
Cost LowMatmulCost(const CostArgs& args) {
  const LowMatmulAttrs& low = args.attrs.As<LowMatmulAttrs>();
  std::vector<Extents> in = OfMatmul<Extents>(args.in, low);
  const Sizes d = SizesOf(in[0], in[1], low.product);
  if (low.bytes) in[0] = Extents{d.m, d.k};
  const std::vector<DType> in_type(in.size(), DType::kF32);
  const Attrs product(low.product);
  Cost cost{kMatmul.cost({in, args.out, product, in_type, args.out_type}).flops, args.Bytes()};
  if (args.frozen & 2)
    cost.bytes -= Elements(args.in[1]) * (CellOf(low) == CellType::kBf16 ? 2 : 3);
  return cost;
}

struct LowState {
  CellType cell;
  int32_t zero;  // of a calibrated product
  GemmPlan plan;
  std::shared_ptr<const float> packed;  // null: b is no constant
  // One behind the other in the scratch; the last are the sums of a result in bf16.
  size_t gemm_scratch = 0, a_bytes = 0, b_bytes = 0, c_bytes = 0;
};

MatrixView ViewOfB(const float* b, const Sizes& d, bool transposed) {
  return transposed ? MatrixView{b, 1, d.k} : MatrixView{b, d.n, 1};
}

// Cells of a. A gradient of a weight sums over the rows of a, so pairs are of two rows.
MatrixView CellsOfA(const LowState& state, const Tensor& a, const float* factors, const Sizes& d,
                    bool transposed, std::byte* scratch, GemmEpilogue* e) {
  if (transposed) {
    float* cells = reinterpret_cast<float*>(scratch);
    PairRows(a, d.k, d.m, cells);
    return {cells, 1, d.m};
  }
  if (AreCells(state.cell, a.dtype, d.k))
    return {static_cast<const float*>(a.data), CellsOf(state.cell, d.k), 1};
  if (factors)
    MakeStaticRows(a, d.m, d.k, factors, state.zero, scratch, RangeBehind(scratch, d.m, d.k));
  else
    MakeLowRows(state.cell, a, d.m, d.k, scratch);
  return LowRows(state.cell, d.m, d.k, scratch, e);
}

// Cells of b: packed before, or made now, of bytes in panels and of bf16 as b lies.
GemmB CellsOfB(const LowState& state, const Tensor& b, const float* factors, const Sizes& d,
               bool transposed, std::byte* scratch, GemmEpilogue* e) {
  float* cells = reinterpret_cast<float*>(scratch);
  if (state.packed) return LowPanels(state.cell, d.k, d.n, state.packed.get(), e);
  if (state.cell == CellType::kInt8) {
    PackLow(state.cell, ViewOfB(b.f32(), d, transposed), d.k, d.n, cells, factors);
    return LowPanels(state.cell, d.k, d.n, cells, e);
  }
  if (transposed) {
    MakeLowRows(state.cell, b, d.n, d.k, scratch);
    return {.view = {cells, 1, CellsOf(state.cell, d.k)}};
  }
  PairRows(b, d.k, d.n, cells);
  return {.view = {cells, d.n, 1}};
}

void RunLowMatmul(const KernelArgs& args) noexcept {
  const LowMatmulAttrs& low = args.attrs.As<LowMatmulAttrs>();
  const LowState& state = *static_cast<const LowState*>(args.state);
  const Sizes d = SizesOf(args.in[0].shape, args.in[1].shape, low.product);
  if (d.m == 0 || d.n == 0) return;
  std::byte *a_cells = args.scratch + state.gemm_scratch, *b_cells = a_cells + state.a_bytes;
  std::byte* sums = b_cells + state.b_bytes;
  const float* factors = low.calibrated ? args.in[2].f32() : nullptr;
  GemmEpilogue e = ProductEpilogue(args, low.product, LowBiasAt(low), sums + state.c_bytes);
  if (low.times) e.times = args.in[LowTimesAt(low)].bf16();
  if (low.bytes) e.row_range = args.in[2].f32();
  e.native_bf16 = HasCells(CellType::kBf16);
  const MatrixView a = CellsOfA(state, args.in[0], factors, d, low.product.ta, a_cells, &e);
  const GemmB b = CellsOfB(state, args.in[1], factors ? factors + d.k : nullptr, d, low.product.tb,
                           b_cells, &e);
  float* c = !low.y16        ? args.out[0].f32()
             : state.c_bytes ? reinterpret_cast<float*>(sums)
                             : nullptr;
  Gemm(PlanOf(state.plan, CellsOf(state.cell, d.k), d.n, state.gemm_scratch), d.m, a, b, c, d.n, e,
       args.scratch, args.own);
}

// b in panels: those of a node before, or new ones that `finish` fills.
void PackOnce(const PrepareArgs& args, const Sizes& d, LowState& state, Prepared& prepared) {
  const LowMatmulAttrs& low = args.attrs.As<LowMatmulAttrs>();
  const float* weight = args.constant[1];
  const float* factors = low.calibrated ? args.constant[2] + d.k : nullptr;
  std::shared_ptr<const float>& kept =
      args.packed[{weight, fmt::format("{} {}x{}{}{}", low.cell, d.k, d.n,
                                       low.product.tb ? "t" : "", factors ? " calibrated" : "")}];
  if (!kept) {
    prepared.state_bytes = LowPackedBytes(state.cell, d.k, d.n);
    const std::shared_ptr<float> fresh = AllocatePanels(prepared.state_bytes);
    prepared.finish = [fresh, d, factors, cell = state.cell,
                       b = ViewOfB(weight, d, low.product.tb)] {
      PackLow(cell, b, d.k, d.n, fresh.get(), factors);
      GiveBackWeight(b.data, d.k * d.n);
    };
    kept = fresh;
  }
  state.packed = kept;
}

Prepared PrepareLowMatmul(const PrepareArgs& args) {
  const LowMatmulAttrs& low = args.attrs.As<LowMatmulAttrs>();
  const MatmulAttrs& p = low.product;
  const Sizes d = SizesOf(args.in[0], args.in[1], p);
  auto state = std::make_shared<LowState>();
  Prepared prepared;
  state->cell = CellOf(low);
  state->zero = static_cast<int32_t>(low.zero);
  const bool constant = args.constant[1] && (!low.calibrated || args.constant[2]);
  const bool panels = constant || state->cell == CellType::kInt8;
  const int64_t cells = CellsOf(state->cell, d.k);
  state->plan = PlanGemm({.m = d.m,
                          .k = cells,
                          .n = d.n,
                          .b = panels ? BOrder::kPacked
                               : p.tb ? BOrder::kOther
                                      : BOrder::kRows,
                          .a_by_rows = !p.ta,
                          .cell = state->cell});
  state->gemm_scratch = ScratchBound(state->plan);
  if (p.ta)
    state->a_bytes = RoundUpAligned(static_cast<size_t>(cells * d.m) * sizeof(float));
  else if (!AreCells(state->cell, args.in_type[0], d.k))
    state->a_bytes = RoundUpAligned(LowRowsBytes(state->cell, d.m, d.k));
  if (low.y16) prepared.thread_scratch = ChunkBytes(state->plan);
  if (low.y16 && prepared.thread_scratch == 0)
    state->c_bytes = RoundUpAligned(static_cast<size_t>(d.m * d.n) * sizeof(float));
  if (constant)
    PackOnce(args, d, *state, prepared);
  else
    state->b_bytes = RoundUpAligned(panels ? LowPackedBytes(state->cell, d.k, d.n)
                                           : static_cast<size_t>(cells * d.n) * sizeof(float));
  prepared.run = RunLowMatmul;
  prepared.scratch = state->gemm_scratch + state->a_bytes + state->b_bytes + state->c_bytes +
                     RoundUpAligned(BiasCopyBytes(p, d.n));
  prepared.impl = fmt::format("gemm_core:{}{}{}", low.cell, low.calibrated ? ":calibrated" : "",
                              HasCells(state->cell) ? "" : ":emulated");
  prepared.state = std::move(state);
  return prepared;
}

}  // namespace

constinit const OpDef kLowMatmul{.name = "low_matmul",
                                 .default_attrs = +[] { return Attrs(LowMatmulAttrs{}); },
                                 .infer = InferLowMatmul,
                                 .reference = RefLowMatmul,
                                 .prepare = PrepareLowMatmul,
                                 .cost = LowMatmulCost,
                                 .samples = LowMatmulSamples,
                                 .error_samples = LowMatmulErrors,
                                 .rtol = 3e-6,
                                 .cancels = true,
                                 .row_inputs = 0b111101};

}  // namespace graft
