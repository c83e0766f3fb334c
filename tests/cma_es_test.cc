// Compares CMA-ES with the package `cmaes` (tests/fixtures/cma_es.json, make_cma_es.py): its
// constants and states, and what it draws, finds and takes for better.
#include "train/cma_es.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/io/json.h"
#include "runtime/rng.h"
#include "tests/cma_es_testing.h"
#include "tests/fixture_testing.h"

namespace graft::cma_es_test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Section 4 of the tutorial with n = 500 and 20 candidates; the figures are rounded ones.
TEST(CmaEs, Constants) {
  const CmaConstants c = MakeCmaConstants(500, 20);
  EXPECT_EQ(c.mu, 10);
  EXPECT_NEAR(c.mu_eff, 5.9388, 5e-5);
  EXPECT_NEAR(c.c1, 7.958e-6, 5e-10);
  EXPECT_NEAR(c.cmu, 3.2595e-5, 5e-10);
  EXPECT_NEAR(c.cs, 0.015538, 5e-7);
  EXPECT_NEAR(c.ds, 1.015538, 5e-7);
  EXPECT_NEAR(c.cc, 0.0079597, 5e-8);
  EXPECT_NEAR(c.chi_n, 22.3495, 5e-5);
  ASSERT_EQ(c.weights.size(), 20u);
  EXPECT_TRUE(std::is_sorted(c.weights.rbegin(), c.weights.rend()));
  EXPECT_NEAR(std::accumulate(c.weights.begin(), c.weights.begin() + 10, 0.0), 1, 1e-15);
  // Before they are scaled, the weights are ln 10.5 - ln i.
  EXPECT_NEAR(c.weights[0] / c.weights[9], std::log(10.5) / std::log(1.05), 1e-12);
  EXPECT_NEAR(c.weights[19] / c.weights[10], std::log(10.5 / 20) / std::log(10.5 / 11), 1e-12);
  // 1 + c1/cmu is here the least of the three bounds of the negative weights' sum.
  EXPECT_NEAR(std::accumulate(c.weights.begin() + 10, c.weights.end(), 0.0), -1 - c.c1 / c.cmu,
              1e-14);
  EXPECT_NEAR(c.weight_sum, -c.c1 / c.cmu, 1e-14);
}

// --- against the package

const Json& Fixture() {
  static const Json* fixture = new Json(ReadJson(kFixtures + "cma_es.json"));
  return *fixture;
}

// Makes the draws of the script's class Draws.
class FixedDraws {
 public:
  // Returns [population,n], in which each candidate's draws are turned by B^T.
  Vector Next(const CmaEs& s) {
    const size_t n = static_cast<size_t>(s.n);
    Vector z(static_cast<size_t>(s.population) * n), u(n);
    for (size_t c = 0; c < z.size(); c += n) {
      for (double& x : u) {
        x = -6;
        for (int k = 0; k < 12; ++k) x += Uniform();
      }
      for (size_t i = 0; i < n; ++i)
        for (size_t j = 0; j < n; ++j) z[c + j] += s.eigenvectors[i * n + j] * u[i];
    }
    return z;
  }

 private:
  double Uniform() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<double>(state_ >> 32) * 0x1p-32;
  }
  uint64_t state_ = 1;
};

// As `checksums` of the script.
Vector Checksums(const CmaEs& s) {
  double trace = 0, squares = 0, product = 0;
  const size_t n = static_cast<size_t>(s.n);
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < n; ++j) {
      const double c = s.covariance[i * n + j];
      if (i == j) trace += c;
      squares += c * c;
      product += std::cos(static_cast<double>(i)) * c * std::sin(static_cast<double>(2 * j + 1));
    }
  return {trace, squares, product};
}

void ExpectState(const CmaEs& s, const Json& state) {
  EXPECT_LT(RelativeError(s.mean, state.at("mean").get<Vector>()), 1e-9);
  EXPECT_NEAR(s.sigma / state.at("sigma").get<double>(), 1, 1e-9);
  EXPECT_LT(RelativeError(s.path_sigma, state.at("path_sigma").get<Vector>()), 1e-9);
  EXPECT_LT(RelativeError(s.path_c, state.at("path_c").get<Vector>()), 1e-9);
  const Vector sums = Checksums(s), want = state.at("covariance").get<Vector>();
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(sums[i] / want[i], 1, 1e-9) << i;
}

class CmaEsFixture : public ::testing::TestWithParam<size_t> {};

TEST_P(CmaEsFixture, EveryStateIsThatOfThePackage) {
  const Json& search = Fixture().at("searches").at(GetParam());
  const Function f = search.at("function") == "quadratic" ? Quadratic : Rosenbrock;
  CmaEs s(search.at("n"), search.at("sigma"), search.at("population"), 1, "fixture");
  if (!search.at("start").is_null()) s.mean = search["start"].get<Vector>();
  if (!search.at("covariance").is_null()) {
    s.covariance.clear();
    for (const Json& row : search["covariance"])
      for (const double c : row) s.covariance.push_back(c);
    ASSERT_TRUE(s.Decompose());
    EXPECT_TRUE(s.repaired);
    EXPECT_THAT(s.scales, ElementsAre(1e-4, ::testing::DoubleNear(std::sqrt(3.0), 1e-15)));
  }
  FixedDraws draws;
  for (const Json& state : search.at("states")) {
    while (s.generation < state.at("generation")) {
      const Vector z = draws.Next(s);
      s.Tell(Losses(s, s.Ask(z), f));
    }
    SCOPED_TRACE(::testing::Message() << "generation " << s.generation);
    ExpectState(s, state);
  }
}

std::string NameOfSearch(const ::testing::TestParamInfo<size_t>& info) {
  const Json& s = Fixture().at("searches").at(info.param);
  return fmt::format("{}_n{}_of{}", s.at("function").get<std::string>(), s.at("n").get<int>(),
                     s.at("population").get<int>());
}
INSTANTIATE_TEST_SUITE_P(Searches, CmaEsFixture,
                         ::testing::Range(size_t{0}, Fixture().at("searches").size()),
                         NameOfSearch);

// --- the draws, and what a search finds

TEST(CmaEs, DrawsAreThoseOfTheStream) {
  CmaEs s(3, 0.5, 4, 7, "prompt");
  s.mean = {1, 2, 3};
  for (int g = 0; g < 2; ++g) {
    s.scales = {1, 1, 1}, s.eigenvectors = {1, 0, 0, 0, 1, 0, 0, 0, 1};
    const std::span<const double> x = s.Ask();
    for (uint32_t c = 0; c < 4; ++c)
      for (size_t i = 0; i < 3; ++i) {
        const StreamKey draws{MakeKey(7, Purpose::kSearch, "prompt"), static_cast<uint64_t>(g), c};
        EXPECT_EQ(x[c * 3 + i], s.mean[i] + s.sigma * Normal(draws, i));
      }
    s.Tell(Losses(s, x, Sphere));
  }
}

TEST(CmaEs, AskedTwiceItAnswersTheSame) {
  CmaEs s(5, 1, 6, 1, "a"), other_seed(5, 1, 6, 2, "a"), other_stream(5, 1, 6, 1, "b");
  const std::vector<uint64_t> first = Bits(s.Ask());
  EXPECT_EQ(Bits(s.Ask()), first);
  EXPECT_NE(Bits(other_seed.Ask()), first);
  EXPECT_NE(Bits(other_stream.Ask()), first);
  Generation(s, Sphere);
  EXPECT_NE(Bits(s.Ask()), first);
}

TEST(CmaEs, ConvergesOnASphere) {
  for (const int64_t n : {1, 2, 10, 40}) {
    CmaEs s(n, 0.5, 12, 3, "sphere");
    Generations(s, 60 + 20 * static_cast<int>(n), Sphere);
    EXPECT_LT(Sphere(s.mean), 1e-8) << n;
    EXPECT_LT(s.best.loss, 1e-8) << n;
    EXPECT_EQ(s.best.loss, Sphere(s.best.x)) << n;
  }
}

// Where axes differ and are turned, the covariance has to be learnt.
TEST(CmaEs, ConvergesOnRosenbrock) {
  CmaEs s(10, 0.5, 14, 3, "rosenbrock");
  Generations(s, 600, Rosenbrock);
  EXPECT_LT(s.best.loss, 1e-9);
}

// The search goes far beyond convergence, where differences of candidates round to nothing.
TEST(CmaEs, GoesOnAfterItHasConverged) {
  for (const int64_t n : {1, 3}) {
    CmaEs s(n, 0.5, 6, 3, "long");
    Generations(s, 20000, Sphere);
    EXPECT_EQ(Sphere(s.mean), 0) << n;
    EXPECT_GE(s.sigma, kCmaMinSigma) << n;
  }
}

// --- ranks

TEST(CmaEs, OfEqualLossesTheFirstRanksBetter) {
  CmaEs ties(4, 1, 60, 1, "ties"), ordered = ties;
  Vector tied(60), distinct(60);
  for (size_t c = 0; c < 60; ++c) {
    tied[c] = static_cast<double>(c * 7 % 5);
    distinct[c] = tied[c] + static_cast<double>(c) / 100;
  }
  ties.Ask(), ordered.Ask();
  ties.Tell(tied), ordered.Tell(distinct);
  EXPECT_EQ(ties.best.loss, 0);
  ordered.best.loss = 0;
  ExpectSameBits(ties, ordered);
}

TEST(CmaEs, NanIsWorseThanInfinityAndNeverTheBest) {
  CmaEs nans(4, 1, 6, 1, "nan"), ordered = nans;
  const std::span<const double> x = nans.Ask();
  const Vector third(x.begin() + 8, x.begin() + 12);
  ordered.Ask();
  nans.Tell(Vector{NAN, INFINITY, -3, -NAN, 7, INFINITY});
  ordered.Tell(Vector{5, 3, 1, 6, 2, 4});
  EXPECT_EQ(nans.best.x, third);
  EXPECT_EQ(nans.best.loss, -3);
  ordered.best = nans.best;
  ExpectSameBits(nans, ordered);

  CmaEs infinite(4, 1, 2, 1, "inf");  // the least that there is, though nobody wants it
  infinite.Ask();
  infinite.Tell(Vector{NAN, INFINITY});
  EXPECT_EQ(infinite.best.generation, 0);
  EXPECT_EQ(infinite.best.loss, INFINITY);
}

TEST(CmaEs, TheBestStaysUntilAnotherIsBetter) {
  CmaEs s(2, 1, 3, 1, "best");
  const std::span<const double> x = s.Ask();
  const Vector second(x.begin() + 2, x.begin() + 4);
  s.Tell(Vector{3, 2, 4});
  s.Ask(), s.Tell(Vector{2, 9, NAN});
  EXPECT_EQ(s.best.generation, 0);
  EXPECT_EQ(s.best.x, second);
  s.Ask(), s.Tell(Vector{2, 9, 1.5});
  EXPECT_EQ(s.best.generation, 2);
  EXPECT_EQ(s.best.loss, 1.5);
}

TEST(CmaEs, AllNanIsAnErrorAndChangesNothing) {
  CmaEs s(3, 1, 4, 1, "nan");
  Generations(s, 3, Sphere);
  const CmaEs before = s;
  s.Ask();
  try {
    s.Tell(Vector{NAN, NAN, -NAN, NAN});
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("all 4 losses of generation 3 are NaN"));
    EXPECT_EQ(e.kind, ErrorKind::kNonFinite);
  }
  ExpectSameBits(s, before);
  Generation(s, Sphere);  // what the caller may do: measure again
}

}  // namespace
}  // namespace graft::cma_es_test
