// Statistics of repetitions: steps of a profile, samples of a rate.
#pragma once
#include <vector>

namespace graft {

double Median(std::vector<double> values);  // 0 of none
// The median of the distances from the median.
double Spread(const std::vector<double>& values);

// The two-sided p-value of the Mann-Whitney U test: how likely two samples of one distribution are
// apart by ranks at least as far as these. It assumes no shape of the distribution. Exact for up to
// 20 values each, also with ties, of all ways to part the ranks; otherwise by the normal
// approximation with the corrections for continuity and ties (Mann and Whitney 1947; as
// scipy.stats.mannwhitneyu, without ties and but for the limit). 1 if a sample is empty.
double MannWhitney(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace graft
