// Tests what int8 learns from examples: offsets that make up for the rounding of weights, the
// factors and zeros of static scales, and which products get them.
#include "train/byte_ranges.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "ops/hadamard.h"
#include "ops/low_reference.h"
#include "ops/ops.h"
#include "runtime/session.h"
#include "tests/graph_testing.h"
#include "tests/test_util.h"

namespace graft::testing::byte_ranges_test {
namespace {

std::vector<float> RandomVector(size_t n, uint32_t seed, float min = -1, float max = 1) {
  std::mt19937 random(seed);
  std::vector<float> all(n);
  for (float& x : all) x = min + (max - min) * static_cast<float>(random()) * 0x1p-32f;
  return all;
}

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

// Whatever the order, and with numbers that are none or too large.
TEST(ByteRanges, MeansOfRows) {
  InputSums up{std::vector<int64_t>(3)}, down = up;
  EXPECT_THAT(up.Mean(), ::testing::Each(0));
  const float nan = std::numeric_limits<float>::quiet_NaN(),
              inf = std::numeric_limits<float>::infinity();
  const std::vector<std::vector<float>> rows{
      {1, -2, nan}, {0.5f, 1e-5f, inf}, {3, 1e8f, 1}, {-0.25f, -1e8f, -inf}};
  for (size_t i = 0; i < 4; ++i) up.Add(rows[i].data()), down.Add(rows[3 - i].data());
  EXPECT_EQ(up.sums, down.sums);
  EXPECT_EQ(up.rows, 4);
  EXPECT_FLOAT_EQ(up.Mean()[0], 4.25f / 4);
  EXPECT_NEAR(up.Mean()[1], (-2 + 1e-5) / 4, 5e-7);
  EXPECT_FLOAT_EQ(up.Mean()[2], 0.25f);
}

std::vector<float> Transformed(std::vector<float> rows, size_t k) {
  for (size_t i = 0; i < rows.size(); i += k) Hadamard(&rows[i], static_cast<int64_t>(k));
  return rows;
}

// Beside the rounding of the operator's reference.
TEST(ByteRanges, WhatRoundingAWeightTakesFromTheMean) {
  for (const size_t k : {64, 37}) {
    const size_t n = 5;
    const std::vector<float> weight = RandomVector(n * k, 3), mean = RandomVector(k, 4);
    StaticBytes bytes = SmoothBytes({std::vector<float>(k, -90), RandomVector(k, 5, 60, 200)},
                                    Transformed(weight, k));
    for (const bool is_static : {false, true}) {
      if (!is_static) bytes.factors.clear();
      const std::vector<double> factors(bytes.factors.begin(), bytes.factors.end());
      const std::vector<float> turned = Transformed(mean, k);
      const std::vector<float> missing = MissingOf(weight, mean, bytes);
      ASSERT_EQ(missing.size(), n);
      for (size_t i = 0; i < n; ++i) {
        const std::vector<double> w(&weight[i * k], &weight[i * k] + k);
        std::vector<double> rounded(k);
        RoundColumn(w.data(), {static_cast<int64_t>(k), 1}, factors.empty() ? nullptr : &factors[0],
                    rounded.data());
        double exact = 0, low = 0;
        for (size_t j = 0; j < k; ++j) exact += w[j] * mean[j], low += rounded[j] * turned[j];
        EXPECT_NEAR(missing[i], exact - low, 1e-6 * k) << k << " " << is_static << " " << i;
        EXPECT_GT(std::abs(missing[i]), 1e-5);
      }
    }
  }
}

// x [R,64] and weights [48,64] of which "w" was seen: with a bias, without, multiplied by alpha.
struct OfSeen {
  Graph g;
  ParamStore params;
  SeenProduct seen{std::vector<float>(48, 2), {}};
  OfSeen() {
    const ValueId x = g.AddInput("x", F32({Dim::Sequences(), 64}));
    const ValueId w = g.AddParam("w", {48, 64}), bias = g.AddParam("bias", {48});
    params.Set("w", {48, 64}, std::vector<float>(48 * 64));
    params.Set("bias", {48}, RandomVector(48, 1));
    g.AddOutput("biased", g.Add1(kMatmul, {x, w, bias}, MatmulAttrs{.tb = true, .bias = true}));
    g.AddOutput("plain", g.Add1(kMatmul, {x, w}, MatmulAttrs{.tb = true}));
    g.AddOutput("scaled", g.Add1(kMatmul, {x, w}, MatmulAttrs{.tb = true, .alpha = 0.5}));
    g.AddOutput("back", g.Add1(kMatmul, {g.AddInput("dy", F32({Dim::Sequences(), 48})), w}, {}));
  }
  // Results for rows of zeros, which are the biases.
  std::vector<std::vector<float>> Biases() {
    Precision precision{CellType::kInt8, false};
    precision.calibration = std::make_shared<const Calibration>(Calibration{{"w", seen}});
    AddSeen(*precision.calibration, params);
    LowPrecisionPass(precision).run(g);
    Session session(g, params, {.capacity = {1, 0}});
    std::fill_n(session.Input("x").f32(), 64, 0.0f);
    std::fill_n(session.Input("dy").f32(), 48, 0.0f);
    session.Run({1, 0});
    std::vector<std::vector<float>> all;
    for (const char* name : {"biased", "plain", "scaled", "back"})
      all.push_back(OutputValues(session, name));
    return all;
  }
};

TEST(ByteRanges, OffsetsBecomePartOfTheBias) {
  for (const bool is_static : {false, true}) {
    OfSeen of;
    if (is_static) of.seen.bytes = {std::vector<float>(128, 1.5f), 7};
    std::vector<float> biased = RandomVector(48, 1);
    for (float& b : biased) b += 2;
    EXPECT_THAT(of.Biases(), ::testing::ElementsAre(biased, ::testing::Each(2.0f),
                                                    ::testing::Each(1.0f), ::testing::Each(0.0f)));
  }
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
  precision.calibration =
      std::make_shared<const Calibration>(Calibration{{"w", {std::vector<float>(48), bytes}}});
  ParamStore params;
  AddSeen(*precision.calibration, params);
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
