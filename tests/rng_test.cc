#include "runtime/rng.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "runtime/error.h"
#include "runtime/threads.h"

namespace graft::rng_test {
namespace {

// These are the known answers that were published with Random123.
TEST(Rng, PhiloxKnownAnswers) {
  EXPECT_EQ(Philox({0, 0, 0, 0}, 0, 0), (Philox4{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox({~0u, ~0u, ~0u, ~0u}, ~0u, ~0u),
            (Philox4{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0),
            (Philox4{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// Runs are repeated from their seeds: these values may never change.
TEST(Rng, StreamsAreFixed) {
  const StreamKey s{.key = MakeKey(42, Purpose::kDropout, "blocks.0.mlp"), .step = 7, .sample = 3};
  EXPECT_EQ(s.key, 0x1ca2099a0f3cfba4u);
  EXPECT_EQ(RandomWord(s, 5), 0x450f7672u);
  EXPECT_EQ(Normal(s, 5), 0x1.2a8e2ef529183p-1);
  EXPECT_THAT(Permutation(8, s), ::testing::ElementsAre(4, 2, 7, 3, 5, 1, 0, 6));
}

TEST(Rng, EveryPartOfTheKeyMatters) {
  std::set<uint64_t> keys;
  for (const uint64_t seed : {0u, 1u, 2u})
    for (const Purpose p : {Purpose::kInit, Purpose::kDropout})
      for (const char* scope : {"", "a", "b", "ab"}) keys.insert(MakeKey(seed, p, scope));
  EXPECT_EQ(keys.size(), 24u);
  const StreamKey s{.key = 1, .step = 2, .sample = 3};
  std::set<uint32_t> words{RandomWord(s, 0), RandomWord(s, 1), RandomWord(s, 4)};
  words.insert(RandomWord({.key = 2, .step = 2, .sample = 3}, 0));
  words.insert(RandomWord({.key = 1 | uint64_t{1} << 40, .step = 2, .sample = 3}, 0));
  words.insert(RandomWord({.key = 1, .step = 3, .sample = 3}, 0));
  words.insert(RandomWord({.key = 1, .step = 2 | uint64_t{1} << 40, .sample = 3}, 0));
  words.insert(RandomWord({.key = 1, .step = 2, .sample = 4}, 0));
  EXPECT_EQ(words.size(), 8u);
}

TEST(Rng, UniformRangeAndMoments) {
  EXPECT_EQ(ToUniform(0), 0.f);
  EXPECT_LT(ToUniform(~0u), 1.f);
  const StreamKey s{.key = MakeKey(1, Purpose::kData, "uniform")};
  std::vector<float> x(100000);
  FillUniform(x, s, -1, 3);
  EXPECT_EQ(x[17], static_cast<float>(-1 + 4.0 * Uniform(s, 17)));
  const double mean = std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size());
  EXPECT_NEAR(mean, 1, 0.02);
  EXPECT_GE(*std::min_element(x.begin(), x.end()), -1);
  EXPECT_LT(*std::max_element(x.begin(), x.end()), 3);
}

TEST(Rng, DropThreshold) {
  EXPECT_EQ(DropThreshold(0), 0u);
  EXPECT_EQ(DropThreshold(0.5), 1u << 31);
  EXPECT_EQ(DropThreshold(1), UINT32_MAX);
}

TEST(Rng, NormalMomentsAndTails) {
  const StreamKey s{.key = MakeKey(1, Purpose::kInit, "normal")};
  std::vector<float> x(200001);
  FillNormal(x, s, 0, 1);
  double sum = 0, squares = 0, fourth = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double v = x[i];
    sum += v, squares += v * v, fourth += v * v * v * v;
  }
  const double n = static_cast<double>(x.size());
  EXPECT_NEAR(sum / n, 0, 0.01);
  EXPECT_NEAR(squares / n, 1, 0.01);
  EXPECT_NEAR(fourth / n, 3, 0.1);
  for (const size_t i : {0u, 1u, 2u, 3u, 199999u, 200000u})
    EXPECT_EQ(x[i], static_cast<float>(Normal(s, i))) << i;
}

// Our logarithm, sine and cosine against the library's, which may differ in the last bits.
TEST(Rng, NormalAgreesWithTheLibrary) {
  const StreamKey s{.key = 5};
  for (uint64_t i = 0; i < 20000; i += 2) {
    const double radius = std::sqrt(-2 * std::log((RandomWord(s, i) + 1.0) * 0x1p-32));
    const double angle = 2 * M_PI * (RandomWord(s, i + 1) * 0x1p-32);
    ASSERT_NEAR(Normal(s, i), radius * std::cos(angle), 1e-14) << i;
    ASSERT_NEAR(Normal(s, i + 1), radius * std::sin(angle), 1e-14) << i;
  }
}

TEST(Rng, TruncNormal) {
  const StreamKey s{.key = MakeKey(1, Purpose::kInit, "trunc")};
  std::vector<float> x(50001);
  FillTruncNormal(x, s, 0, 0.02, -0.04, 0.04);
  double squares = 0;
  for (const float v : x) {
    ASSERT_LE(std::abs(v), 0.04f);
    squares += v * v;
  }
  // The standard deviation of a normal cut at two of its own is 0.8796 of it.
  EXPECT_NEAR(std::sqrt(squares / static_cast<double>(x.size())), 0.02 * 0.8796, 2e-4);
  EXPECT_THROW(FillTruncNormal(x, s, 0, 1, 50, 51), Error);
}

TEST(Rng, PermutationIsOneAndUniform) {
  std::vector<int> first(5);
  for (uint64_t step = 0; step < 20000; ++step) {
    const std::vector<int32_t> order = Permutation(5, {.key = 9, .step = step});
    EXPECT_THAT(order, ::testing::UnorderedElementsAre(0, 1, 2, 3, 4));
    ++first[order[0]];
  }
  for (const int count : first) EXPECT_NEAR(count, 4000, 250);
  EXPECT_TRUE(Permutation(0, {}).empty());
  EXPECT_THAT(Permutation(1, {}), ::testing::ElementsAre(0));
}

TEST(Threads, ParallelForVisitsEachChunkOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    SetThreads(threads);
    std::vector<int> visits(1000);
    ParallelFor(1000, [&](int64_t i) { ParallelFor(1, [&](int64_t) { ++visits[i]; }); });
    EXPECT_EQ(std::count(visits.begin(), visits.end(), 1), 1000);
    ParallelFor(0, [](int64_t) { FAIL(); });
  }
  EXPECT_THROW(SetThreads(0), Error);
}

TEST(Threads, NestedLoopsRunOnTheirThread) {
  SetThreads(2);
  std::vector<int64_t> sums(4);
  ParallelFor(4, [&](int64_t i) {
    ParallelFor(100, [&](int64_t j) { sums[i] += j; });  // no race
  });
  EXPECT_THAT(sums, ::testing::Each(4950));
}

TEST(Threads, FixedChunks) {
  constexpr FixedChunks cut(10, 4);
  static_assert(cut.count() == 3 && cut.begin(2) == 8 && cut.end(2) == 10);
  static_assert(FixedChunks(0, 4).count() == 0);
}

}  // namespace
}  // namespace graft::rng_test
