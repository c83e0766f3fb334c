// Tests what depends on what: by hand on small graphs, and against a search on random ones.
#include "runtime/dependence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/graph_testing.h"

namespace graft::testing::dependence_test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr auto kNothingBreaks = [](const Node&) { return false; };

class DependenceTest : public ::testing::Test {
 protected:
  ValueId Tanh(ValueId v) { return g.Add1(kTanh, {v}); }
  Graph g;
  ValueId x = g.AddInput("x", F32({4, 4})), y = g.AddInput("y", F32({4, 4}));
  ValueId a = g.AddParam("a", {4, 4}), b = g.AddParam("b", {4, 4});
};

TEST_F(DependenceTest, BothArmsOfADiamondCount) {
  const ValueId left = Tanh(a), right = Scale(g, a, 2), both = Add(g, left, right);
  const ValueId mixed = Add(g, both, x), other = Tanh(x);
  const std::vector<bool> any = DependsOnAny(g, {{a}});
  for (ValueId v : {a, left, right, both, mixed}) EXPECT_TRUE(any[v.i]) << v.i;
  for (ValueId v : {b, x, y, other}) EXPECT_FALSE(any[v.i]) << v.i;
  const std::vector<bool> only = DependsOnlyOn(g, {{a}}, kNothingBreaks);
  for (ValueId v : {a, left, right, both}) EXPECT_TRUE(only[v.i]) << v.i;
  for (ValueId v : {b, x, y, mixed, other}) EXPECT_FALSE(only[v.i]) << v.i;
}

TEST_F(DependenceTest, SeveralSeedsAreOneSet) {
  const ValueId sum = Add(g, a, x), product = Mul(g, sum, b);
  const std::vector<ValueId> seeds{a, x};
  EXPECT_TRUE(DependsOnlyOn(g, seeds, kNothingBreaks)[sum.i]);
  EXPECT_FALSE(DependsOnlyOn(g, seeds, kNothingBreaks)[product.i]);
  EXPECT_TRUE(DependsOnAny(g, seeds)[product.i]);
  EXPECT_THAT(DependsOnAny(g, {}), ::testing::Each(false));
}

TEST_F(DependenceTest, AnIntermediateIsASeedWhateverItIsMadeFrom) {
  const ValueId t = Tanh(x), above = Scale(g, t, 2), beside = Scale(g, x, 2);
  const std::vector<bool> any = DependsOnAny(g, {{t}});
  EXPECT_TRUE(any[t.i] && any[above.i]);
  EXPECT_FALSE(any[x.i] || any[beside.i]);
  const std::vector<bool> only = DependsOnlyOn(g, {{t}}, kNothingBreaks);
  EXPECT_TRUE(only[t.i] && only[above.i]);
  EXPECT_FALSE(only[x.i] || only[beside.i]);
}

TEST_F(DependenceTest, EveryResultOfANode) {
  const ValueId gain = g.AddParam("gain", {4}), bias = g.AddParam("bias", {4});
  const auto of_x = g.Add(kLayerNorm, {x, gain, bias}, NormAttrs{1e-5});
  const auto of_a = g.Add(kLayerNorm, {a, gain, bias}, NormAttrs{1e-5});
  ASSERT_EQ(of_x.size(), 3u);
  const std::vector<bool> any = DependsOnAny(g, {{x}}), constant = DependsOnlyOnParameters(g);
  for (size_t k = 0; k < 3; ++k) {
    EXPECT_TRUE(any[of_x[k].i] && !constant[of_x[k].i]) << k;
    EXPECT_TRUE(!any[of_a[k].i] && constant[of_a[k].i]) << k;
  }
}

TEST_F(DependenceTest, WhatANodeThatBreaksItMakesIsOutAndSoIsWhatReadsThat) {
  const ValueId t = Tanh(a), above = Scale(g, t, 2), beside = Scale(g, a, 2);
  const auto breaks = [](const Node& n) { return n.op == &kTanh; };
  const std::vector<bool> only = DependsOnlyOn(g, {{a}}, breaks);
  EXPECT_TRUE(only[a.i] && only[beside.i]);
  EXPECT_FALSE(only[t.i] || only[above.i]);
  EXPECT_TRUE(DependsOnlyOn(g, {{t}}, breaks)[above.i]) << "a seed stays one";
}

TEST_F(DependenceTest, ANodeWithoutInputsReadsNothingElse) {
  const ValueId offsets = Offsets(g, 4);
  EXPECT_TRUE(DependsOnlyOn(g, {}, kNothingBreaks)[offsets.i]);
  EXPECT_FALSE(DependsOnAny(g, {{x}})[offsets.i]);
  EXPECT_FALSE(DependsOnlyOnParameters(g)[offsets.i]) << "it grows with the batch";
}

TEST_F(DependenceTest, ParametersAloneMakeNothingRandomAndNothingOfTheUpdate) {
  // It reads no stream as an input, so that only its record says that it is random.
  OpDef random = kTanh;
  random.random = true;
  const ValueId drawn = g.Add1(random, {a}), sum = Add(g, a, b);
  g.phase = Phase::kUpdate;
  const ValueId updated = Add(g, a, b), later = Tanh(updated);
  const std::vector<bool> constant = DependsOnlyOnParameters(g);
  EXPECT_TRUE(constant[a.i] && constant[sum.i]);
  EXPECT_FALSE(constant[drawn.i] || constant[updated.i] || constant[later.i] || constant[x.i]);
  const std::vector<bool> any = DependsOnAny(g, {{a}});
  EXPECT_TRUE(any[drawn.i] && any[updated.i] && any[later.i]);
}

TEST_F(DependenceTest, AGraphThatGrows) {
  std::vector<bool> known = DependsOnlyOnParameters(g);
  const ValueId sum = Add(g, a, b), mixed = Add(g, sum, x), offsets = Offsets(g, 4);
  g.SetOutput("y", mixed);
  ExtendOnlyOnParameters(g, known);
  EXPECT_EQ(known, DependsOnlyOnParameters(g));
  const ValueId c = g.AddParam("c", {4, 4}), product = Matmul(g, sum, c);
  g.ReplaceUses(sum, product);  // an older node reads a younger value, and product itself
  g.SetInput(g.value(product).producer, 0, sum);
  const auto normed = g.Add(kLayerNorm, {product, g.AddParam("gain", {4}), g.AddParam("bias", {4})},
                            NormAttrs{1e-5});
  ExtendOnlyOnParameters(g, known);
  EXPECT_EQ(known, DependsOnlyOnParameters(g));
  EXPECT_TRUE(known[product.i] && known[normed[2].i]);
  EXPECT_FALSE(known[mixed.i] || known[offsets.i]);
}

TEST_F(DependenceTest, WhatOthersNeed) {
  const ValueId sum = Add(g, a, b), inner = Tanh(sum), outer = Scale(g, inner, 2);
  const ValueId out = Add(g, outer, x), result = Tanh(a), updated = Mul(g, a, b);
  g.SetOutput("y", out);
  g.SetOutput("result", result);
  const ValueId state = g.AddState("state", {4, 4});
  g.AddUpdate(state, updated);
  const std::vector<bool> constant = DependsOnlyOnParameters(g);
  EXPECT_THAT(NeededOutside(g, constant), ElementsAre(outer, result, updated));
  EXPECT_THAT(NeededOutside(g, std::vector<bool>(g.num_values())), IsEmpty());
  // An erased value is in no set.
  std::vector<bool> all(g.num_values(), true);
  const ValueId unused = Tanh(y);
  all.push_back(true);
  g.SetOutput("unused", unused);
  EXPECT_THAT(NeededOutside(g, all), ElementsAre(out, result, updated, unused));
  g.KeepOutputs([](const GraphOutput& o) { return o.name != "unused"; });
  g.EraseDead();
  EXPECT_THAT(NeededOutside(g, all), ElementsAre(out, result, updated));
}

TEST_F(DependenceTest, NeededForAnyIsTheOtherDirection) {
  const ValueId both = Add(g, a, x), more = Mul(g, both, x), aside = Mul(g, a, a);
  const std::vector<bool> needed = NeededForAny(g, {{both}});
  EXPECT_TRUE(needed[a.i] && needed[x.i] && needed[both.i]);
  EXPECT_FALSE(needed[more.i] || needed[aside.i]);
}

TEST_F(DependenceTest, ManyDiamondsInARowAreOneWalk) {
  ValueId of_a = a, of_x = x;  // 2^2000 ways from the last to the first
  for (int i = 0; i < 2000; ++i) of_a = Add(g, of_a, of_a), of_x = Mul(g, of_x, of_a);
  const std::vector<bool> constant = DependsOnlyOnParameters(g), any = DependsOnAny(g, {{x}});
  EXPECT_TRUE(constant[of_a.i] && any[of_x.i]);
  EXPECT_FALSE(constant[of_x.i] || any[of_a.i]);
}

// Graph::HasAncestor searches from the value down; the walks go up.
TEST(Dependence, AgreesWithASearchOnRandomGraphs) {
  int depend = 0, constant = 0;
  for (uint32_t seed = 0; seed < 40; ++seed) {
    const Graph g = RandomGraph(seed);
    std::vector<ValueId> leaves;
    for (Role role : {Role::kInput, Role::kState, Role::kParam})
      for (ValueId v : g.Leaves(role)) leaves.push_back(v);
    std::mt19937 random(seed);
    std::vector<ValueId> seeds, others;
    for (ValueId v : leaves) (random() % 3 ? seeds : others).push_back(v);
    const std::vector<bool> any = DependsOnAny(g, seeds);
    const std::vector<bool> only = DependsOnlyOn(g, seeds, kNothingBreaks);
    for (ValueId v : g.Leaves(Role::kIntermediate)) {
      const auto above = [&](ValueId leaf) { return g.HasAncestor(v, leaf); };
      EXPECT_EQ(any[v.i], std::ranges::any_of(seeds, above)) << seed << " %" << v.i;
      EXPECT_EQ(only[v.i], std::ranges::none_of(others, above)) << seed << " %" << v.i;
      const std::vector<bool> needed = NeededForAny(g, {{v}});
      for (ValueId leaf : leaves) EXPECT_EQ(needed[leaf.i], above(leaf)) << seed << " %" << v.i;
      depend += any[v.i], constant += only[v.i];
    }
  }
  EXPECT_GT(depend, constant);
  EXPECT_GT(constant, 50);
}

}  // namespace
}  // namespace graft::testing::dependence_test
