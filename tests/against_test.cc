// eval --against: how far two evaluations of the same examples are apart.
#include "tools/lib/against.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace graft::against_test {
namespace {

TEST(Agreement, IsWhatItSays) {
  const std::vector<float> mine{1, 2, 3, 0}, others{1, 5, 0, 4};
  const Agreement a = Compare(mine, others, 2);
  EXPECT_EQ(a.same, 0.5);
  EXPECT_EQ(a.difference, 4);
  EXPECT_DOUBLE_EQ(a.rms, std::sqrt((9.0 + 9.0 + 16.0) / 4));
  EXPECT_EQ(a.range, 5);
  EXPECT_EQ(Compare(mine, mine, 2).difference, 0);
  EXPECT_EQ(Compare({}, {}, 0).same, 0);
}

TEST(Agreement, ANaNIsNoSmallDifference) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> mine{1, nan, 3, 0}, others{1, 5, 0, 4};
  EXPECT_TRUE(std::isnan(Compare(mine, others, 2).difference));
}

}  // namespace
}  // namespace graft::against_test
