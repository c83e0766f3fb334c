#include "runtime/rng.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>
#include <utility>

#include "runtime/error.h"

namespace graft {
namespace {

// The finaliser of splitmix64: every input bit changes every output bit.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

uint64_t Fnv1a(std::string_view text) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3;
  return hash;
}

// The natural logarithm of x in (0, 1], within 2 ulp. Versions of the C library differ in the last
// bit of log, and an initial weight must not depend on that. Without branches, for several at once.
inline double Log(double x) {
  // x = m 2^exponent, m in [0.5, 1), as by frexp
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  const int32_t exponent = static_cast<int32_t>(bits >> 52) - 1022;
  const double half = std::bit_cast<double>((bits & 0xFFFFFFFFFFFFF) | 0x3FE0000000000000);
  const bool low = half < 0.70710678118654752;
  const double m = low ? half * 2 : half;
  // log m = 2 artanh(s), |s| < 0.172: the term of s^25 is below 2^-60.
  const double s = (m - 1) / (m + 1), s2 = s * s;
  double sum = 0;
  const auto step = [&](double k) __attribute__((always_inline)) { sum = sum * s2 + 1 / k; };
  step(23), step(21), step(19), step(17), step(15), step(13), step(11), step(9), step(7), step(5);
  step(3), step(1);
  return (exponent - (low ? 1.0 : 0.0)) * 0.69314718055994531 + 2 * s * sum;
}

// sin(t), cos(t) for |t| <= pi/4 by their series.
inline std::pair<double, double> SinCos(double t) {
  const double t2 = t * t;
  double sine = 1, cosine = 1;
  const auto step = [&](double k) __attribute__((always_inline)) {
    sine = 1 - sine * (t2 * (1 / (k * (k + 1))));  // quotients of constants are constants
    cosine = 1 - cosine * (t2 * (1 / (k * (k - 1))));
  };
  step(16), step(14), step(12), step(10), step(8), step(6), step(4), step(2);
  return {sine * t, cosine};
}

constexpr size_t kBatch = 128;  // words, a multiple of four
constexpr double kSigns[] = {1, -1};

// Box-Muller: each two words give two independent normal numbers. The first loop is free of
// branches, so that the compiler makes vectors of it.
template <size_t kWords>
std::array<double, kWords> Normals(const std::array<uint32_t, kWords>& words) {
  constexpr size_t kPairs = kWords / 2;
  std::array<double, kWords> normals;
  std::array<double, kPairs> square, sine, cosine;
  std::array<int32_t, kPairs> quarter;
  std::array<uint32_t, kPairs> a, b;
  for (size_t i = 0; i < kPairs; ++i) a[i] = words[2 * i], b[i] = words[2 * i + 1];
  for (size_t i = 0; i < kPairs; ++i) {
    square[i] = -2 * Log((a[i] + 1.0) * 0x1p-32);
    const double turn = b[i] * 0x1p-32;  // the angle in turns, exact
    quarter[i] = static_cast<int32_t>(turn * 4 + 0.5);
    const auto [s, c] = SinCos(6.2831853071795865 * (turn - quarter[i] * 0.25));
    sine[i] = s, cosine[i] = c;
  }
  // {c, s} turned by quarters: {c, s}, {-s, c}, {-c, -s}, {s, -c}
  for (size_t i = 0; i < kPairs; ++i) {
    const double radius = std::sqrt(square[i]);
    const double parts[2] = {radius * cosine[i], radius * sine[i]};
    const uint32_t odd = quarter[i] & 1, second = quarter[i] >> 1 & 1;
    normals[2 * i] = parts[odd] * kSigns[odd ^ second];
    normals[2 * i + 1] = parts[odd ^ 1] * kSigns[second];
  }
  return normals;
}

// Words in the order of position, for draws whose number is not known beforehand.
class WordSource {
 public:
  explicit WordSource(const StreamKey& s) : stream_(s) {}
  uint32_t Next() {
    if (next_ == words_.size()) words_ = NextBatch(), next_ = 0;
    return words_[next_++];
  }
  // Many at once, by those who never call Next.
  std::array<uint32_t, kBatch> NextBatch() {
    std::array<uint32_t, kBatch> words;
    for (size_t i = 0; i < kBatch; i += 4)
      std::ranges::copy(RandomBlock(stream_, block_++), words.begin() + i);
    return words;
  }

 private:
  StreamKey stream_;
  uint32_t block_ = 0;
  std::array<uint32_t, kBatch> words_{};
  size_t next_ = kBatch;  // of words_
};

}  // namespace

uint64_t MakeKey(uint64_t seed, Purpose purpose, std::string_view scope) {
  const uint64_t purposed = Mix(Mix(seed + 0x9E3779B97F4A7C15) + static_cast<uint64_t>(purpose));
  return Mix(purposed ^ Mix(Fnv1a(scope)));
}

double Normal(const StreamKey& s, uint64_t position) {
  return Normals(RandomBlock(s, static_cast<uint32_t>(position / 4)))[position % 4];
}

void FillUniform(std::span<float> out, const StreamKey& s, double low, double high) {
  WordSource words(s);
  for (float& x : out) x = static_cast<float>(low + (high - low) * ToUniform(words.Next()));
}

void FillNormal(std::span<float> out, const StreamKey& s, double mean, double stddev) {
  WordSource words(s);
  for (size_t begin = 0; begin < out.size(); begin += kBatch) {
    const std::array<double, kBatch> normals = Normals(words.NextBatch());
    const size_t count = std::min(kBatch, out.size() - begin);
    for (size_t i = 0; i < count; ++i)
      out[begin + i] = static_cast<float>(mean + stddev * normals[i]);
  }
}

void FillTruncNormal(std::span<float> out, const StreamKey& s, double mean, double stddev,
                     double low, double high) {
  constexpr int kTries = 100000;  // in a row
  WordSource words(s);
  size_t filled = 0;
  for (int tries = 0; filled < out.size();) {
    for (const double z : Normals(words.NextBatch())) {
      const double x = mean + stddev * z;
      if (x < low || x > high) {
        if (++tries == kTries)
          Fail(
              "truncated normal: [{}, {}] holds next to nothing of a normal with mean {} and "
              "standard deviation {}",
              low, high, mean, stddev);
      } else if (filled < out.size()) {
        out[filled++] = static_cast<float>(x), tries = 0;
      }
    }
  }
}

std::vector<int32_t> Permutation(int32_t n, const StreamKey& s) {
  GRAFT_CHECK(n >= 0);
  std::vector<int32_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  WordSource words(s);
  // A number below `bound` without bias: multiply, and draw again in the incomplete last interval
  // (Lemire, "Fast random integer generation in an interval", 2019).
  const auto below = [&](uint32_t bound) {
    uint64_t product = uint64_t{words.Next()} * bound;
    for (const uint32_t reject = -bound % bound; static_cast<uint32_t>(product) < reject;)
      product = uint64_t{words.Next()} * bound;
    return static_cast<size_t>(product >> 32);
  };
  for (size_t i = order.size(); i > 1; --i)
    std::swap(order[i - 1], order[below(static_cast<uint32_t>(i))]);
  return order;
}

}  // namespace graft
