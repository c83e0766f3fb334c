// What the tests of CMA-ES share: functions to search, generations of a search, comparison of
// states.
#pragma once
#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "train/cma_es.h"

namespace graft {

using Vector = std::vector<double>;
using Function = double (*)(std::span<const double> x);

inline double Sphere(std::span<const double> x) {
  double sum = 0;
  for (const double v : x) sum += (v - 1) * (v - 1);
  return sum;
}

inline double Quadratic(std::span<const double> x) {
  double sum = 0, i = 0;
  for (const double v : x) ++i, sum += i * i * (v - 1) * (v - 1);
  return sum;
}

inline double Rosenbrock(std::span<const double> x) {
  double sum = 0;
  for (size_t i = 0; i + 1 < x.size(); ++i) {
    const double a = x[i], b = x[i + 1] - a * a;
    sum += 100 * b * b + (1 - a) * (1 - a);
  }
  return sum;
}

inline Vector Losses(const CmaEs& search, std::span<const double> x, Function f) {
  Vector losses;
  const size_t n = static_cast<size_t>(search.n);
  for (size_t at = 0; at < x.size(); at += n) losses.push_back(f(x.subspan(at, n)));
  return losses;
}

inline void Generation(CmaEs& search, Function f) { search.Tell(Losses(search, search.Ask(), f)); }
inline void Generations(CmaEs& search, int count, Function f) {
  for (int g = 0; g < count; ++g) Generation(search, f);
}

inline std::vector<uint64_t> Bits(std::span<const double> x) {
  std::vector<uint64_t> bits;
  for (const double v : x) bits.push_back(std::bit_cast<uint64_t>(v));
  return bits;
}

inline void ExpectSameBits(const CmaEs& a, const CmaEs& b) {
  EXPECT_EQ(a.generation, b.generation);
  EXPECT_EQ(Bits({&a.sigma, 1}), Bits({&b.sigma, 1}));
  EXPECT_EQ(Bits(a.mean), Bits(b.mean));
  EXPECT_EQ(Bits(a.path_sigma), Bits(b.path_sigma));
  EXPECT_EQ(Bits(a.path_c), Bits(b.path_c));
  EXPECT_EQ(Bits(a.covariance), Bits(b.covariance));
  EXPECT_EQ(Bits(a.eigenvectors), Bits(b.eigenvectors));
  EXPECT_EQ(Bits(a.scales), Bits(b.scales));
  EXPECT_EQ(a.repaired, b.repaired);
  EXPECT_EQ(Bits({&a.best.loss, 1}), Bits({&b.best.loss, 1}));
  EXPECT_EQ(a.best.generation, b.best.generation);
  EXPECT_EQ(Bits(a.best.x), Bits(b.best.x));
}

}  // namespace graft
