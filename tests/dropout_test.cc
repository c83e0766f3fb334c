// Masks of dropout are a function of seed, scope, step and the sample's place in the user's batch,
// and of nothing else. Kernel and reference share that function, so ops_test cannot see it go
// wrong.
#include <gtest/gtest.h>

#include "tests/graph_testing.h"

namespace graft::testing::dropout_test {
namespace {

constexpr int64_t kRows = 3, kCols = 50;

// Makes the mask (dropout of ones) of `sequences` sequences that begin at `first` in the batch.
std::vector<float> Mask(const DropoutAttrs& attrs, int step, int first, int64_t sequences) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({Dim::Sequences(kRows), kCols}));
  const ValueId rng = g.AddInput("rng", I32({2}));
  g.SetOutput("y", Dropout(g, x, Offsets(g, kRows), rng, attrs));
  ParamStore params;
  Session session(g, params, {.capacity = {sequences, 0}});
  std::fill_n(session.Input("x").f32(), sequences * kRows * kCols, 1.0f);
  session.Input("rng").i32()[0] = step;
  session.Input("rng").i32()[1] = first;
  session.Run({sequences, 0});
  return OutputValues(session, "y");
}

const DropoutAttrs kHalf{.p = 0.5, .seed = 1, .stream = "blocks.0.attn.q"};

TEST(Dropout, IsAFunctionOfItsKey) { EXPECT_EQ(Mask(kHalf, 3, 0, 4), Mask(kHalf, 3, 0, 4)); }

TEST(Dropout, DiffersByStepSeedStreamAndKind) {
  const std::vector<float> mask = Mask(kHalf, 3, 0, 4);
  EXPECT_NE(mask, Mask(kHalf, 4, 0, 4));
  DropoutAttrs other = kHalf;
  other.seed = 2;
  EXPECT_NE(mask, Mask(other, 3, 0, 4));
  other = kHalf, other.stream = "blocks.0.attn.v";
  EXPECT_NE(mask, Mask(other, 3, 0, 4));
}

TEST(Dropout, SequencesAndElementsDiffer) {
  const std::vector<float> mask = Mask(kHalf, 0, 0, 4);
  const auto sequence = [&](int64_t i) {
    const auto begin = mask.begin() + i * kRows * kCols;
    return std::vector<float>(begin, begin + kRows * kCols);
  };
  for (int64_t i = 1; i < 4; ++i) EXPECT_NE(sequence(0), sequence(i));
  const std::vector<float> first = sequence(0);
  EXPECT_FALSE(std::equal(first.begin(), first.begin() + kCols, first.begin() + kCols));
}

TEST(Dropout, MicroBatchesAreCutsOfTheBatch) {
  for (bool per_sequence : {false, true}) {
    DropoutAttrs attrs = kHalf;
    attrs.per_sequence = per_sequence;
    const std::vector<float> whole = Mask(attrs, 7, 0, 6);
    std::vector<float> parts = Mask(attrs, 7, 0, 4);
    const std::vector<float> rest = Mask(attrs, 7, 4, 2);
    parts.insert(parts.end(), rest.begin(), rest.end());
    EXPECT_EQ(whole, parts) << per_sequence;
  }
}

TEST(Dropout, KeepsTheMeanAndDropsTheShare) {
  DropoutAttrs attrs = kHalf;
  attrs.p = 0.1;
  const std::vector<float> mask = Mask(attrs, 1, 0, 200);
  double zeros = 0;
  for (float m : mask) {
    EXPECT_TRUE(m == 0 || std::abs(m - 1 / 0.9f) < 1e-6f);
    zeros += m == 0;
  }
  EXPECT_NEAR(zeros / static_cast<double>(mask.size()), 0.1, 0.01);
}

TEST(Dropout, DropPathDropsWholeSequences) {
  DropoutAttrs attrs = kHalf;
  attrs.per_sequence = true;
  const std::vector<float> mask = Mask(attrs, 1, 0, 64);
  int dropped = 0;
  for (int64_t i = 0; i < 64; ++i) {
    const auto begin = mask.begin() + i * kRows * kCols;
    EXPECT_TRUE(std::all_of(begin, begin + kRows * kCols, [&](float m) { return m == *begin; }));
    dropped += *begin == 0;
  }
  EXPECT_GT(dropped, 16);
  EXPECT_LT(dropped, 48);
}

}  // namespace
}  // namespace graft::testing::dropout_test
