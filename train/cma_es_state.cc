// The state of a search as entries of a ParamStore, and back.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "runtime/error.h"
#include "train/cma_es.h"

namespace graft {
namespace {

// 24 bits are what an f32 holds of a whole number. Such entries are finite whatever the double is,
// and no conversion of a file to other floats of 32 or 64 bits changes them.
constexpr int kDigitBits = 24, kDigits = 3;
constexpr int64_t kMaxGeneration = int64_t{1} << 53;

// Doubles in memory as an entry [..., 3].
void Put(ParamStore* store, const std::string& name, std::span<const double> values) {
  float* digit = store->Allocate(name, {std::ssize(values), kDigits});
  for (const double value : values) {
    uint64_t bits = std::bit_cast<uint64_t>(value);
    for (int d = 0; d < kDigits; ++d, bits >>= kDigitBits)
      *digit++ = static_cast<float>(bits & ((1u << kDigitBits) - 1));
  }
  store->Freeze(name);
}

std::vector<double> Take(const ParamStore& store, const std::string& name, int64_t size) {
  const ParamStore::Entry& entry = store.Get(name);
  if (entry.dtype != DType::kF32 || entry.shape != Extents{size, kDigits})
    Fail("{}: expected [{},{}], found {}; hint: the search that saved it had another dimension",
         name, size, kDigits, ToString(entry.type()));
  std::vector<double> values;
  values.reserve(size);
  for (const float* digit = entry.values().data(); values.size() < static_cast<size_t>(size);) {
    uint64_t bits = 0;
    for (int d = 0; d < kDigits; ++d, ++digit) {
      const int wide = d + 1 < kDigits ? kDigitBits : 64 - (kDigits - 1) * kDigitBits;
      const float end = static_cast<float>(1u << wide);
      if (!(*digit >= 0 && *digit < end && *digit == std::floor(*digit)))
        Fail("{}: expected whole numbers below {}, found {}", name, end, *digit);
      bits |= static_cast<uint64_t>(*digit) << (d * kDigitBits);
    }
    values.push_back(std::bit_cast<double>(bits));
  }
  return values;
}

std::vector<double> TakeFinite(const ParamStore& store, const std::string& name, int64_t size) {
  std::vector<double> values = Take(store, name, size);
  for (const double value : values)
    if (!std::isfinite(value)) Fail("{}: expected finite numbers, found {}", name, value);
  return values;
}

// The numbers of ROOT.scalars in this order. Whole numbers are bits, not values.
struct Scalars {
  uint64_t population, key;
  int64_t generation, best_generation;
  double sigma, best_loss;
};
using ScalarBits = std::array<double, sizeof(Scalars) / sizeof(double)>;

}  // namespace

std::vector<std::string> ToTensors(const CmaEs& s, const std::string& root, ParamStore* store) {
  const Scalars scalars{static_cast<uint64_t>(s.population),
                        s.key,
                        s.generation,
                        s.best.generation,
                        s.sigma,
                        s.best.loss};
  std::vector<std::string> names;
  const auto put = [&](const char* name, std::span<const double> values) {
    names.push_back(root + name);
    Put(store, names.back(), values);
  };
  put(".scalars", std::bit_cast<ScalarBits>(scalars));
  put(".mean", s.mean);
  put(".path_sigma", s.path_sigma);
  put(".path_c", s.path_c);
  put(".best", s.best.x);
  std::vector<double> triangle;
  const size_t n = static_cast<size_t>(s.n);
  for (size_t i = 0; i < n; ++i)
    triangle.insert(triangle.end(), &s.covariance[i * n], &s.covariance[i * n] + i + 1);
  put(".covariance", triangle);
  return names;
}

void FromTensors(const ParamStore& store, const std::string& root, CmaEs* search) {
  CmaEs s = *search;
  ScalarBits bits;
  std::ranges::copy(Take(store, root + ".scalars", bits.size()), bits.begin());
  const Scalars scalars = std::bit_cast<Scalars>(bits);
  if (scalars.population != static_cast<uint64_t>(s.population))
    Fail("{}.scalars: the search that saved it had a population of {}, this one has {}", root,
         scalars.population, s.population);
  if (scalars.key != s.key)
    Fail("{}.scalars: the search that saved it drew from another seed or stream", root);
  if (scalars.generation < 0 || scalars.generation > kMaxGeneration ||
      scalars.best_generation < -1 || scalars.best_generation >= scalars.generation)
    Fail("{}.scalars: expected the best of {} generations in one of them, found it in {}", root,
         scalars.generation, scalars.best_generation);
  if (!(scalars.sigma >= kCmaMinSigma && scalars.sigma <= kCmaMaxSigma))
    Fail("{}.scalars: expected a step size from {} to {}, found {}", root, kCmaMinSigma,
         kCmaMaxSigma, scalars.sigma);
  if (std::isnan(scalars.best_loss)) Fail("{}.scalars: expected the best loss, found NaN", root);
  s.generation = scalars.generation, s.sigma = scalars.sigma;
  s.mean = TakeFinite(store, root + ".mean", s.n);
  s.path_sigma = TakeFinite(store, root + ".path_sigma", s.n);
  s.path_c = TakeFinite(store, root + ".path_c", s.n);
  s.best = {scalars.best_loss, scalars.best_generation, TakeFinite(store, root + ".best", s.n)};
  const std::vector<double> triangle = TakeFinite(store, root + ".covariance", s.n * (s.n + 1) / 2);
  const size_t n = static_cast<size_t>(s.n);
  for (size_t i = 0, at = 0; i < n; ++i)
    for (size_t j = 0; j <= i; ++j)
      s.covariance[i * n + j] = s.covariance[j * n + i] = triangle[at++];
  if (!s.Decompose()) Fail("{}.covariance: has no eigenvalues", root);
  s.asked = false;
  *search = std::move(s);
}

}  // namespace graft
