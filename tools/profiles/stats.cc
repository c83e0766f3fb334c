#include "tools/profiles/stats.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace graft {
namespace {

constexpr size_t kMostExact = 20;

// P(U >= u) for samples of n and m without ties, by counting the ways to order them.
double ExactTail(size_t n, size_t m, double u) {
  // ways[i][j] is the number of orders of i values of the first sample and k of the other with U =
  // j. For k = 0, U is 0. Otherwise the largest of all is of the first sample, and beats the k
  // others, or it is not.
  std::vector<std::vector<double>> ways(n + 1, std::vector<double>(n * m + 1));
  for (size_t i = 0; i <= n; ++i) ways[i][0] = 1;
  for (size_t k = 1; k <= m; ++k)
    for (size_t i = 1; i <= n; ++i)
      for (size_t j = k; j <= n * m; ++j) ways[i][j] += ways[i - 1][j - k];
  double above = 0, all = 0;
  for (size_t j = 0; j <= n * m; ++j) {
    all += ways[n][j];
    if (static_cast<double>(j) >= u) above += ways[n][j];
  }
  return above / all;
}

struct Ranks {
  double first = 0;    // the sum of the ranks of the first sample, ties sharing theirs
  double t_cubed = 0;  // sum of t^3 - t over groups of t equal values
};

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
  if (ranks.t_cubed == 0 && a.size() <= kMostExact && b.size() <= kMostExact)
    return std::min(1.0, 2 * ExactTail(a.size(), b.size(), u));
  const double all = n + m;
  const double variance = n * m / 12 * (all + 1 - ranks.t_cubed / (all * (all - 1)));
  if (variance <= 0) return 1;
  const double z = (u - n * m / 2 - 0.5) / std::sqrt(variance);
  return std::min(1.0, std::erfc(z / std::sqrt(2.0)));
}

}  // namespace graft
