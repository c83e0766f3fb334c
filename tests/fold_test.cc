// Constant folding: what depends on parameters only becomes a parameter, and nothing else does.
#include "runtime/fold.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/verify.h"
#include "tests/graph_testing.h"

namespace graft::testing::fold_test {
namespace {

using ::testing::ElementsAre;

class FoldTest : public ::testing::Test {
 protected:
  // Folds, and checks that the output "y" stays what it was.
  PassReport Fold() {
    params = RandomParams(g, 1);
    const Graph before = g;
    const ParamStore original = params;
    const Leaves inputs = RandomInputs(g, {2, 0}, 2);
    const PassReport report = FoldConstants(g, params);
    EXPECT_LE(RelativeError(Interpret(g, {{2, 0}, inputs, &params})[g.output("y").i],
                            Interpret(before, {{2, 0}, inputs, &original})[before.output("y").i]),
              1e-6);
    Verify(g);
    return report;
  }
  Graph g;
  ParamStore params;
  ValueId x = g.AddInput("x", F32({Dim::Sequences(), 4}));
  ValueId a = g.AddParam("a", {4, 4}), b = g.AddParam("b", {4, 4});
};

TEST_F(FoldTest, ASubgraphOfParametersBecomesOne) {
  const ValueId product = Scale(g, Add(g, Matmul(g, a, b), a), 0.5);
  g.SetName(product, "weight");
  g.SetOutput("y", Matmul(g, x, product));
  const PassReport report = Fold();
  EXPECT_EQ(report.rewrites, 1);
  EXPECT_EQ(report.nodes_before, 4u);
  EXPECT_EQ(report.nodes_after, 1u);
  EXPECT_THAT(g.ParamNames(), ElementsAre("weight"));
  EXPECT_TRUE(params.Has("weight"));
}

TEST_F(FoldTest, AValueMayTakeTheNameOfAParameterThatItReplaces) {
  const ValueId sum = Add(g, a, b);
  g.SetName(sum, "a");
  g.SetOutput("y", Matmul(g, x, sum));
  const ParamStore untouched = RandomParams(g, 1);
  Fold();
  EXPECT_THAT(g.ParamNames(), ElementsAre("a"));
  EXPECT_EQ(params.data("a")[5], untouched.data("a")[5] + untouched.data("b")[5]);
}

TEST_F(FoldTest, SharedAndNestedRoots) {
  const ValueId sum = Add(g, a, b), twice = Scale(g, sum, 2);  // both are read by others
  g.SetOutput("y", Add(g, Matmul(g, x, sum), Matmul(g, x, twice)));
  EXPECT_EQ(Fold().rewrites, 2);
  EXPECT_EQ(g.live_nodes(), 3u);
  EXPECT_EQ(g.ParamNames().size(), 2u);
  for (const std::string& name : g.ParamNames()) EXPECT_TRUE(name.starts_with("folded.")) << name;
}

TEST_F(FoldTest, AnOutputOfParametersFolds) {
  g.SetOutput("y", Matmul(g, x, a));
  g.SetOutput("norm", SumSquares(g, b));
  EXPECT_EQ(Fold().rewrites, 1);
  EXPECT_EQ(g.value(g.output("norm")).role, Role::kParam);
}

TEST_F(FoldTest, NothingToFold) {
  g.SetOutput("y", Matmul(g, x, a));
  const PassReport report = Fold();
  EXPECT_EQ(report.rewrites, 0);
  EXPECT_EQ(report.nodes_after, 1u);
}

TEST_F(FoldTest, InputsNodesWithoutInputsAndRandomNodesStay) {
  const ValueId rng = g.AddInput("rng", I32({2})), offsets = Offsets(g, 1);
  const ValueId dropped = Dropout(g, x, offsets, rng, {.p = 0.5, .stream = "s"});
  g.SetOutput("y", Matmul(g, dropped, a));
  EXPECT_EQ(Fold().rewrites, 0);
}

TEST_F(FoldTest, IsIdempotent) {
  g.SetOutput("y", Matmul(g, x, Add(g, a, b)));
  Fold();
  EXPECT_EQ(FoldConstants(g, params).rewrites, 0);
}

TEST_F(FoldTest, ANodeWithSeveralResultsFolds) {
  const ValueId gain = g.AddParam("gain", {4}), bias = g.AddParam("bias", {4});
  const ValueId normed = LayerNorm(g, a, gain, bias, 1e-5);
  g.SetOutput("y", Matmul(g, x, normed));
  EXPECT_EQ(Fold().rewrites, 1);
  EXPECT_EQ(g.live_nodes(), 1u);
}

TEST_F(FoldTest, SeveralResultsOfOneNodeFold) {
  const ValueId gain = g.AddParam("gain", {4}), bias = g.AddParam("bias", {4});
  const auto normed = g.Add(kLayerNorm, {a, gain, bias}, NormAttrs{1e-5});
  g.SetOutput("y", Matmul(g, x, normed[0]));
  g.SetOutput("mean", normed[1]);
  EXPECT_EQ(Fold().rewrites, 2);
  EXPECT_EQ(g.live_nodes(), 1u);
}

}  // namespace
}  // namespace graft::testing::fold_test
