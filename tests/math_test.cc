// Compares the elementary functions of math-inl.h (Exp, Tanh, NormalCdf, GELU), on every SIMD
// target of this machine, with the same functions in double.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "ops/targets.h"
#include "tests/simd_testing.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/math_test.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "ops/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace {

// y[i] = f(x[i]); which: 0 Exp, 1 Tanh, 2 NormalCdf, 3 GeluErf, 4 GeluTanh, 5
// ExpOfNegative and 6 ExpNear of what is at most 1, 7 LogNear.
void MathOf(int which, const float* x, size_t n, float* y) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  const auto one = hn::Set(d, 1.0f);
  for (size_t i = 0; i + lanes <= n; i += lanes) {
    auto v = hn::LoadU(d, x + i);
    auto e = v;
    const auto small = hn::IfThenElse(hn::Gt(v, one), one, v);
    switch (which) {
      case 0:
        v = Exp(d, v);
        break;
      case 1:
        v = Tanh(d, v);
        break;
      case 2:
        v = NormalCdf(d, v, e);
        break;
      case 3:
        v = GeluErf(d, v, e);
        break;
      case 4:
        v = GeluTanh(d, v, e);
        break;
      case 5:
        v = ExpOfNegative(d, small);
        break;
      case 6:
        v = ExpNear(d, small, hn::Zero(d));
        break;
      default:
        v = LogNear(d, v);
        break;
    }
    hn::StoreU(v, d, y + i);
  }
}

}  // namespace
}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace graft {
namespace {

HWY_EXPORT(MathOf);

double UlpError(float got, double expected) {
  const float nearest = static_cast<float>(expected);
  if (std::isnan(expected)) return std::isnan(got) ? 0 : 1e9;
  if (std::isinf(nearest) || std::isinf(got)) return nearest == got ? 0 : 1e9;
  // Results this small may be flushed to zero: subnormal intermediate values are slow.
  if (std::abs(got - expected) < 6e-35) return 0;
  const double tiny = std::numeric_limits<float>::min();
  const double ulp = std::max(std::abs(expected), tiny) * std::numeric_limits<float>::epsilon();
  return std::abs(got - expected) / ulp;
}

TEST(MathInl, Accuracy) {
  using F = double (*)(double);
  const std::vector<std::pair<F, double>> functions = {
      {[](double x) { return std::exp(x); }, 1.5},
      {[](double x) { return std::tanh(x); }, 4},
      {[](double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }, 40},
      {[](double x) {
         return std::isinf(x) && x < 0 ? NAN : x * 0.5 * std::erfc(-x / std::sqrt(2.0));
       },
       40},
      {[](double x) {
         const double w = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
         return x / (1 + std::exp(-2 * w));
       },
       200},
      {[](double x) { return std::exp(std::min(x, 1.0)); }, 1.5},
      {[](double x) { return std::exp(std::min(x, 1.0)); }, 100}};
  std::vector<float> x = {0.0f, -0.0f, 1e-42f, -1e-30f, NAN,     INFINITY, -INFINITY, 200,
                          -200, 88.7f, 88.8f,  -87.5f,  -104.5f, 3e38f,    -3e38f,    1.0f};
  for (float v = -110; v < 95; v += 0.00371f) x.push_back(v);
  for (float v = -6; v < 6; v += 0.000171f) x.push_back(v);
  for (float v = 1e-20f; v < 1; v *= 1.01f) x.push_back(-v);
  x.resize(x.size() / 64 * 64);
  ForEachTarget([&] {
    for (size_t which = 0; which < functions.size(); ++which) {
      std::vector<float> y(x.size());
      HWY_DYNAMIC_DISPATCH(MathOf)(static_cast<int>(which), x.data(), x.size(), y.data());
      double worst = 0;
      float at = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        const double error = UlpError(y[i], functions[which].first(x[i]));
        if (error > worst) worst = error, at = x[i];
      }
      RecordProperty(std::to_string(which), std::to_string(worst));
      EXPECT_LE(worst, functions[which].second) << "function " << which << " at " << at;
    }
  });
}

TEST(MathInl, LogNearIsNear) {
  std::vector<float> x{1, NAN, 2, 0.5f, 1e-30f, 3e38f};
  for (float v = 1e-3f; v < 1e6f; v *= 1.0003f) x.push_back(v);
  x.resize(x.size() / 64 * 64);
  ForEachTarget([&] {
    std::vector<float> y(x.size());
    HWY_DYNAMIC_DISPATCH(MathOf)(7, x.data(), x.size(), y.data());
    EXPECT_TRUE(std::isnan(y[1]));
    for (size_t i = 0; i < x.size(); ++i) {
      if (std::isnan(x[i])) continue;
      const double log = std::log(static_cast<double>(x[i]));
      EXPECT_NEAR(y[i], log, 3e-7 + 2e-7 * std::abs(log)) << x[i];
    }
  });
}

}  // namespace
}  // namespace graft
#endif  // HWY_ONCE
