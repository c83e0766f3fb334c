// Tests the state of CMA-ES: it is saved and resumed, is the same on other threads; and what a user
// can get wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <thread>

#include "runtime/io/safetensors.h"
#include "runtime/rng.h"
#include "runtime/threads.h"
#include "tests/cma_es_testing.h"
#include "tests/test_util.h"
#include "train/cma_es.h"
#include "train/symmetric_eigen.h"

namespace graft::cma_es_state_test {
namespace {

using ::testing::HasSubstr;

// --- resumed, on threads

TEST(CmaEs, ASearchThatIsSavedGoesOnWithTheSameBits) {
  const TempDir dir;
  for (const int64_t n : {1, 7, 30}) {
    const CmaEs start(n, 0.5, 10, 5, "saved");
    CmaEs whole = start, first = start;
    Generations(whole, 41, Rosenbrock);
    for (const int pause : {0, 1, 12, 40}) {
      Generations(first, pause - static_cast<int>(first.generation), Rosenbrock);
      first.Ask();  // killed before it was told
      ParamStore store;
      const std::vector<std::string> names = ToTensors(first, "search.cma", &store);
      EXPECT_EQ(store.names().size(), names.size());
      WriteSafetensors(dir / "state.safetensors", store, {});
      const ParamStore read = SafetensorsFile::Open(dir / "state.safetensors").LoadAll();
      CmaEs resumed = start;
      FromTensors(read, "search.cma", &resumed);
      ExpectSameBits(resumed, first);
      Generations(resumed, 41 - pause, Rosenbrock);
      ExpectSameBits(resumed, whole);
    }
  }
}

// An indefinite covariance is saved as it is: the repaired one has other eigenvectors.
TEST(CmaEs, ARepairedCovarianceIsSaved) {
  const CmaEs start(2, 0.5, 6, 1, "repair");
  CmaEs s = start, resumed = start;
  s.covariance = {1, 2, 2, 1};
  ASSERT_TRUE(s.Decompose());
  ParamStore store;
  ToTensors(s, "cma", &store);
  FromTensors(store, "cma", &resumed);
  EXPECT_TRUE(resumed.repaired);
  Generation(s, Quadratic), Generation(resumed, Quadratic);
  EXPECT_FALSE(s.repaired);
  ExpectSameBits(s, resumed);
}

TEST(CmaEs, ThreadsChangeNoBit) {
  const CmaEs start(120, 0.5, 16, 5, "threads");
  const int threads = Threads();
  std::vector<CmaEs> searches;
  for (const int n : {1, 4}) {
    SetThreads(n);
    searches.push_back(start);
    Generations(searches.back(), 4, Quadratic);
  }
  SetThreads(threads);
  CmaEs a = start, b = start;  // two at once
  std::thread other([&] { Generations(a, 4, Quadratic); });
  Generations(b, 4, Quadratic);
  other.join();
  for (const CmaEs* s : {&searches[1], &a, &b}) ExpectSameBits(*s, searches[0]);
}

TEST(SymmetricEigen, DecomposesAndReadsTheLowerTriangle) {
  for (const size_t n : {1u, 2u, 17u, 101u, 240u}) {
    Vector a(n * n), lower(n * n, NAN), w(n), v(n * n);
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j <= i; ++j)
        lower[i * n + j] = a[i * n + j] = a[j * n + i] = Normal({.key = 3}, i * n + j);
    ASSERT_TRUE(SymmetricEigen(static_cast<int64_t>(n), lower, w, v));
    EXPECT_TRUE(std::is_sorted(w.begin(), w.end()));
    double residual = 0, angle = 0;  // the largest entries of |A v - w v| and |V^T V - I|
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j) {
        double av = -w[j] * v[i * n + j], vv = i == j ? -1 : 0;
        for (size_t k = 0; k < n; ++k)
          av += a[i * n + k] * v[k * n + j], vv += v[k * n + i] * v[k * n + j];
        residual = std::max(residual, std::fabs(av)), angle = std::max(angle, std::fabs(vv));
      }
    EXPECT_LT(residual, 1e-12) << n;
    EXPECT_LT(angle, 1e-13) << n;
  }
}

// --- mistakes

TEST(CmaEs, ArgumentsThatMakeNoSense) {
  const auto message = [](int64_t n, double sigma, int64_t population) {
    return MessageOf([&] { CmaEs(n, sigma, population, 1, "x"); });
  };
  for (const int64_t n : {int64_t{0}, int64_t{-1}, kCmaMaxDimension + 1, INT64_MAX})
    EXPECT_EQ(message(n, 1, 10),
              fmt::format("CMA-ES: expected a dimension from 1 to 4096, found {}", n));
  for (const double sigma : {0.0, -0.0, -1.0, 1e-40, 1e40, double{INFINITY}, double{NAN}})
    EXPECT_THAT(message(3, sigma, 10), HasSubstr("expected a step size sigma from 1e-32 to 1e+32"));
  for (const int64_t population : {int64_t{1}, int64_t{0}, int64_t{-7}, INT64_MAX})
    EXPECT_THAT(message(3, 1, population),
                HasSubstr(fmt::format("a population from 2 to 4096, found {}", population)));
  CmaEs s(3, 1, 4, 1, "x");
  s.Ask();
  for (const size_t count : {0u, 3u, 5u})
    EXPECT_EQ(MessageOf([&] { s.Tell(Vector(count)); }),
              fmt::format("CMA-ES: expected a loss for each of 4 candidates, found {}", count));
}

// The step size stops at its bound, and what overflows after all is an Error.
TEST(CmaEs, AFunctionWithoutAMinimum) {
  CmaEs s(2, 1, 6, 1, "slope");
  Generations(s, 5000, [](std::span<const double> x) { return x[0] + x[1]; });
  EXPECT_EQ(s.sigma, kCmaMaxSigma);
  EXPECT_LT(s.best.loss, -kCmaMaxSigma);
  EXPECT_TRUE(std::isfinite(s.best.loss));
  s.Ask(), s.covariance[0] = NAN;
  EXPECT_THAT(MessageOf([&] {
                s.Tell(Vector{1, 2, 3, 4, 5, 6});
              }),
              HasSubstr("mean or covariance are no longer finite after generation 5001"));
}

TEST(CmaEs, StatesThatAreNone) {
  CmaEs s(3, 1, 4, 1, "state");
  Generations(s, 2, Sphere);
  ParamStore good;
  ToTensors(s, "cma", &good);
  const auto message = [](const ParamStore& store, CmaEs into) {
    const CmaEs before = into;
    const std::string text = MessageOf([&] { FromTensors(store, "cma", &into); });
    ExpectSameBits(into, before);
    return text;
  };
  EXPECT_THAT(message(good, CmaEs(4, 1, 4, 1, "state")),
              HasSubstr("cma.mean: expected [4,3], found f32[3,3]"));
  EXPECT_THAT(message(good, CmaEs(3, 1, 5, 1, "state")),
              HasSubstr("had a population of 4, this one has 5"));
  for (const CmaEs& other : {CmaEs(3, 1, 4, 2, "state"), CmaEs(3, 1, 4, 1, "other")})
    EXPECT_THAT(message(good, other), HasSubstr("another seed or stream"));
  for (const std::string& name : good.names()) {
    ParamStore store = good;
    store.Erase(name);
    EXPECT_THAT(message(store, s), HasSubstr(name)) << name;
    for (const float digit : {-1.f, 0.5f, 0x1p24f, INFINITY, NAN}) {
      store = good;
      store.Mutable(name)[0] = digit;
      EXPECT_THAT(message(store, s), HasSubstr(name + ": expected whole numbers below")) << name;
    }
    store = good;  // bits of a NaN in the last double
    float* digits = store.Mutable(name) + store.shape(name).size() - 3;
    digits[0] = 1, digits[2] = 0x7FF8;
    EXPECT_THAT(message(store, s), HasSubstr(name)) << name;
  }
  const auto with = [&](auto change) {
    CmaEs bad = s;
    change(bad);
    ParamStore store;
    ToTensors(bad, "cma", &store);
    return message(store, s);
  };
  for (const double sigma : {0.0, -1.0, double{NAN}, double{INFINITY}})
    EXPECT_THAT(with([&](CmaEs& bad) { bad.sigma = sigma; }), HasSubstr("a step size from"));
  for (const int64_t generation : {int64_t{-1}, int64_t{0}, INT64_MAX})
    EXPECT_THAT(with([&](CmaEs& bad) { bad.generation = generation; }), HasSubstr("the best of"));
  EXPECT_THAT(with([](CmaEs& bad) { bad.best.generation = -2; }), HasSubstr("the best of"));
  EXPECT_EQ(with([](CmaEs&) {}), "no error");
}

}  // namespace
}  // namespace graft::cma_es_state_test
