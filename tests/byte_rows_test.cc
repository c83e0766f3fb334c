// The transform of rows before they become bytes, what it does to the error of a product, and rows
// that several products share.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <random>

#include "ops/hadamard.h"
#include "ops/low_cells.h"
#include "tests/low_testing.h"

namespace graft::testing::byte_rows_test {
namespace {

TEST(Hadamard, LeavesProductsAsTheyAre) {
  for (const int64_t k : {1, 5, 16, 40, 48, 64, 192, 384, 768, 1536, 4096}) {
    std::vector<float> x = Normal(k, 1, 1.0f), w = Normal(k, 2, 1.0f);
    double before = 0, after = 0;
    for (size_t i = 0; i < x.size(); ++i) before += double{x[i]} * w[i];
    Hadamard(x.data(), k), Hadamard(w.data(), k);
    for (size_t i = 0; i < x.size(); ++i) after += double{x[i]} * w[i] / HadamardGain(k);
    EXPECT_NEAR(after, before, 1e-4 * std::sqrt(static_cast<double>(k))) << k;
  }
}

TEST(Hadamard, IsItsOwnInverse) {
  for (const int64_t k : {16, 48, 192, 384, 1536}) {
    const std::vector<float> x = Normal(k, 3, 1.0f);
    std::vector<float> y = x;
    Hadamard(y.data(), k), Hadamard(y.data(), k);
    for (size_t i = 0; i < x.size(); ++i)
      EXPECT_NEAR(y[i] / HadamardGain(k), x[i], 1e-5) << k << " " << i;
  }
}

// A number of 1 alone becomes as many of 1 or -1 as the gain says.
TEST(Hadamard, SpreadsANumberOverItsNeighbours) {
  for (const auto& [k, places] : {std::pair{16, 8},
                                  {48, 8},
                                  {64, 32},
                                  {192, 32},
                                  {384, 64},
                                  {768, 128},
                                  {1536, 128},
                                  {40, 1}}) {
    std::vector<float> x(static_cast<size_t>(k));
    x[static_cast<size_t>(k) - 3] = 1;
    Hadamard(x.data(), k);
    EXPECT_EQ(std::ranges::count_if(x, [](float v) { return std::abs(v) == 1; }), places) << k;
    EXPECT_EQ(std::ranges::count(x, 0.0f), k - places) << k;
    EXPECT_EQ(HadamardGain(k), static_cast<float>(places)) << k;
  }
}

// Whatever is within a row's range stays within a byte, and a row whose range is beyond f32 has no
// scale.
TEST(ByteRows, RangesAreBytes) {
  const auto far = std::numeric_limits<float>::max();
  for (const auto& [min, max] : {std::pair{-1.0f, 0.0f},
                                 {0.0f, 1.0f},
                                 {-0.17f, 3.0f},
                                 {-3e-39f, 0.0f},
                                 {-1e30f, 3e37f},
                                 {-0.4999f, 0.5f},
                                 {-127.5f, 126.5f}}) {
    const ByteRow row = ByteRowOf(min, max, 0);
    EXPECT_GE(min * row.inverse + row.zero, -0.5f) << min << " " << max;
    EXPECT_LE(max * row.inverse + row.zero, 255.5f) << min << " " << max;
    EXPECT_EQ(ByteOf(0, row), static_cast<uint8_t>(row.zero)) << min << " " << max;
    EXPECT_LE(ByteOf(min, row), 1) << min << " " << max;
    if (max > 0) {
      EXPECT_GE(ByteOf(max, row), 254) << min << " " << max;
    }
  }
  for (const float size : {1e-30f, 1e-36f, 1e-37f}) {  // the inverse of the last is cut
    const ByteRow row = ByteRowOf(-size, size, 0);
    const double back = double{row.scale} * (int{ByteOf(0.7f * size, row)} - row.zero);
    EXPECT_NEAR(back, 0.7 * size, 0.02 * size) << size;
  }
  EXPECT_EQ(ByteRowOf(0, 0, 0).scale, 0);
  EXPECT_TRUE(std::isnan(ByteRowOf(-far, far, 0).scale));
}

// Sums of finite numbers that overflow inside the transform are no numbers either, whatever they
// become there: infinities may meet and be gone.
TEST(ByteRows, WhatOverflowsHasNoScale) {
  constexpr int64_t k = 128;
  std::mt19937 draw(1);
  std::uniform_real_distribution<float> size(3e37f, 2.6e38f);
  int overflowing = 0;
  for (int row = 0; row < 80000; ++row) {
    std::array<float, k> x{}, transformed;
    for (unsigned left = 2 + draw() % 6; left > 0; --left)
      x[draw() % k] = draw() % 2 ? size(draw) : -size(draw);
    transformed = x;
    Hadamard(transformed.data(), k);
    const bool finite = std::ranges::all_of(transformed, [](float v) { return std::isfinite(v); });
    const Tensor in{x.data(), DType::kF32, {1, k}};
    std::array<std::byte, k> bytes;
    float range[2];
    MakeByteRows(in, 1, k, bytes.data(), range);
    ASSERT_TRUE(finite || std::isnan(range[0])) << row;
    overflowing += !finite;
  }
  EXPECT_GT(overflowing, 20000);
  // Of these eight numbers four results are NaN and none infinite, and what follows is finite.
  std::array<float, 48> x;
  x.fill(1);
  std::fill_n(x.begin() + 16, 8, 2e38f);
  x[22] = x[23] = -2e38f;
  std::array<std::byte, 48> bytes;
  float range[2];
  MakeByteRows({x.data(), DType::kF32, {1, 48}}, 1, 48, bytes.data(), range);
  EXPECT_TRUE(std::isnan(range[0]));
}

// The root mean square of the error of x w' in int8, beside that of the result.
double ErrorOfBytes(const std::vector<float>& x, const std::vector<float>& w, int64_t k) {
  constexpr int64_t kRows = 8, kCols = 16;
  Graph g;
  LowMatmulAttrs attrs;
  attrs.product.tb = true, attrs.cell = "int8";
  const ValueId in = g.AddInput("x", F32({Dim::Sequences(), k}));
  g.AddOutput("y", g.Add1(kLowMatmul, {in, g.AddParam("w", {kCols, k})}, attrs));
  ParamStore params;
  params.Set("w", {kCols, k}, w);
  Session session(g, params, {.capacity = {kRows, 0}});
  std::ranges::copy(x, session.Input("x").f32());
  session.Run({kRows, 0});
  double error = 0, all = 0;
  for (int64_t i = 0; i < kRows; ++i)
    for (int64_t j = 0; j < kCols; ++j) {
      double y = 0;
      for (int64_t n = 0; n < k; ++n) y += double{x[i * k + n]} * w[j * k + n];
      error += std::pow(session.Output("y").f32()[i * kCols + j] - y, 2), all += y * y;
    }
  return std::sqrt(error / all);
}

// One number of every row is 100 times as large as the others, as in the residual stream of
// transformers, and here meets no weight: the others would be rounded to a third of their size.
TEST(ByteRows, ALargeNumberDoesNotHideTheOthers) {
  constexpr int64_t k = 768;
  std::vector<float> x = Normal(8 * k, 1, 1.0f), w = Normal(16 * k, 2, 1.0f);
  EXPECT_LT(ErrorOfBytes(x, w, k), 0.012);
  for (int64_t i = 0; i < 8; ++i) x[static_cast<size_t>(i * k + 200)] = 100;
  for (int64_t j = 0; j < 16; ++j) w[static_cast<size_t>(j * k + 200)] = 0;
  EXPECT_LT(ErrorOfBytes(x, w, k), 0.05);
}

TEST(ByteRows, AreMadeOnceForQueryKeyAndValue) {
  Precision precision = Of(CellType::kInt8);
  const LowStep shared("linear", precision), apart("linear", precision, 0, kVit, {"byte_rows"});
  EXPECT_EQ(CountOps(shared.graph(), kByteRows), kVit.depth - 1);  // the first ones are bf16
  EXPECT_EQ(CountOps(apart.graph(), kByteRows), 0);
  for (NodeId id : shared.graph().TopoOrder()) {
    const Node& n = shared.graph().node(id);
    if (n.op != &kByteRows) continue;
    // The last block has a query for the class token alone, which reads other rows.
    const size_t products = n.scope == "blocks.0.attn" ? 3 : 2;
    EXPECT_EQ(shared.graph().users(n.out[0]).size(), products) << n.scope;
    EXPECT_EQ(shared.graph().users(n.out[1]).size(), products) << n.scope;
  }
}

// Forward and backward, whatever is stored in bf16.
TEST(ByteRows, SharedOnesGiveTheBitsOfTheirOwn) {
  for (const char* method : {"linear", "lora(r=2)", "adaptformer(r=2)", "bitfit"}) {
    LowStep shared(method, Of(CellType::kInt8)),
        apart(method, Of(CellType::kInt8), 0, kVit, {"byte_rows"});
    EXPECT_EQ(shared.Accumulate(), apart.Accumulate()) << method;
    for (const std::string& name : shared.step->trainable_names())
      EXPECT_EQ(shared.Gradient(name), apart.Gradient(name)) << method << " " << name;
  }
}

// With static scales they make their own, without they share them.
TEST(ByteRows, OfCalibratedProducts) {
  for (const bool is_static : {true, false}) {
    Graph g;
    const ValueId x = g.AddInput("x", F32({Dim::Sequences(), 64}));
    g.AddOutput("y", Matmul(g, x, g.AddParam("w", {48, 64}), false, true));
    g.AddOutput("z", Matmul(g, x, g.AddParam("other", {48, 64}), false, true));
    SeenProduct seen{std::vector<float>(48), {}};
    if (is_static) seen.bytes = {std::vector<float>(128, 1.5f), 7};
    Precision precision{CellType::kInt8, false};
    precision.calibration = std::make_shared<const Calibration>(Calibration{{"w", seen}});
    LowPrecisionPass(precision).run(g);
    EXPECT_EQ(ByteRowsPass().run(g).rewrites, is_static ? 0 : 2);
  }
}

}  // namespace
}  // namespace graft::testing::byte_rows_test
