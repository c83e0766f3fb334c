// Tests the static scales of int8: what factors and zeros do to rows within their ranges, and which
// products get them.
#include "train/byte_ranges.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "ops/ops.h"
#include "tests/graph_testing.h"
#include "tests/test_util.h"

namespace graft::testing::byte_ranges_test {
namespace {

double Rounded(const StaticBytes& bytes, size_t j, double x) {
  const size_t k = bytes.factors.size() / 2;
  const double z = static_cast<double>(bytes.zero);
  const double q = std::clamp(std::nearbyint(x * bytes.factors[j]) + z, 0.0, 255.0);
  return (q - z) * bytes.factors[k + j];
}

TEST(ByteRanges, EveryNumberWithinItsRangeIsNearWhatItBecomes) {
  const InputRanges ranges{{-1, -20, 0, -0.01f, 0}, {2, 5, 300, 0.01f, 0}};
  const std::vector<float> weight{0.5f, 1, 0.1f, 3, 1, -2, 0.25f, 0.1f, 1, 0};  // [2,5]
  const StaticBytes bytes = SmoothBytes(ranges, weight);
  ASSERT_EQ(bytes.factors.size(), 10u);
  EXPECT_GE(bytes.zero, 0);
  EXPECT_LE(bytes.zero, 255);
  for (size_t j = 0; j < 5; ++j) {
    EXPECT_NEAR(bytes.factors[j] * bytes.factors[5 + j], 1, 1e-6) << j;
    EXPECT_EQ(Rounded(bytes, j, 0), 0) << j;
    for (const double x : {double{ranges.min[j]}, 0.3 * ranges.max[j], double{ranges.max[j]}})
      EXPECT_NEAR(Rounded(bytes, j, x), x, 0.51 * bytes.factors[5 + j]) << j << " " << x;
  }
}

TEST(ByteRanges, NumbersThatAreLargeInAllRowsShareTheirRangeWithTheirWeights) {
  const std::vector<float> weight{1, 1};  // [1,2]
  const StaticBytes bytes = SmoothBytes({{-1, -100}, {1, 100}}, weight);
  // t is 1 and 100^0.35, so that x / t is within 100^0.65 = 19.95 of 0. One scale for both would be
  // 200 / 255, which leaves the first number one step in either direction.
  EXPECT_NEAR(bytes.factors[2], 2 * std::pow(100, 0.65) / 255, 1e-6);
  EXPECT_GT(bytes.factors[3], bytes.factors[2]);
}

TEST(ByteRanges, RowsOfZerosHaveAScale) {
  const StaticBytes bytes = SmoothBytes({{0, 0}, {0, 0}}, std::vector<float>{1, 0});
  for (const float f : bytes.factors) EXPECT_TRUE(std::isfinite(f) && f > 0) << f;
}

// Forward products that were looked at, and no others.
TEST(ByteRanges, ProductsTakeTheFactorsOfTheirWeight) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({Dim::Sequences(), 64}));
  const ValueId w = g.AddParam("w", {48, 64}), bias = g.AddParam("bias", {48});
  const ValueId other = g.AddParam("other", {48, 64});
  g.AddOutput("y", Linear(g, x, w, bias));
  g.AddOutput("z", Matmul(g, x, other, false, true));
  g.AddOutput("dx", Matmul(g, Matmul(g, x, other, false, true), w));
  Precision precision{CellType::kInt8, false};
  EXPECT_THAT(ByteProducts(g, precision), ::testing::SizeIs(3));
  StaticBytes bytes{std::vector<float>(128, 1.5f), 7};
  precision.calibration = std::make_shared<const Calibration>(Calibration{{"w", bytes}});
  ParamStore params;
  AddFactors(*precision.calibration, params);
  EXPECT_EQ(params.values("w.int8_factors").size(), 128u);
  LowPrecisionPass(precision).run(g);
  int calibrated = 0;
  for (NodeId id : g.TopoOrder()) {
    const Node& n = g.node(id);
    if (n.op != &kLowMatmul) continue;
    const LowMatmulAttrs& attrs = n.attrs.As<LowMatmulAttrs>();
    if (!attrs.calibrated) continue;
    ++calibrated;
    EXPECT_EQ(g.value(n.in[1]).name, "w");
    EXPECT_TRUE(attrs.product.tb);
    EXPECT_EQ(attrs.zero, 7);
    EXPECT_EQ(g.value(n.in[2]).name, "w.int8_factors");
  }
  EXPECT_EQ(calibrated, 1);
}

}  // namespace
}  // namespace graft::testing::byte_ranges_test
