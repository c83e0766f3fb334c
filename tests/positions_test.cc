// Compares position embeddings for other grids with torch's bicubic interpolation in float64.
#include <gtest/gtest.h>

#include <cmath>

#include "models/vit.h"

namespace graft::positions_test {
namespace {

// Resizes a class token and 5 x 5 patches of width 2, value[i] = sin(0.3 (i + 1)), to a grid of to
// x to.
std::vector<double> Resized(int64_t to, Resampling how) {
  ParamStore params;
  float* values = params.Allocate("pos_embed", {26, 2});
  for (int i = 0; i < 52; ++i) values[i] = static_cast<float>(std::sin(0.3 * (i + 1)));
  params.Freeze();
  ResizePositions(params, 1, 5, to, how);
  const std::span<const float> all = params.values("pos_embed");
  EXPECT_EQ(all.size(), static_cast<size_t>(2 * (1 + to * to)));
  EXPECT_EQ(all[0], static_cast<float>(std::sin(0.3)));
  return {all.begin() + 2, all.end()};
}

void ExpectNear(const std::vector<double>& values, const std::vector<double>& expected) {
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(values[i], expected[i], 1e-6) << i;
}

TEST(Positions, SmallerGrids) {
  ExpectNear(Resized(3, Resampling::kAntialiased),
             {0.1733843, 0.1737782, 0.1174673, 0.0753703, -0.0378321, -0.0868042, 0.0160883,
              0.0195967, 0.0203742, 0.0179523, 0.0074226, 0.0011194, 0.0476443, 0.0954501, 0.162442,
              0.1712662, 0.1398067, 0.1021837});
  ExpectNear(Resized(3, Resampling::kPlain),
             {0.2601292, 0.2689465, 0.1946812, 0.1291306, -0.0660685, -0.1402275, 0.689863,
              0.8661626, 0.9698898, 0.8545989, 0.2769357, -0.0142874, 0.0650378, 0.1393193,
              0.2624764, 0.2736846, 0.1966021, 0.1334931});
}

// Of larger grids the first values, the sum of squares and the product with sin(1), sin(2), ... are
// compared.
TEST(Positions, LargerGrids) {
  const auto check = [](Resampling how, const std::vector<double>& first, double squares,
                        double sines) {
    const std::vector<double> values = Resized(8, how);
    ExpectNear(values, first);
    double a = 0, b = 0;
    for (size_t i = 0; i < values.size(); ++i)
      a += values[i] * values[i], b += values[i] * std::sin(static_cast<double>(i + 1));
    EXPECT_NEAR(a, squares, 1e-5);
    EXPECT_NEAR(b, sines, 1e-5);
  };
  check(Resampling::kAntialiased, {0.8711607, 1.0579496, 0.9954832, 1.0999657}, 42.0322744,
        0.264149);
  check(Resampling::kPlain, {0.8956699, 1.0941614, 1.0442919, 1.1520917}, 44.2842244, 0.3516712);
}

}  // namespace
}  // namespace graft::positions_test
