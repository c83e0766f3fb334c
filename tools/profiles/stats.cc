#include "tools/profiles/stats.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace graft {
namespace {

constexpr size_t kMostExact = 20;

struct Ranks {
  double first = 0;           // the sum of the ranks of the first sample, ties sharing theirs
  double t_cubed = 0;         // sum of t^3 - t over groups of t equal values
  std::vector<size_t> twice;  // twice each rank of all, which is whole
};

// Twice the share of all ways to choose n of the ranks whose sum is as far out as `first`, or
// farther, on its side; by counting them.
double ExactP(const Ranks& ranks, size_t n) {
  size_t most = 0;
  for (const size_t r : ranks.twice) most += r;
  // ways[i][s]: of the ranks so far, choices of i with the sum s.
  std::vector<std::vector<double>> ways(n + 1, std::vector<double>(most + 1));
  ways[0][0] = 1;
  for (const size_t r : ranks.twice)
    for (size_t i = n; i >= 1; --i)
      for (size_t s = most; s >= r; --s) ways[i][s] += ways[i - 1][s - r];
  const auto found = static_cast<size_t>(2 * ranks.first);
  double below = 0, above = 0, all = 0;
  for (size_t s = 0; s <= most; ++s) {
    all += ways[n][s];
    below += s <= found ? ways[n][s] : 0;
    above += s >= found ? ways[n][s] : 0;
  }
  return std::min(1.0, 2 * std::min(below, above) / all);
}

Ranks RankSum(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<std::pair<double, bool>> all;
  for (const double x : a) all.emplace_back(x, true);
  for (const double x : b) all.emplace_back(x, false);
  std::ranges::sort(all);
  Ranks r;
  for (size_t i = 0; i < all.size();) {
    size_t end = i;
    while (end < all.size() && all[end].first == all[i].first) ++end;
    const double t = static_cast<double>(end - i);
    const double rank = static_cast<double>(i) + (t + 1) / 2;
    r.twice.insert(r.twice.end(), end - i, static_cast<size_t>(2 * rank));
    for (; i < end; ++i) r.first += all[i].second ? rank : 0;
    r.t_cubed += t * t * t - t;
  }
  return r;
}

}  // namespace

double Median(std::vector<double> v) {
  std::ranges::sort(v);
  const size_t half = v.size() / 2;
  return v.empty() ? 0 : v.size() % 2 ? v[half] : (v[half - 1] + v[half]) / 2;
}

double Spread(const std::vector<double>& v) {
  const double median = Median(v);
  std::vector<double> apart;
  for (const double x : v) apart.push_back(std::abs(x - median));
  return Median(apart);
}

double MannWhitney(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.empty() || b.empty()) return 1;
  const double n = static_cast<double>(a.size()), m = static_cast<double>(b.size());
  const Ranks ranks = RankSum(a, b);
  const double u1 = ranks.first - n * (n + 1) / 2, u = std::max(u1, n * m - u1);
  if (a.size() <= kMostExact && b.size() <= kMostExact) return ExactP(ranks, a.size());
  const double all = n + m;
  const double variance = n * m / 12 * (all + 1 - ranks.t_cubed / (all * (all - 1)));
  if (variance <= 0) return 1;
  const double z = (u - n * m / 2 - 0.5) / std::sqrt(variance);
  return std::min(1.0, std::erfc(z / std::sqrt(2.0)));
}

}  // namespace graft
