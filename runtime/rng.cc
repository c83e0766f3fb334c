#include "runtime/rng.h"

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
// bit of log, and an initial weight must not depend on that.
double Log(double x) {
  int exponent = 0;
  double m = std::frexp(x, &exponent);
  if (m < 0.70710678118654752) m *= 2, --exponent;
  // log m = 2 artanh(s), |s| < 0.172: the term of s^25 is below 2^-60.
  const double s = (m - 1) / (m + 1), s2 = s * s;
  double sum = 0;
  for (int k = 23; k >= 1; k -= 2) sum = sum * s2 + 1.0 / k;
  return exponent * 0.69314718055994531 + 2 * s * sum;
}

// sin(t), cos(t) for |t| <= pi/4 by their series.
std::pair<double, double> SinCos(double t) {
  const double t2 = t * t;
  double sine = 1, cosine = 1;
  const auto step = [&](double k) {  // inlined, the quotients of constants are constants
    sine = 1 - sine * (t2 * (1 / (k * (k + 1))));
    cosine = 1 - cosine * (t2 * (1 / (k * (k - 1))));
  };
  step(16), step(14), step(12), step(10), step(8), step(6), step(4), step(2);
  return {sine * t, cosine};
}

// Box-Muller: two words give two independent normal numbers.
std::pair<double, double> NormalPair(uint32_t a, uint32_t b) {
  const double radius = std::sqrt(-2 * Log((a + 1.0) * 0x1p-32));
  const double turn = b * 0x1p-32;  // the angle in turns, exact
  const int quarter = static_cast<int>(turn * 4 + 0.5);
  const auto [s, c] = SinCos(6.2831853071795865 * (turn - quarter * 0.25));
  switch (quarter & 3) {
    case 0:
      return {radius * c, radius * s};
    case 1:
      return {radius * -s, radius * c};
    case 2:
      return {radius * -c, radius * -s};
    default:
      return {radius * s, radius * -c};
  }
}

// Words in the order of position, for draws whose number is not known beforehand.
class WordSource {
 public:
  explicit WordSource(const StreamKey& s) : stream_(s) {}
  uint32_t Next() {
    if (position_ % 4 == 0) block_ = RandomBlock(stream_, static_cast<uint32_t>(position_ / 4));
    return block_[position_++ % 4];
  }

 private:
  StreamKey stream_;
  uint64_t position_ = 0;
  Philox4 block_{};
};

}  // namespace

uint64_t MakeKey(uint64_t seed, Purpose purpose, std::string_view scope) {
  const uint64_t purposed = Mix(Mix(seed + 0x9E3779B97F4A7C15) + static_cast<uint64_t>(purpose));
  return Mix(purposed ^ Mix(Fnv1a(scope)));
}

double Normal(const StreamKey& s, uint64_t position) {
  const Philox4 words = RandomBlock(s, static_cast<uint32_t>(position / 4));
  const size_t pair = position % 4 / 2 * 2;
  const auto [even, odd] = NormalPair(words[pair], words[pair + 1]);
  return position % 2 ? odd : even;
}

void FillUniform(std::span<float> out, const StreamKey& s, double low, double high) {
  WordSource words(s);
  for (float& x : out) x = static_cast<float>(low + (high - low) * ToUniform(words.Next()));
}

void FillNormal(std::span<float> out, const StreamKey& s, double mean, double stddev) {
  for (size_t i = 0; i < out.size(); i += 2) {
    const Philox4 words = RandomBlock(s, static_cast<uint32_t>(i / 4));
    const auto [even, odd] = NormalPair(words[i % 4], words[i % 4 + 1]);
    out[i] = static_cast<float>(mean + stddev * even);
    if (i + 1 < out.size()) out[i + 1] = static_cast<float>(mean + stddev * odd);
  }
}

void FillTruncNormal(std::span<float> out, const StreamKey& s, double mean, double stddev,
                     double low, double high) {
  constexpr int kTries = 100000;  // in a row
  WordSource words(s);
  size_t filled = 0;
  for (int tries = 0; filled < out.size();) {
    const uint32_t a = words.Next(), b = words.Next();
    const auto [even, odd] = NormalPair(a, b);
    for (const double z : {even, odd}) {
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
