#include "train/cma_es.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/error.h"
#include "runtime/rng.h"
#include "train/symmetric_eigen.h"

namespace graft {
namespace {

// In place of an eigenvalue that is not positive, and beside a squared norm that divides.
constexpr double kEpsilon = 1e-8;

size_t Size(int64_t n) { return static_cast<size_t>(n); }
bool AllFinite(std::span<const double> x) {
  return std::ranges::all_of(x, [](double v) { return std::isfinite(v); });
}
double SquaredNorm(std::span<const double> x) {
  return std::inner_product(x.begin(), x.end(), x.begin(), 0.0);
}
std::span<const double> Row(std::span<const double> matrix, size_t row, size_t columns) {
  return matrix.subspan(row * columns, columns);
}

// y = M x and y = M^T x for M [n,n] in rows.
void Multiply(std::span<const double> m, std::span<const double> x, std::span<double> y) {
  for (size_t i = 0; i < x.size(); ++i) {
    const std::span<const double> row = Row(m, i, x.size());
    y[i] = std::inner_product(row.begin(), row.end(), x.begin(), 0.0);
  }
}
void MultiplyTransposed(std::span<const double> m, std::span<const double> x, std::span<double> y) {
  std::ranges::fill(y, 0.0);
  for (size_t i = 0; i < x.size(); ++i) {
    const std::span<const double> row = Row(m, i, x.size());
    for (size_t j = 0; j < x.size(); ++j) y[j] += row[j] * x[i];
  }
}

// C = B D^2 B^T, which is the covariance again but for the eigenvalues that were repaired.
void Recompose(CmaEs& s) {
  const size_t n = Size(s.n);
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j <= i; ++j) {
      double sum = 0;
      for (size_t k = 0; k < n; ++k)
        sum += s.eigenvectors[i * n + k] * s.eigenvectors[j * n + k] * s.scales[k] * s.scales[k];
      s.covariance[i * n + j] = s.covariance[j * n + i] = sum;
    }
}

// Candidates from the best to the worst.
std::vector<size_t> Ranked(std::span<const double> losses) {
  std::vector<size_t> order(losses.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, [&](size_t a, size_t b) {
    return losses[a] < losses[b] || (std::isnan(losses[b]) && !std::isnan(losses[a]));
  });
  return order;
}

// Steps y = (x - mean) / sigma of the candidates in that order, [population,n].
std::vector<double> RankedSteps(const CmaEs& s, std::span<const size_t> order) {
  const size_t n = Size(s.n);
  std::vector<double> steps;
  steps.reserve(s.candidates.size());
  for (const size_t candidate : order) {
    const std::span<const double> x = Row(s.candidates, candidate, n);
    for (size_t i = 0; i < n; ++i) steps.push_back((x[i] - s.mean[i]) / s.sigma);
  }
  return steps;
}

// D^(-1) B^T y, which has the length of C^(-1/2) y = B D^(-1) B^T y.
void Whiten(const CmaEs& s, std::span<const double> y, std::span<double> white) {
  MultiplyTransposed(s.eigenvectors, y, white);
  for (size_t i = 0; i < white.size(); ++i) white[i] /= s.scales[i];
}

// Moves the mean by the weighted steps of the parents, then the paths and the step size. Returns
// h, whether the path of the covariance takes part.
bool MoveMean(CmaEs& s, std::span<const double> steps) {
  const CmaConstants& k = s.constants;
  const size_t n = Size(s.n);
  std::vector<double> step(n), turned(n), white(n);
  for (size_t c = 0; c < Size(k.mu); ++c)
    for (size_t i = 0; i < n; ++i) step[i] += k.weights[c] * steps[c * n + i];
  Whiten(s, step, turned);
  Multiply(s.eigenvectors, turned, white);
  const double by_white = std::sqrt(k.cs * (2 - k.cs) * k.mu_eff);
  for (size_t i = 0; i < n; ++i) {
    s.mean[i] += s.sigma * step[i];
    s.path_sigma[i] = (1 - k.cs) * s.path_sigma[i] + by_white * white[i];
  }
  const double length = std::sqrt(SquaredNorm(s.path_sigma));
  s.sigma *= std::exp(k.cs / k.ds * (length / k.chi_n - 1));
  s.sigma = std::clamp(s.sigma, kCmaMinSigma, kCmaMaxSigma);  // a NaN stays
  // While the step size grows fast, the path of the covariance would be long by that alone.
  const double age = 2 * static_cast<double>(s.generation + 1);
  const bool h = length / std::sqrt(1 - std::pow(1 - k.cs, age)) <
                 (1.4 + 2 / static_cast<double>(n + 1)) * k.chi_n;
  const double by_step = h ? std::sqrt(k.cc * (2 - k.cc) * k.mu_eff) : 0;
  for (size_t i = 0; i < n; ++i) s.path_c[i] = (1 - k.cc) * s.path_c[i] + by_step * step[i];
  return h;
}

// C <- (1 + c1 (1-h) cc (2-cc) - c1 - cmu sum w) C + c1 pc pc^T + cmu sum_k w_k y_k y_k^T, where
// a negative w_k counts n / |C^(-1/2) y_k|^2 times.
void UpdateCovariance(CmaEs& s, bool h, std::span<const double> steps) {
  const CmaConstants& k = s.constants;
  const size_t n = Size(s.n);
  std::vector<double> weights = k.weights, white(n);
  for (size_t c = 0; c < weights.size(); ++c) {
    weights[c] *= k.cmu;
    if (weights[c] >= 0) continue;
    Whiten(s, Row(steps, c, n), white);
    weights[c] *= static_cast<double>(n) / (SquaredNorm(white) + kEpsilon);
  }
  if (s.repaired) Recompose(s);
  const double stall = h ? 0 : k.cc * (2 - k.cc);
  const double kept = 1 + k.c1 * stall - k.c1 - k.cmu * k.weight_sum;
  for (size_t i = 0; i < n; ++i) {
    const std::span<double> row = std::span(s.covariance).subspan(i * n, i + 1);
    const double by_path = k.c1 * s.path_c[i];
    for (size_t j = 0; j <= i; ++j) row[j] = kept * row[j] + by_path * s.path_c[j];
    for (size_t c = 0; c < weights.size(); ++c) {
      const double by = weights[c] * steps[c * n + i];
      for (size_t j = 0; j <= i; ++j) row[j] += by * steps[c * n + j];
    }
    for (size_t j = 0; j < i; ++j) s.covariance[j * n + i] = row[j];
  }
}

[[noreturn]] void FailDiverged(const CmaEs& s) {
  throw Error(fmt::format("CMA-ES: mean or covariance are no longer finite after generation {}, "
                          "with sigma {}; hint: a smaller sigma, and losses that have a minimum",
                          s.generation, s.sigma),
              ErrorKind::kNonFinite);
}

}  // namespace

CmaConstants MakeCmaConstants(int64_t dimension, int64_t population) {
  GRAFT_CHECK(dimension >= 1 && population >= 2);
  const double n = static_cast<double>(dimension);
  CmaConstants c;
  c.mu = population / 2;
  for (int64_t i = 1; i <= population; ++i)
    c.weights.push_back(std::log(static_cast<double>(population + 1) / 2) -
                        std::log(static_cast<double>(i)));
  const auto effective = [](std::span<const double> w) {
    const double sum = std::accumulate(w.begin(), w.end(), 0.0);
    return sum * sum / SquaredNorm(w);
  };
  const std::span<const double> raw = c.weights;
  c.mu_eff = effective(raw.first(Size(c.mu)));
  const double mu_eff_negative = effective(raw.subspan(Size(c.mu)));
  c.c1 = 2 / ((n + 1.3) * (n + 1.3) + c.mu_eff);
  c.cmu = std::min(1 - c.c1 - 1e-8,  // binds in huge populations
                   2 * (c.mu_eff - 2 + 1 / c.mu_eff) / ((n + 2) * (n + 2) + c.mu_eff));
  // Equations 50 to 53: the negative weights leave the covariance positive definite. With one
  // parent cmu is 0, and two of these are infinite.
  const double least = std::min({1 + c.c1 / c.cmu, 1 + 2 * mu_eff_negative / (c.mu_eff + 2),
                                 (1 - c.c1 - c.cmu) / (n * c.cmu)});
  double positive = 0, negative = 0;
  for (const double w : c.weights) (w > 0 ? positive : negative) += std::fabs(w);
  for (double& w : c.weights) w *= w > 0 ? 1 / positive : least / negative;
  c.weight_sum = std::accumulate(c.weights.begin(), c.weights.end(), 0.0);
  c.cs = (c.mu_eff + 2) / (n + c.mu_eff + 5);
  c.ds = 1 + 2 * std::max(0.0, std::sqrt((c.mu_eff - 1) / (n + 1)) - 1) + c.cs;
  c.cc = (4 + c.mu_eff / n) / (n + 4 + 2 * c.mu_eff / n);
  c.chi_n = std::sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n));
  return c;
}

CmaEs::CmaEs(int64_t dimension, double step, int64_t candidates_each, uint64_t seed,
             std::string_view stream)
    : n(dimension),
      population(candidates_each),
      key(MakeKey(seed, Purpose::kSearch, stream)),
      sigma(step) {
  if (n < 1 || n > kCmaMaxDimension)
    FailUsage("CMA-ES: expected a dimension from 1 to {}, found {}", kCmaMaxDimension, n);
  if (!(sigma >= kCmaMinSigma && sigma <= kCmaMaxSigma))
    FailUsage(
        "CMA-ES: expected a step size sigma from {} to {}, found {}; hint: about a third of the "
        "distance from the start to the minimum",
        kCmaMinSigma, kCmaMaxSigma, sigma);
  if (population < 2 || population > kCmaMaxPopulation)
    FailUsage("CMA-ES: expected a population from 2 to {}, found {}; hint: 4 + 3 ln n is common",
              kCmaMaxPopulation, population);
  constants = MakeCmaConstants(n, population);
  mean.resize(Size(n)), path_sigma.resize(Size(n)), path_c.resize(Size(n));
  best.x.resize(Size(n));
  covariance.resize(Size(n * n));
  for (size_t i = 0; i < Size(n); ++i) covariance[i * Size(n) + i] = 1;
  eigenvectors = covariance;
  scales.assign(Size(n), 1);
}

std::span<const double> CmaEs::Ask() {
  std::vector<double> z;
  z.reserve(Size(population * n));
  for (int64_t c = 0; c < population; ++c) {
    const StreamKey draws{key, static_cast<uint64_t>(generation), static_cast<uint32_t>(c)};
    for (size_t i = 0; i < Size(n); ++i) z.push_back(Normal(draws, i));
  }
  return Ask(z);
}

std::span<const double> CmaEs::Ask(std::span<const double> z) {
  GRAFT_CHECK(z.size() == Size(population * n), "{} draws", z.size());
  candidates.resize(z.size());
  std::vector<double> scaled(Size(n)), y(Size(n));
  for (size_t c = 0; c < Size(population); ++c) {
    for (size_t i = 0; i < Size(n); ++i) scaled[i] = scales[i] * z[c * Size(n) + i];
    Multiply(eigenvectors, scaled, y);
    for (size_t i = 0; i < Size(n); ++i) candidates[c * Size(n) + i] = mean[i] + sigma * y[i];
  }
  asked = true;
  return candidates;
}

void CmaEs::Tell(std::span<const double> losses) {
  GRAFT_CHECK(asked, "Tell without Ask");
  if (losses.size() != Size(population))
    Fail("CMA-ES: expected a loss for each of {} candidates, found {}", population, losses.size());
  const std::vector<size_t> order = Ranked(losses);
  const size_t first = order.front();
  if (std::isnan(losses[first]))
    throw Error(fmt::format("CMA-ES: all {} losses of generation {} are NaN; hint: a smaller sigma",
                            population, generation),
                ErrorKind::kNonFinite);
  asked = false;
  if (best.generation < 0 || losses[first] < best.loss) {
    const std::span<const double> x = Row(candidates, first, Size(n));
    best = {losses[first], generation, {x.begin(), x.end()}};
  }

  const std::vector<double> steps = RankedSteps(*this, order);
  ++generation;
  const bool h = MoveMean(*this, steps);
  UpdateCovariance(*this, h, steps);
  if (!AllFinite(mean) || !std::isfinite(sigma) || !Decompose()) FailDiverged(*this);
}

bool CmaEs::Decompose() {
  std::vector<double> squares(Size(n));
  if (!AllFinite(covariance) || !SymmetricEigen(n, covariance, squares, eigenvectors)) return false;
  repaired = !(squares.front() > 0);
  for (size_t i = 0; i < Size(n); ++i)
    scales[i] = std::sqrt(squares[i] > 0 ? squares[i] : kEpsilon);
  return true;
}

}  // namespace graft
