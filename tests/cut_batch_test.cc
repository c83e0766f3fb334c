// How a batch is cut into micro-batches, of images and of texts.
#include "runtime/cut_batch.h"

#include <gtest/gtest.h>

#include <random>

namespace graft::cut_batch_test {
namespace {

std::vector<int64_t> SequencesOf(const std::vector<Counts>& parts) {
  std::vector<int64_t> sequences;
  for (const Counts& part : parts) sequences.push_back(part.sequences);
  return sequences;
}

TEST(CutBatch, TwoThreadsGetTheSame) {
  using Sizes = std::vector<int64_t>;
  const auto images = [](int64_t n, int64_t most) {
    return SequencesOf(CutBatch(n, {most, 0}, {}));
  };
  EXPECT_EQ(images(6, 2), (Sizes{2, 2, 1, 1}));
  EXPECT_EQ(images(8, 2), (Sizes{2, 2, 2, 2}));
  EXPECT_EQ(images(2, 2), Sizes{2});
  EXPECT_EQ(images(0, 2), Sizes{});
  EXPECT_EQ(images(3, 1), (Sizes{1, 1, 1})) << "no fourth";
}

// Whatever the lengths: in order, within the capacity, no more parts than one beyond the fewest.
TEST(CutBatch, TextsStayWithinTheCapacity) {
  const Counts most{8, 400};
  for (uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 draw(seed);
    std::vector<int64_t> lengths(draw() % 70);
    const uint32_t longest = 1 + draw() % 400;
    for (int64_t& length : lengths) length = 1 + draw() % longest;
    const auto length = [&](int64_t i) { return lengths[static_cast<size_t>(i)]; };
    const std::vector<Counts> parts = CutBatch(std::ssize(lengths), most, length);
    int64_t first = 0;
    for (const Counts& part : parts) {
      int64_t tokens = 0;
      for (int64_t i = 0; i < part.sequences; ++i) tokens += length(first + i);
      first += part.sequences;
      EXPECT_EQ(part.tokens, tokens);
      EXPECT_TRUE(0 < part.sequences && part.sequences <= most.sequences) << part.sequences;
      EXPECT_LE(part.tokens, most.tokens);
    }
    EXPECT_EQ(first, std::ssize(lengths));
  }
  // 32 texts of 128 tokens, three to a part, are twelve parts and not eleven.
  EXPECT_EQ(SequencesOf(CutBatch(32, most, [](int64_t) { return 128; })),
            (std::vector<int64_t>{3, 3, 3, 3, 3, 3, 3, 3, 2, 2, 2, 2}));
  // Eight short texts to a part leave no choice.
  EXPECT_EQ(SequencesOf(CutBatch(32, most, [](int64_t i) { return 1 + i; })),
            (std::vector<int64_t>{8, 8, 8, 8}));
}

}  // namespace
}  // namespace graft::cut_batch_test
