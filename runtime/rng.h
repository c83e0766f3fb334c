// Random numbers as a function of their place, not of the order in which they are drawn: what an
// element gets depends only on (seed, purpose, scope, step, sample, position). Backward recomputes
// the masks of forward, and neither threads, micro-batches nor passes change a result.
//
// The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
// SC 2011), which makes 4 words per call. Its 64-bit key is a hash of (seed, purpose, scope); its
// 128-bit counter is {position / 4, sample, step low, step high}.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace graft {

// What the numbers are for. Stored runs depend on these values: append new ones, never renumber.
enum class Purpose : uint32_t {
  kInit = 1,   // initial weights
  kOrder = 2,  // order of the training examples; step is the epoch
  kDropout = 3,
  kDropPath = 4,
  kData = 7,    // generated data and augmentation
  kSearch = 8,  // of parameters without gradients; step is the generation, sample the candidate
  kNoise = 9,   // added to weights
};

struct StreamKey {
  uint64_t key = 0;  // from MakeKey
  uint64_t step = 0;
  uint32_t sample = 0;  // index in the user's batch
  bool operator==(const StreamKey&) const = default;
};

// Hashes the names once, at compile; a kernel only fills in step and sample.
uint64_t MakeKey(uint64_t seed, Purpose purpose, std::string_view scope);

using Philox4 = std::array<uint32_t, 4>;

inline Philox4 Philox(Philox4 c, uint32_t k0, uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * c[0], b = uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(b),
         static_cast<uint32_t>(a >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(a)};
    k0 += 0x9E3779B9, k1 += 0xBB67AE85;
  }
  return c;
}

// The words of positions 4*block .. 4*block+3.
inline Philox4 RandomBlock(const StreamKey& s, uint32_t block) {
  return Philox(
      {block, s.sample, static_cast<uint32_t>(s.step), static_cast<uint32_t>(s.step >> 32)},
      static_cast<uint32_t>(s.key), static_cast<uint32_t>(s.key >> 32));
}

// A stream has 2^34 positions.
inline uint32_t RandomWord(const StreamKey& s, uint64_t position) {
  return RandomBlock(s, static_cast<uint32_t>(position / 4))[position % 4];
}

// Returns a multiple of 2^-24 in [0, 1).
inline float ToUniform(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }
inline float Uniform(const StreamKey& s, uint64_t position) {
  return ToUniform(RandomWord(s, position));
}

// Dropout keeps an element when its word is at least this: P(word < threshold) = p up to 2^-32.
inline uint32_t DropThreshold(double p) {
  return p <= 0 ? 0u : p >= 1 ? UINT32_MAX : static_cast<uint32_t>(p * 0x1p32);
}

// Returns a standard normal number, of the same bits on every machine: its logarithm and its cosine
// are our own.
double Normal(const StreamKey& s, uint64_t position);

void FillUniform(std::span<float> out, const StreamKey& s, double low, double high);
void FillNormal(std::span<float> out, const StreamKey& s, double mean, double stddev);
// Values outside [low, high] are drawn again. REQUIRES: the interval holds a fair share of the
// distribution; one of less than about 1e-4 of it is refused.
void FillTruncNormal(std::span<float> out, const StreamKey& s, double mean, double stddev,
                     double low, double high);

// Returns 0 .. n-1 shuffled (Fisher-Yates, unbiased).
std::vector<int32_t> Permutation(int32_t n, const StreamKey& s);

}  // namespace graft
