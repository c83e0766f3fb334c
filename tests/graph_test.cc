// Graphs are built, and cut and joined again: uses, outputs, updates and leaves stay what they
// should be.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/verify.h"
#include "tests/graph_testing.h"

namespace graft::testing::graph_test {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Small {  // y = tanh(x + w) * (x + w)
  Graph g;
  ValueId x = g.AddInput("x", F32({Dim::Sequences(), 4}));
  ValueId w = g.AddParam("w", {4}, true);
  ValueId sum = Add(g, x, w);
  ValueId tanh = g.Add1(kTanh, {sum});
  ValueId y = Mul(g, tanh, sum);
  Small() { g.SetOutput("y", y); }
};

TEST(Graph, RemembersLeavesAndResults) {
  Small s;
  EXPECT_EQ(s.g.value(s.x).role, Role::kInput);
  EXPECT_EQ(s.g.FindLeaf("w"), s.w);
  EXPECT_FALSE(s.g.FindLeaf("v").valid());
  EXPECT_THAT(s.g.Trainable(), ElementsAre(s.w));
  EXPECT_THAT(s.g.ParamNames(), ElementsAre("w"));
  EXPECT_EQ(s.g.output("y"), s.y);
  EXPECT_EQ(s.g.shape(s.y), (Shape{Dim::Sequences(), 4}));
  EXPECT_EQ(s.g.users(s.sum).size(), 2u);
  EXPECT_EQ(s.g.live_nodes(), 3u);
  Verify(s.g);
}

TEST(Graph, LeafMistakesAreErrors) {
  Small s;
  EXPECT_EQ(MessageOf([&] { s.g.AddParam("x", {1}); }), "'x' exists already in this graph");
  EXPECT_EQ(MessageOf([&] { s.g.AddInput("", F32({1})); }), "a leaf needs a name");
  EXPECT_EQ(MessageOf([&] {
              s.g.AddParam("p", {Dim::Sequences(), 2});
            }),
            "parameter 'p': shape [s,2] depends on the batch");
  EXPECT_THAT(MessageOf([&] { s.g.AddParam("p", {4, -1}); }), HasSubstr("found -1"));
  EXPECT_THAT(MessageOf([&] { s.g.AddInput("p", F32({Dim::Tokens(kMaxDim + 1)})); }),
              HasSubstr("expected dimensions from 0 to 2147483648, found 2147483649"));
  EXPECT_THAT(MessageOf([&] { s.g.output("z"); }), HasSubstr("the graph has no output 'z'"));
}

TEST(Graph, WrongTypesNameOperatorScopeInputsAndPlace) {
  Small s;
  Scope outer(s.g, "blocks.3"), inner(s.g, "mlp");
  const ValueId v = s.g.AddParam("v", {3, 5});
  EXPECT_THAT(MessageOf([&] { Matmul(s.g, s.x, v); }),
              AllOf(HasSubstr("[matmul] blocks.3.mlp: "), HasSubstr("inputs f32[s,4], f32[3,5]"),
                    HasSubstr("graph_test.cc:")));
  Verify(s.g);  // nothing was added
  EXPECT_EQ(s.g.live_nodes(), 3u);
}

TEST(Graph, ScopesNestAndEnd) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({2, 2}));
  ValueId inside;
  {
    Scope a(g, "blocks.0");
    Scope b(g, "attn");
    inside = Scale(g, x, 2);
  }
  EXPECT_EQ(Maker(g, inside).scope, "blocks.0.attn");
  EXPECT_EQ(g.scope, "");
}

TEST(Graph, ReplaceUsesTakesOutputsAndUpdatesAlong) {
  Small s;
  const ValueId state = s.g.AddState("acc", {Dim(4)});
  const ValueId sum = Add(s.g, state, SumRows(s.g, s.y));
  s.g.AddUpdate(state, sum);
  const ValueId other = Add(s.g, state, s.w);
  s.g.ReplaceUses(sum, other);
  EXPECT_EQ(s.g.updates[0].value, other);
  const ValueId relu = s.g.Add1(kRelu, {s.x});
  s.g.ReplaceUses(s.y, relu);
  EXPECT_EQ(s.g.output("y"), relu);
  EXPECT_TRUE(s.g.users(s.y).empty());
  Verify(s.g);
}

TEST(Graph, ReplaceUsesInTouchesTheListedNodesOnly) {
  Small s;
  const ValueId relu = s.g.Add1(kRelu, {s.x});
  const NodeId only[] = {Producer(s.g, s.tanh)};
  s.g.ReplaceUsesIn(s.sum, relu, only);
  EXPECT_THAT(Maker(s.g, s.tanh).in, ElementsAre(relu));
  EXPECT_THAT(Maker(s.g, s.y).in, ElementsAre(s.tanh, s.sum));
  EXPECT_THAT(s.g.users(s.sum), ElementsAre(Producer(s.g, s.y)));
  s.g.ReplaceUsesIn(s.y, relu, {});  // outputs do not follow
  EXPECT_EQ(s.g.output("y"), s.y);
  Verify(s.g);
}

TEST(Graph, ANodeThatReadsAValueTwiceIsTwoUses) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({2, 2})), z = g.AddInput("z", F32({2, 2}));
  const ValueId square = Mul(g, x, x);
  g.SetOutput("y", square);
  EXPECT_EQ(g.users(x).size(), 2u);
  g.SetInput(Producer(g, square), 1, z);
  EXPECT_EQ(g.users(x).size(), 1u);
  EXPECT_EQ(g.users(z).size(), 1u);
  Verify(g);
  g.ReplaceUses(x, z);
  EXPECT_EQ(g.users(x).size(), 0u);
  EXPECT_EQ(g.users(z).size(), 2u);
  Verify(g);
  g.ReplaceUses(z, x);  // both uses of one node at once
  EXPECT_THAT(Maker(g, square).in, ElementsAre(x, x));
  Verify(g);
}

TEST(Graph, EraseDeadKeepsInputsAndWhatUpdatesNeed) {
  Small s;
  s.g.AddParam("unused", {2});
  const ValueId state = s.g.AddState("acc", {4}), dropped = s.g.AddState("dropped", {4});
  s.g.AddUpdate(state, Add(s.g, state, SumRows(s.g, s.y)));
  const ValueId dead = Scale(s.g, Scale(s.g, s.tanh, 2), 3);
  s.g.AddInput("spare", F32({1}));
  EXPECT_EQ(s.g.EraseDead(), 2u);
  EXPECT_FALSE(s.g.IsAlive(dead));
  EXPECT_FALSE(s.g.IsAlive(dropped));
  EXPECT_TRUE(s.g.IsAlive(state));
  EXPECT_FALSE(s.g.FindLeaf("unused").valid());
  EXPECT_TRUE(s.g.FindLeaf("spare").valid());
  EXPECT_EQ(s.g.users(s.tanh).size(), 1u);
  Verify(s.g);
  s.g.EraseUnusedInputs();
  EXPECT_FALSE(s.g.FindLeaf("spare").valid());
  EXPECT_TRUE(s.g.FindLeaf("x").valid());
  s.g.AddParam("unused", {3});  // the name is free again
  EXPECT_EQ(s.g.EraseDead(), 0u);
  EXPECT_FALSE(s.g.FindLeaf("unused").valid());
}

TEST(Graph, EraseNodeTakesItsUsesAway) {
  Small s;
  const ValueId extra = s.g.Add1(kTanh, {s.sum});
  EXPECT_EQ(s.g.users(s.sum).size(), 3u);
  s.g.EraseNode(Producer(s.g, extra));
  EXPECT_EQ(s.g.users(s.sum).size(), 2u);
  EXPECT_FALSE(s.g.IsAlive(extra));
  Verify(s.g);
}

TEST(GraphDeathTest, AResultInUseCannotBeErased) {
  Small s;
  EXPECT_DEATH(s.g.EraseNode(Producer(s.g, s.sum)), "is in use");
  EXPECT_DEATH(s.g.EraseNode(Producer(s.g, s.y)), "is in use");  // an output
  EXPECT_DEATH(s.g.SetTrainable(s.x, true), "is no parameter");
}

TEST(Graph, MakeParamReplacesTheNode) {
  Small s;
  const ValueId bias = s.g.AddParam("bias", {4});
  const ValueId both = Add(s.g, s.w, bias);
  s.g.ReplaceUses(s.sum, Add(s.g, s.x, both));
  s.g.SetName(both, "folded");
  s.g.MakeParam(both);
  s.g.EraseDead();
  EXPECT_EQ(s.g.value(both).role, Role::kParam);
  EXPECT_THAT(s.g.ParamNames(), ElementsAre("folded"));
  EXPECT_EQ(s.g.FindLeaf("folded"), both);
  Verify(s.g);
}

TEST(Graph, OrderIsByPhaseThenDependencies) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({4}));
  const ValueId state = g.AddState("acc", {4});
  g.phase = Phase::kUpdate;
  const ValueId update = Add(g, state, x);
  g.phase = Phase::kMain;
  const ValueId later = Scale(g, x, 2);
  g.AddUpdate(state, update);
  g.SetOutput("y", later);
  EXPECT_THAT(g.TopoOrder(), ElementsAre(Producer(g, later), Producer(g, update)));
  Verify(g);
}

// The order takes the smallest id that is ready, also where that is thousands of ids in front of
// what was taken last.
TEST(Graph, TheOrderOfALargeGraphGoesBackToWhatIsReady) {
  constexpr size_t kNodes = 20'000, kRead = 15'000;
  Graph g;
  const ValueId x = g.AddInput("x", F32({4}));
  std::vector<ValueId> all;
  for (size_t i = 0; i < kNodes; ++i) all.push_back(g.Add1(kTanh, {i == 1 ? all[0] : x}));
  g.ReplaceUses(all[0], all[kRead]);  // node 1 reads the result of node kRead
  const std::vector<NodeId> order = g.TopoOrder();
  ASSERT_EQ(order.size(), kNodes);
  for (size_t i = 0; i < kNodes; ++i) {
    const size_t expected = i == 0 ? 0 : i < kRead ? i + 1 : i == kRead ? 1 : i;
    ASSERT_EQ(order[i].i, expected) << i;
  }
}

TEST(Graph, EveryNodeComesAfterItsInputs) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const Graph g = RandomGraph(seed);
    std::vector<bool> done(g.num_nodes());
    const std::vector<NodeId> order = g.TopoOrder();
    EXPECT_EQ(order.size(), g.live_nodes());
    for (NodeId n : order) {
      for (ValueId v : g.node(n).in)
        EXPECT_TRUE(!Producer(g, v).valid() || done[Producer(g, v).i]) << "seed " << seed;
      done[n.i] = true;
    }
  }
}

TEST(Graph, KnowsAncestors) {
  Small s;
  EXPECT_TRUE(s.g.HasAncestor(s.y, s.x));
  EXPECT_TRUE(s.g.HasAncestor(s.y, s.y));
  EXPECT_FALSE(s.g.HasAncestor(s.sum, s.tanh));
}

TEST(Graph, ACopyIsIndependent) {
  Small s;
  Graph copy = s.g;
  copy.ReplaceUses(s.sum, copy.Add1(kRelu, {s.x}));
  copy.EraseDead();
  copy.SetTrainable(copy.AddParam("new", {1}), true);
  EXPECT_EQ(s.g.users(s.sum).size(), 2u);
  EXPECT_TRUE(s.g.IsAlive(s.sum));
  EXPECT_FALSE(copy.IsAlive(s.sum));
  EXPECT_FALSE(s.g.FindLeaf("new").valid());
}

TEST(Graph, OutputsAreSetByName) {
  Small s;
  s.g.SetOutput("y", s.sum);
  s.g.SetOutput("t", s.tanh);
  EXPECT_EQ(s.g.outputs.size(), 2u);
  EXPECT_EQ(s.g.output("y"), s.sum);
  EXPECT_TRUE(s.g.IsOutput(s.tanh));
  EXPECT_FALSE(s.g.IsOutput(s.y));
  s.g.ClearOutputs();
  EXPECT_FALSE(s.g.IsOutput(s.tanh));
}

TEST(GlobMatch, StarsMatchAnyRun) {
  EXPECT_TRUE(GlobMatch("*", ""));
  EXPECT_TRUE(GlobMatch("", ""));
  EXPECT_FALSE(GlobMatch("", "a"));
  EXPECT_TRUE(GlobMatch("blocks.*.attn.q", "blocks.11.attn.q"));
  EXPECT_FALSE(GlobMatch("blocks.*.attn.q", "blocks.11.attn.qk"));
  EXPECT_TRUE(GlobMatch("a*b*c", "aXbYbZc"));
  EXPECT_FALSE(GlobMatch("a*b*c", "aXbYbZ"));
  EXPECT_TRUE(GlobMatch("**x", "x"));
  EXPECT_FALSE(GlobMatch("a.b", "aXb"));
}

}  // namespace
}  // namespace graft::testing::graph_test
