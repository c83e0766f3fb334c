// What the tests of NF4 share: weights, their bytes as text, a loop over SIMD targets.
#pragma once
#include <random>

#include "ops/nf4.h"
#include "ops/targets.h"
// After targets.h, which limits the targets that are compiled.
#include "hwy/highway.h"

namespace graft::testing {

// f(target name) with kernels of each SIMD target that this CPU has.
template <class F>
void ForEachTarget(const F& f) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    f(std::string(hwy::TargetName(target)));
    hwy::SetSupportedTargetsForTest(0);
  }
}

inline std::vector<float> Normal(int64_t count, unsigned seed, float deviation = 0.02f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> x(count);
  for (float& v : x) v = normal(random);
  return x;
}

inline std::vector<float> Dequantized(const Nf4Tensor& t) {
  std::vector<float> values(t.count);
  DequantizeNf4(t, values);
  return values;
}

template <class T>
std::string Hex(std::span<const T> values) {
  std::string text;
  for (const std::byte b : std::as_bytes(values)) text += fmt::format("{:02x}", b);
  return text;
}
template <class T>
std::string Hex(const T& values) {
  return Hex(std::span(values.data(), values.size()));
}

}  // namespace graft::testing
