// Patterns and the two drivers: what matches, what blocks a match, what is redirected.
#include "runtime/rewrite.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/text.h"
#include "tests/graph_testing.h"

namespace graft::testing::rewrite_test {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class RewriteTest : public ::testing::Test {
 protected:
  ValueId Tanh(ValueId v) { return g.Add1(kTanh, {v}); }
  ValueId Relu(ValueId v) { return g.Add1(kRelu, {v}); }
  PassReport Apply(std::vector<Rule> rules) { return Rewrite(g, "test", rules); }
  PassReport ApplyToFixpoint(std::vector<Rule> rules) {
    return RewriteToFixpoint(g, "test", rules);
  }

  Graph g;
  ValueId x = g.AddInput("x", F32({Dim::Sequences(), 4}));
  ValueId y = g.AddInput("y", F32({Dim::Sequences(), 4}));
};

// --- patterns --------------------------------------------------------------------------------

TEST_F(RewriteTest, CommutativeOperandsMatchInBothOrders) {
  const Pat pattern = Op(kAdd, {Op(kTanh, {Any("a")}), Any("b")});
  const ValueId t = Tanh(x);
  for (ValueId root : {Add(g, t, y), Add(g, y, t)}) {
    // Another user of t would block: it is interior.
    Graph alone = g;
    alone.SetOutput("out", root);
    alone.EraseDead();
    const std::optional<Match> match = MatchPattern(alone, pattern, root);
    ASSERT_TRUE(match);
    EXPECT_EQ((*match)["a"], x);
    EXPECT_EQ((*match)["b"], y);
  }
  const ValueId difference = Sub(g, y, Tanh(x));
  EXPECT_FALSE(MatchPattern(g, Op(kSub, {Op(kTanh, {Any("a")}), Any("b")}), difference));
}

TEST_F(RewriteTest, ARepeatedNameBindsTheSameValue) {
  const Pat square = Op(kMul, {Any("a"), Any("a")});
  EXPECT_TRUE(MatchPattern(g, square, Mul(g, x, x)));
  EXPECT_FALSE(MatchPattern(g, square, Mul(g, x, y)));
  // The first order binds a = tanh(x) and fails; the second must start afresh.
  const Pat silu = Op(kMul, {Any("a"), Op(kTanh, {Any("a")})});
  EXPECT_TRUE(MatchPattern(g, silu, Mul(g, Tanh(x), x)));
  EXPECT_FALSE(MatchPattern(g, silu, Mul(g, Tanh(x), y)));
}

TEST_F(RewriteTest, AttributesMatchExactlyWhenGiven) {
  const ValueId doubled = Scale(g, x, 2);
  EXPECT_TRUE(MatchPattern(g, Op(kScale, {Any("a")}), doubled));
  EXPECT_TRUE(MatchPattern(g, Op(kScale, {Any("a")}, ScaleAttrs{2}), doubled));
  EXPECT_FALSE(MatchPattern(g, Op(kScale, {Any("a")}, ScaleAttrs{3}), doubled));
}

TEST_F(RewriteTest, OnlyResultZeroAndTheRightNumberOfOperandsMatch) {
  const ValueId gain = g.AddParam("gain", {4}), bias = g.AddParam("bias", {4});
  const auto out = g.Add(kLayerNorm, {x, gain, bias}, NormAttrs{1e-6});
  const Pat three = Op(kLayerNorm, {Any("x"), Any("gain"), Any("bias")});
  EXPECT_TRUE(MatchPattern(g, three, out[0]));
  EXPECT_FALSE(MatchPattern(g, three, out[1]));
  EXPECT_FALSE(MatchPattern(g, Op(kLayerNorm, {Any("x"), Any("gain")}), out[0]));
}

TEST_F(RewriteTest, ValuesOfTheInteriorAreUsedInsideOnly) {
  const Pat pattern = Op(kScale, {Op(kTanh, {Any("a")}).As("t")});
  const ValueId t = Tanh(x), root = Scale(g, t, 2);
  g.SetOutput("y", root);
  EXPECT_TRUE(MatchPattern(g, pattern, root));
  {
    Graph other = g;
    other.Add1(kRelu, {t});
    EXPECT_FALSE(MatchPattern(other, pattern, root)) << "used by another node";
  }
  {
    Graph other = g;
    other.SetOutput("t", t);
    EXPECT_FALSE(MatchPattern(other, pattern, root)) << "an output";
  }
  {
    Graph other = g;
    const ValueId state = other.AddState("s", {4});
    other.AddUpdate(state, t);
    EXPECT_FALSE(MatchPattern(other, pattern, root)) << "the value of an update";
  }
}

TEST_F(RewriteTest, InteriorValuesMayBeUsedTwiceInsideTheMatch) {
  const ValueId t = Tanh(x), root = Mul(g, t, t);
  EXPECT_TRUE(MatchPattern(g, Op(kMul, {Op(kTanh, {Any("a")}).As("t"), Any("t")}), root));
}

TEST_F(RewriteTest, OtherResultsOfTheInteriorCountToo) {
  const ValueId gain = g.AddParam("gain", {4}), bias = g.AddParam("bias", {4});
  const auto out = g.Add(kLayerNorm, {x, gain, bias}, NormAttrs{1e-6});
  const ValueId root = Tanh(out[0]);
  const Pat pattern = Op(kTanh, {Op(kLayerNorm, {Any("x"), Any("gain"), Any("bias")})});
  EXPECT_TRUE(MatchPattern(g, pattern, root));
  Relu(out[2]);
  EXPECT_FALSE(MatchPattern(g, pattern, root));
}

TEST_F(RewriteTest, LeavesOfThePatternMayBeUsedByAnybody) {
  const ValueId t = Tanh(x), root = Scale(g, t, 2);
  Relu(t);
  EXPECT_TRUE(MatchPattern(g, Op(kScale, {Any("t")}), root));
}

TEST_F(RewriteTest, NamesBelowAFailedAlternativeAreForgotten) {
  const Pat pattern =
      OneOf({Op(kSub, {Any("a"), Op(kTanh, {Any("b")})}), Op(kSub, {Any("b"), Any("a")})});
  const std::optional<Match> match = MatchPattern(g, pattern, Sub(g, x, y));
  ASSERT_TRUE(match);
  EXPECT_EQ((*match)["b"], x);
  EXPECT_EQ((*match)["a"], y);
  EXPECT_EQ(match->at.size(), 2u);
}

TEST_F(RewriteTest, InteriorOfAFailedAlternativeBlocksNothing) {
  // The first alternative walks into tanh(x), which has another user, and fails at relu.
  const ValueId t = Tanh(x), root = Sub(g, t, y);
  Gelu(g, t);
  const Pat pattern = OneOf(
      {Op(kSub, {Op(kTanh, {Any("a")}), Op(kRelu, {Any("b")})}), Op(kSub, {Any("a"), Any("b")})});
  EXPECT_TRUE(MatchPattern(g, pattern, root));
}

TEST_F(RewriteTest, AlternativesOfAnOperandAndTheirName) {
  const Pat pattern =
      Op(kScale, {OneOf({Op(kTanh, {Any("a")}), Op(kRelu, {Any("a")})}).As("activation")});
  for (ValueId inner : {Tanh(x), Relu(x)}) {
    const ValueId root = Scale(g, inner, 2);
    const std::optional<Match> match = MatchPattern(g, pattern, root);
    ASSERT_TRUE(match);
    EXPECT_EQ((*match)["activation"], inner);
    EXPECT_EQ(match->node(g, "activation").op, Maker(g, inner).op);
  }
  EXPECT_FALSE(MatchPattern(g, pattern, Scale(g, x, 2)));
}

TEST_F(RewriteTest, PredicatesSeeTheOperatorOfTheirPattern) {
  int calls = 0;
  const Pat pattern = Op(kScale, {Any("a")}).If([&](const Graph& graph, ValueId v) {
    ++calls;
    return Maker(graph, v).attrs.As<ScaleAttrs>().by == 2;  // would abort for another operator
  });
  EXPECT_FALSE(MatchPattern(g, pattern, Tanh(x)));
  EXPECT_FALSE(MatchPattern(g, pattern, x));
  EXPECT_EQ(calls, 0);
  EXPECT_FALSE(MatchPattern(g, pattern, Scale(g, x, 3)));
  EXPECT_TRUE(MatchPattern(g, pattern, Scale(g, x, 2)));
  EXPECT_EQ(calls, 2);
}

// --- drivers ---------------------------------------------------------------------------------

TEST_F(RewriteTest, ReplacesUsesOutputsAndUpdates) {
  const ValueId t = Tanh(x);
  const ValueId state = g.AddState("acc", {4});
  const ValueId sum = Add(g, state, SumRows(g, t));
  g.SetOutput("t", t);
  g.SetOutput("z", Mul(g, t, y));
  g.AddUpdate(state, sum);
  const auto build = [](Graph& graph, const Match& m) { return graph.Add1(kRelu, {m["a"]}); };
  const PassReport report = Apply({{"relu", Op(kTanh, {Any("a")}), build}});
  EXPECT_EQ(report.rewrites, 1);
  EXPECT_EQ(CountOps(g, kTanh), 0);
  EXPECT_EQ(MakerName(g, g.output("t")), "relu");
  EXPECT_EQ(g.users(g.output("t")).size(), 2u);
}

TEST_F(RewriteTest, UsesThatARuleMakesAreNotRedirected) {
  const ValueId t = Tanh(x);
  g.SetOutput("t", t);
  g.SetOutput("z", Relu(t));
  const auto build = [](Graph& graph, const Match& m) { return Scale(graph, m.root, 2); };
  const PassReport report = Apply({{"wrap", Op(kTanh, {Any("a")}), build}});
  EXPECT_EQ(report.rewrites, 1);
  const ValueId wrapped = g.output("t");
  EXPECT_EQ(MakerName(g, wrapped), "scale");
  EXPECT_THAT(Maker(g, wrapped).in, ElementsAre(t));
  EXPECT_THAT(Maker(g, g.output("z")).in, ElementsAre(wrapped));
}

TEST_F(RewriteTest, OneWalkDoesNotVisitWhatRulesBuild) {
  g.SetOutput("z", Tanh(Tanh(x)));
  const auto build = [](Graph& graph, const Match& m) { return graph.Add1(kTanh, {m.root}); };
  const PassReport report = Apply({{"twice", Op(kTanh, {Any("a")}), build}});
  EXPECT_EQ(report.rewrites, 2);
  EXPECT_EQ(CountOps(g, kTanh), 4);
  EXPECT_EQ(report.nodes_before, 2u);
  EXPECT_EQ(report.nodes_after, 4u);
}

TEST_F(RewriteTest, NewNodesTakeScopeAndPhaseOfTheRoot) {
  ValueId t;
  {
    Scope scope(g, "blocks.7");
    g.phase = Phase::kUpdate;
    t = Tanh(x);
    g.phase = Phase::kMain;
  }
  g.SetOutput("t", t);
  Apply({{"relu", Op(kTanh, {Any("a")}),
          [](Graph& graph, const Match& m) { return graph.Add1(kRelu, {m["a"]}); }}});
  EXPECT_EQ(Maker(g, g.output("t")).scope, "blocks.7");
  EXPECT_EQ(Maker(g, g.output("t")).phase, Phase::kUpdate);
  EXPECT_EQ(g.scope, "");
  EXPECT_EQ(g.phase, Phase::kMain);
}

TEST_F(RewriteTest, TheFirstRuleThatMatchesWins) {
  g.SetOutput("t", Tanh(x));
  auto make = [](const OpDef& op) {
    return [&op](Graph& graph, const Match& m) { return graph.Add1(op, {m["a"]}); };
  };
  Apply({{"never", Op(kGelu, {Any("a")}), make(kSilu)},
         {"first", Op(kTanh, {Any("a")}), make(kRelu)},
         {"second", Op(kTanh, {Any("a")}), make(kSigmoid)}});
  EXPECT_EQ(MakerName(g, g.output("t")), "relu");
}

TEST_F(RewriteTest, ARuleMayLeaveAMatchToTheNext) {
  g.SetOutput("t", Tanh(x));
  const std::string before = ToText(g);
  auto leave = [](Graph&, const Match&) { return ValueId{}; };
  EXPECT_EQ(Apply({{"leaves", Op(kTanh, {Any("a")}), leave}}).rewrites, 0);
  EXPECT_EQ(ToText(g), before);
  EXPECT_EQ(ApplyToFixpoint({{"leaves", Op(kTanh, {Any("a")}), leave}}).rewrites, 0);
  Apply({{"leaves", Op(kTanh, {Any("a")}), leave},
         {"takes", Op(kTanh, {Any("a")}), [](Graph&, const Match& m) { return m["a"]; }}});
  EXPECT_EQ(g.output("t"), x);
}

TEST_F(RewriteTest, AReplacementHasTheTypeOfWhatItReplaces) {
  g.SetOutput("t", Tanh(x));
  EXPECT_THAT(MessageOf([&] {
                Apply({{"sum", Op(kTanh, {Any("a")}),
                        [](Graph& graph, const Match& m) { return SumCols(graph, m["a"]); }}});
              }),
              AllOf(HasSubstr("pass 'test', rule 'sum', at %"),
                    HasSubstr("replaces f32[s,4] by f32[s,1]")));
}

TEST_F(RewriteTest, ErrorsOfARuleNamePassAndRuleAndKeepTheirKind) {
  g.SetOutput("t", Tanh(x));
  try {
    Apply({{"broken", Op(kTanh, {Any("a")}), [](Graph&, const Match&) -> ValueId {
              throw Error("cannot be folded", ErrorKind::kNotFoldable);
            }}});
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), AllOf(HasSubstr("pass 'test', rule 'broken', at %"),
                                HasSubstr("cannot be folded")));
    EXPECT_EQ(e.kind, ErrorKind::kNotFoldable);
  }
}

TEST_F(RewriteTest, FixpointVisitsWhatRulesBuild) {
  ValueId v = x;
  for (int i = 0; i < 9; ++i) v = Scale(g, v, 2);
  g.SetOutput("y", v);
  // s (t a) = (s t) a
  const PassReport report = ApplyToFixpoint(
      {{"scale of scale", Op(kScale, {Op(kScale, {Any("a")}).As("inner")}),
        [](Graph& graph, const Match& m) {
          const double s = graph.node(graph.value(m.root).producer).attrs.As<ScaleAttrs>().by;
          return Scale(graph, m["a"], s * m.node(graph, "inner").attrs.As<ScaleAttrs>().by);
        }}});
  EXPECT_EQ(report.rewrites, 8);
  EXPECT_EQ(g.live_nodes(), 1u);
  EXPECT_EQ(Maker(g, g.output("y")).attrs.As<ScaleAttrs>().by, 512);
}

TEST_F(RewriteTest, ARuleThatWouldLoopIsNamed) {
  g.SetOutput("z", Add(g, x, y));
  EXPECT_THAT(MessageOf([&] {
                ApplyToFixpoint(
                    {{"swap", Op(kAdd, {Any("a"), Any("b")}),
                      [](Graph& graph, const Match& m) { return Add(graph, m["b"], m["a"]); }}});
              }),
              AllOf(HasSubstr("pass 'test': rule 'swap' does not lower the measure (1 -> 1)"),
                    HasSubstr("it would loop")));
}

TEST_F(RewriteTest, NodesThatTheCallerCountsAreTheMeasure) {
  g.SetOutput("z", Tanh(x));
  const Rule rules[] = {{"split", Op(kTanh, {Any("a")}), [](Graph& graph, const Match& m) {
                           return Scale(graph, graph.Add1(kRelu, {m["a"]}), 2);
                         }}};
  const PassReport report = RewriteToFixpoint(
      g, "test", rules, [](const Graph& graph, NodeId id) { return graph.node(id).op == &kTanh; });
  EXPECT_EQ(report.rewrites, 1);
  EXPECT_EQ(g.live_nodes(), 2u);
}

TEST_F(RewriteTest, EraseOfAMatchLetsTheNextOneSeePrivateValues) {
  // tanh(x) has two users; after the first rewrite it has one and the second may match.
  const ValueId t = Tanh(x);
  g.SetOutput("z", Add(g, Scale(g, t, 2), Scale(g, t, 3)));
  const Rule direct{"direct", Op(kScale, {Any("t")}, ScaleAttrs{2}),
                    [](Graph&, const Match& m) { return m["t"]; }};
  const Rule inner{"inner", Op(kScale, {Op(kTanh, {Any("a")})}, ScaleAttrs{3}),
                   [](Graph& graph, const Match& m) { return graph.Add1(kRelu, {m["a"]}); }};
  EXPECT_EQ(ApplyToFixpoint({direct}).rewrites, 1);
  EXPECT_EQ(ApplyToFixpoint({inner}).rewrites, 0);  // the sum still reads tanh(x)
  EXPECT_EQ(CountOps(g, kTanh), 1);
}

TEST_F(RewriteTest, ReportsCount) {
  g.SetOutput("z", Tanh(Relu(x)));
  const PassReport report =
      Apply({{"drop", Op(kRelu, {Any("a")}), [](Graph&, const Match& m) { return m["a"]; }}});
  EXPECT_EQ(report.name, "test");
  EXPECT_EQ(report.rewrites, 1);
  EXPECT_EQ(report.nodes_before, 2u);
  EXPECT_EQ(report.nodes_after, 1u);
}

}  // namespace
}  // namespace graft::testing::rewrite_test
