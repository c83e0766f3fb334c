// Statistics that tell a slower kernel from noise. Values of scipy.stats.mannwhitneyu (1.16,
// two-sided, exact without ties and asymptotic with them).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/error.h"
#include "tools/profiles/compare.h"
#include "tools/profiles/stats.h"
#include "tools/profiles/sweep.h"

namespace graft::profile_stats_test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Sample = std::vector<double>;

Sample Range(int n, double from) {
  Sample s(static_cast<size_t>(n));
  std::iota(s.begin(), s.end(), from);
  return s;
}

TEST(ProfileStats, MannWhitneyIsScipys) {
  const struct {
    Sample a, b;
    double p;
  } cases[] = {{{1, 2, 3, 4, 5}, {6, 7, 8, 9, 10}, 0.007936507936507936},
               {{1.1, 2.5, 3.7}, {0.4, 2.6, 9.1, 8.0}, 0.6285714285714286},
               {{5, 1, 4, 9, 12, 3}, {2, 8, 7, 20, 15, 30, 11}, 0.13752913752913754},
               {{1, 1, 2, 3}, {2, 2, 4, 5, 1}, 48.0 / 126},  // permutation_test, as there are ties
               {{1, 1, 1, 1}, {1.2, 1.2, 1.2, 1.2, 1.2}, 2.0 / 126},
               {Range(25, 0), Range(22, 7.5), 0.009586761541013657},
               {{3, 3, 3}, {3, 3}, 1}};
  for (const auto& [a, b, p] : cases) {
    EXPECT_NEAR(MannWhitney(a, b), p, 1e-12) << p;
    EXPECT_NEAR(MannWhitney(b, a), p, 1e-12) << p;
  }
  EXPECT_EQ(MannWhitney({}, {1, 2}), 1);
}

// As many of all ways to split ten values are as extreme as the p-value says.
TEST(ProfileStats, ThePValueCountsSplits) {
  const int n = 4, m = 6;
  std::vector<int> in_first(n + m);
  std::fill_n(in_first.begin(), n, 1);
  std::sort(in_first.begin(), in_first.end());
  std::vector<double> all;
  do {
    Sample a, b;
    for (int i = 0; i < n + m; ++i) (in_first[static_cast<size_t>(i)] ? a : b).push_back(i);
    all.push_back(MannWhitney(a, b));
  } while (std::next_permutation(in_first.begin(), in_first.end()));
  ASSERT_EQ(all.size(), 210u);
  for (const double p : all) {
    const auto as_extreme =
        std::ranges::count_if(all, [&](double other) { return other <= p + 1e-12; });
    EXPECT_NEAR(p, std::min(1.0, static_cast<double>(as_extreme) / 210), 1e-9);
  }
}

TEST(ProfileStats, MedianAndSpread) {
  EXPECT_EQ(Median({}), 0);
  EXPECT_EQ(Median({3, 1, 2}), 2);
  EXPECT_EQ(Median({4, 1, 2, 3}), 2.5);
  EXPECT_EQ(Spread({1, 2, 3, 4, 100}), 1);  // one far step does not count
}

TEST(ProfileStats, PercentsAreRead) {
  EXPECT_DOUBLE_EQ(ParsePercent("5%"), 0.05);
  EXPECT_DOUBLE_EQ(ParsePercent("0.5 %"), 0.005);
  EXPECT_DOUBLE_EQ(ParsePercent("0%"), 0);
  for (const char* bad : {"", "%", "5", "5%%", "five%", "-1%", "nan%", "inf%", "1e9%", "5 percent"})
    EXPECT_THROW(ParsePercent(bad), Error) << bad;
}

TEST(ProfileStats, CountersAreALine) {
  EXPECT_EQ(CountersText({"not here", 0, 0, 0, 0}), "no hardware counters: not here");
  EXPECT_EQ(CountersText({"", 200, 100, 5000, 50}),
            "2.00 instructions a cycle, 1.0 % of 5,000 references to the last cache miss "
            "(4 KiB from memory)");
  EXPECT_EQ(CountersText({"", 50, 100, 0, 0}), "0.50 instructions a cycle");
}

StoredProfile Made(const std::vector<Sample>& kinds) {
  StoredProfile p;
  p.steps_ms.assign(kinds[0].size(), 0);
  for (size_t i = 0; i < kinds.size(); ++i) {
    p.kinds.push_back(
        {"forward", "matmul", "layer" + std::to_string(i), "1x1x1", "simd", kinds[i]});
    for (size_t s = 0; s < p.steps_ms.size(); ++s) p.steps_ms[s] += kinds[i][s];
  }
  return p;
}

// One kind of many is far from the others by chance; one that is really slower still shows.
TEST(ProfileCompare, CorrectsForTheNumberOfKinds) {
  std::vector<Sample> before, after;
  for (int i = 0; i < 20; ++i) before.push_back(Range(10, i)), after.push_back(Range(10, i));
  before[3] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  after[3] = {5.5, 6.5, 7.5, 8.5, 9.5, 10.5, 11.5, 12.5, 13.5, 14.5};
  ASSERT_LT(MannWhitney(before[3], after[3]), kSignificant);
  after[5] = Range(10, 100);
  const Comparison c = CompareProfiles(Made(before), Made(after));
  ASSERT_EQ(c.kinds.size(), 20u);
  EXPECT_EQ(c.kinds[0].layer, "layer5");  // the largest difference first
  EXPECT_TRUE(IsSlower(c.kinds[0], 0.05));
  const auto chance = std::ranges::find(c.kinds, "layer3", &Change::layer);
  EXPECT_GT(chance->p, kSignificant);
  EXPECT_FALSE(IsSlower(*chance, 0));
}

// A peak that is sampled while others run is none: shares above 1 are told, whatever the load.
TEST(SweepStats, DisturbedPointsAreTold) {
  const auto row = [](double ms, double spread, double share) {
    return nlohmann::json{{"ms", ms}, {"spread_ms", spread}, {"share_of_peak", share}};
  };
  const auto told = [](const nlohmann::json& rows) {
    return fmt::format("{}", fmt::join(SweepDisturbances(rows), "; "));
  };
  EXPECT_THAT(told(nlohmann::json::array({row(1, 0.01, 0.9), row(1, 0.01, 11.4)})),
              HasSubstr("1 of 2 points are faster than the peak"));
  EXPECT_THAT(told(nlohmann::json::array({row(1, 0.5, 0.9)})),
              HasSubstr("1 of 1 points are 20 % from their median"));
  EXPECT_THAT(told(nlohmann::json::array({row(1, 0.01, 0.9)})), Not(HasSubstr("points")));
}

}  // namespace
}  // namespace graft::profile_stats_test
