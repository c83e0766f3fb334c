#include "ops/low_matmul_samples.h"

#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "ops/low_cells.h"
#include "ops/records.h"
#include "ops/rows.h"

namespace graft {
namespace {

LowMatmulAttrs Low(const MatmulAttrs& product, const char* cell = "bf16") {
  LowMatmulAttrs attrs;
  attrs.product = product, attrs.cell = cell;
  return attrs;
}

// With factors by which some inputs are beyond a byte.
void AddCalibrated(std::vector<Sample>& samples) {
  for (const Extents& b : {Extents{5, 37}, Extents{67, 53}, Extents{64, 256}}) {
    const MatmulAttrs fused{.tb = true, .bias = true, .residual = true, .act = "gelu"};
    LowMatmulAttrs low = Low(fused, "int8");
    low.calibrated = true, low.zero = 100;
    Sample sample{fmt::format("calibrated_{}", b[1]), {{{29, b[1]}}, {b}}, low};
    sample.in.push_back({{2 * b[1]}, 20, 60});
    sample.in.push_back({{b[0]}}), sample.in.push_back({{29, b[0]}});
    samples.push_back(std::move(sample));
  }
}

// Rows that are bytes already; any cells will do.
void AddBytes(std::vector<Sample>& samples) {
  for (const auto& [m, k, n] : {std::array<int64_t, 3>{1, 1, 1}, {29, 37, 5}, {7, 64, 256}}) {
    const MatmulAttrs product{.tb = true, .bias = true, .residual = true, .act = "gelu"};
    LowMatmulAttrs low = Low(product, "int8");
    low.bytes = true;
    const Extents cells{m, CellsOf(CellType::kInt8, k)};
    Sample sample{fmt::format("bytes_{}", k), {{cells}, {{n, k}}}, low};
    for (int64_t i = 0; i < cells.size(); ++i)
      sample.in[0].ints.push_back(static_cast<int32_t>(static_cast<uint32_t>(i + 1) * 2654435761u));
    sample.in.push_back({.shape = {m, 2}, .lo = 0, .hi = 0.02, .infinite = false});
    sample.in.push_back({{n}}), sample.in.push_back({{m, n}});
    samples.push_back(std::move(sample));
  }
}

// Numbers that are bf16 already, factors of results, and results in bf16.
void AddBf16(const std::string& cell, std::vector<Sample>& samples) {
  const auto add = [&](const char* label, const Extents& a, const Extents& b, LowMatmulAttrs low) {
    low.cell = cell;
    Sample sample{cell + "_" + label, {{.shape = a, .bf16 = true}, {b}}, low};
    sample.in[1].bf16 = low.product.ta;
    const Extents y{a[low.product.ta ? 1 : 0], b[low.product.tb ? 0 : 1]};
    if (low.product.bias) sample.in.push_back({{y[1]}});
    if (low.times) sample.in.push_back({.shape = y, .bf16 = true});
    if (low.product.residual) sample.in.push_back({y});
    samples.push_back(std::move(sample));
  };
  const MatmulAttrs bias{.tb = true, .bias = true},
      gelu{.tb = true, .bias = true, .act = "gelu_near"};
  const auto with = [](const MatmulAttrs& product, bool times, bool y16, bool slope16) {
    LowMatmulAttrs low = Low(product);
    low.times = times, low.y16 = y16, low.slope16 = slope16;
    return low;
  };
  const MatmulAttrs plain, sum{.alpha = 2, .residual = true}, columns{.ta = true};
  add("in16", {7, 64}, {73, 64}, with(bias, false, false, false));
  add("odd_in16", {29, 53}, {67, 53}, with(bias, false, true, false));
  add("all16", {29, 64}, {73, 64}, with(gelu, false, true, true));
  add("slope16", {5, 6}, {3, 6}, with(gelu, false, false, true));
  add("times", {29, 64}, {64, 73}, with(plain, true, true, false));
  add("times_residual", {29, 37}, {37, 53}, with(sum, true, false, false));
  if (cell == "bf16") add("pairs16", {53, 29}, {53, 67}, with(columns, false, false, false));
  add("empty16", {0, 6}, {3, 6}, with(gelu, false, true, true));
}

LowMatmulAttrs Calibrated(const char* cell, int64_t zero = 0) {
  LowMatmulAttrs attrs = Low({.tb = true}, cell);
  attrs.calibrated = true, attrs.zero = zero;
  return attrs;
}

LowMatmulAttrs WithTimes(const MatmulAttrs& product) {
  LowMatmulAttrs attrs = Low(product);
  attrs.times = true;
  return attrs;
}

LowMatmulAttrs WithSlope16(const MatmulAttrs& product) {
  LowMatmulAttrs attrs = Low(product);
  attrs.slope16 = true;
  return attrs;
}

LowMatmulAttrs OfBytes(const char* cell) {
  LowMatmulAttrs attrs = Low({.tb = true}, cell);
  attrs.bytes = true;
  return attrs;
}

}  // namespace

std::vector<Sample> LowMatmulSamples() {
  const MatmulAttrs nn, nt{.tb = true}, bias{.tb = true, .bias = true};
  const MatmulAttrs fused{.tb = true, .alpha = 0.5, .bias = true, .residual = true, .act = "gelu"};
  const MatmulAttrs near{.tb = true, .bias = true, .act = "gelu_near"};
  const MatmulAttrs tanh{.bias = true, .act = "gelu_tanh"}, residual{.alpha = -2, .residual = true};
  std::vector<Sample> samples;
  for (const char* cell : {"bf16", "int8"}) {
    const auto add = [&](const char* label, Extents a, Extents b, const MatmulAttrs& p) {
      const std::string before = std::string_view(cell) == "bf16" ? "" : "int8_";
      if (p.ta && !before.empty()) return;
      Sample sample{before + label, {{a}, {b}}, Low(p, cell)};
      const int64_t n = b[p.tb ? 0 : 1];
      if (p.bias) sample.in.push_back({{n}});
      if (p.residual) sample.in.push_back({{a[p.ta ? 1 : 0], n}});
      samples.push_back(std::move(sample));
    };
    add("one", {1, 1}, {1, 1}, nt);
    add("odd", {3, 5}, {2, 5}, nt);
    add("odd_nn", {3, 5}, {5, 9}, nn);
    add("prime", {29, 53}, {37, 53}, nt);
    add("prime_nn", {29, 53}, {53, 67}, nn);
    add("deep", {7, 1031}, {65, 1031}, nt);
    add("deep_nn", {7, 1031}, {1031, 24}, nn);
    add("bias", {7, 64}, {9, 64}, bias);
    add("residual", {7, 65}, {65, 24}, residual);
    add("fused", {7, 37}, {9, 37}, fused);
    add("fused_near", {7, 37}, {73, 37}, near);
    add("fused_tanh", {13, 19}, {19, 17}, tanh);
    add("tn", {5, 3}, {5, 2}, {.ta = true, .alpha = -2});
    add("tt", {6, 3}, {4, 6}, {.ta = true, .tb = true});
    add("prime_tn", {53, 29}, {53, 67}, {.ta = true});
    add("sum_tn", {394, 33}, {394, 130}, {.ta = true, .residual = true});
    add("empty_sum_tn", {0, 3}, {0, 2}, {.ta = true, .residual = true});
    add("empty", {0, 5}, {2, 5}, fused);
    add("empty_cols", {3, 5}, {0, 5}, nt);
    add("empty_sum", {3, 0}, {2, 0}, fused);
    if (std::string_view(cell) == "int8") AddCalibrated(samples), AddBytes(samples);
    AddBf16(cell, samples);
    add("bench", {197, 768}, {768, 768}, bias);
    add("bench_nn", {197, 768}, {768, 768}, nn);
  }
  return samples;
}

std::vector<ErrorSample> LowMatmulErrors() {
  const MatmulAttrs nn, nt{.tb = true}, tt{.ta = true, .tb = true};
  const MatmulAttrs gelu{.tb = true, .act = "gelu"};
  const TensorType x16{DType::kBf16, {3, 5}};
  std::vector<ErrorSample> errors;
  const auto add = [&](std::vector<TensorType> in, const LowMatmulAttrs& attrs,
                       const char* message) {
    errors.push_back({std::move(in), Attrs(attrs), message});
  };
  add({F32({3, 5}), {DType::kBf16, {4, 5}}}, Low(nt), "b: expected an f32 matrix");
  add({x16, F32({4, 5}), F32({3, 4})}, WithTimes(nt), "times: expected bf16[3,4], found f32[3,4]");
  add({x16, F32({4, 5}), x16}, WithTimes(gelu), "times: expected no act, found gelu");
  add({x16, F32({4, 5})}, WithSlope16(nt), "slope16: expected an act");
  add({F32({3, 5}), F32({4, 2})}, Low(nn), "inner dimensions differ: 5 of a, 4 of b");
  add({F32({3, 5})}, Low(nt), "expected at least 2 inputs, found 1");
  add({F32({5, 3}), F32({4, 5})}, Low(tt, "int8"), "found ta=1");
  add({F32({3, 5}), F32({4, 5})}, Low(nt, "fp8"), "unknown cell 'fp8'");
  add({F32({3, 5}), F32({4, 5})}, Calibrated("int8"), "found int8 and 2 inputs");
  add({F32({3, 5}), F32({4, 5}), F32({10})}, Calibrated("bf16"), "found bf16 and 3 inputs");
  add({F32({3, 5}), F32({4, 5}), F32({5})}, Calibrated("int8"), "expected f32[10]");
  add({F32({3, 5}), F32({4, 5}), F32({10})}, Calibrated("int8", 256), "zero 256");
  add({F32({3, 5}), F32({4, 5}), F32({3, 2})}, OfBytes("bf16"), "expected int8 without");
  add({F32({3, 5}), F32({4, 5}), F32({3, 2})}, OfBytes("int8"), "expected cells i32[R,2]");
  add({{DType::kI32, {3, 2}}, F32({4, 5}), F32({3})}, OfBytes("int8"),
      "range: expected f32[3,2], found f32[3]");
  add({F32({3, 5000}), F32({4, 5000})}, Low(nt, "int8"),
      "int8: 5000 numbers in a sum, at most 4096");
  return errors;
}

}  // namespace graft
