// Tests the interpreter: plain double arithmetic over the graph, and errors for missing leaves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/graph_testing.h"

namespace graft::testing::interpret_test {
namespace {

TEST(Interpret, ComputesInDoubles) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({Dim::Sequences(), 2}));
  const ValueId w = g.AddParam("w", {2});
  const ValueId y = Mul(g, Add(g, x, w), x);
  g.SetOutput("y", y);
  const double tiny = 1 + 1e-12;  // lost in single precision
  const Values64 values =
      Interpret(g, {{2, 0}, {{"x", {tiny, 2, 3, 4}}, {"w", {10, 20}}}, nullptr});
  EXPECT_EQ(values[y.i], (std::vector<double>{(tiny + 10) * tiny, 44, 39, 96}));
  EXPECT_EQ(values[x.i][0], tiny);
}

TEST(Interpret, TakesParametersFromTheStore) {
  Graph g;
  const ValueId w = g.AddParam("w", {2}), v = g.AddParam("v", {2});
  g.SetOutput("y", Sub(g, w, v));
  ParamStore params;
  params.Set("w", {2}, std::vector<float>{1, 2});
  params.Set("v", {2}, std::vector<float>{5, 5});
  // Leaves that are given come before the store; unknown names are nobody's business.
  const Values64 values = Interpret(g, {{}, {{"v", {0.25, 0.5}}, {"other", {1}}}, &params});
  EXPECT_EQ(values[g.output("y").i], (std::vector<double>{0.75, 1.5}));
}

TEST(Interpret, StatesStartAtZeroAndUpdatesAreValues) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({2})), acc = g.AddState("acc", {2});
  const ValueId sum = Add(g, acc, x);
  g.AddUpdate(acc, sum);
  EXPECT_EQ(Interpret(g, {{}, {{"x", {1, 2}}}, nullptr})[sum.i], (std::vector<double>{1, 2}));
  const Values64 values = Interpret(g, {{}, {{"x", {1, 2}}, {"acc", {10, 20}}}, nullptr});
  EXPECT_EQ(values[sum.i], (std::vector<double>{11, 22}));
  EXPECT_EQ(values[acc.i], (std::vector<double>{10, 20}));
}

TEST(Interpret, MissingLeavesAndWrongSizesAreErrors) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({Dim::Sequences(), 2})), w = g.AddParam("w", {2});
  g.SetOutput("y", Add(g, x, w));
  EXPECT_EQ(MessageOf([&] {
              Interpret(g, {{1, 0}, {{"w", {1, 2}}}, nullptr});
            }),
            "interpreter: no value for 'x'");
  EXPECT_EQ(MessageOf([&] {
              Interpret(g, {{1, 0}, {{"x", {1, 2}}}, nullptr});
            }),
            "interpreter: no value for 'w'");
  EXPECT_EQ(MessageOf([&] {
              Interpret(g, {{2, 0}, {{"x", {1, 2}}, {"w", {1, 2}}}, nullptr});
            }),
            "interpreter: 'x' has 2 elements, expected 4");
}

TEST(Interpret, ANodeWithSeveralResults) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({1, 2}));
  const ValueId gain = g.AddParam("gain", {2}), bias = g.AddParam("bias", {2});
  const auto out = g.Add(kLayerNorm, {x, gain, bias}, NormAttrs{0});
  g.SetOutput("y", out[0]);
  const Values64 values =
      Interpret(g, {{}, {{"x", {1, 5}}, {"gain", {1, 2}}, {"bias", {0, 1}}}, nullptr});
  EXPECT_EQ(values[out[1].i], (std::vector<double>{3}));    // mean
  EXPECT_EQ(values[out[2].i], (std::vector<double>{0.5}));  // 1 / standard deviation
  EXPECT_EQ(values[out[0].i], (std::vector<double>{-1, 3}));
}

TEST(Interpret, SequencesAreIndependent) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const Graph g = RandomGraph(seed, 15, false);
    const ParamStore params = RandomParams(g, 1);
    const Leaves two = RandomInputs(g, {2, 0}, seed);
    Leaves one = two;  // the second sequence of each input
    for (auto& [name, values] : one)
      values.erase(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2));
    const std::vector<double> both = Interpret(g, {{2, 0}, two, &params})[g.output("first").i];
    const std::vector<double> second = Interpret(g, {{1, 0}, one, &params})[g.output("first").i];
    EXPECT_TRUE(std::equal(second.begin(), second.end(),
                           both.begin() + static_cast<int64_t>(second.size())))
        << "seed " << seed;
  }
}

}  // namespace
}  // namespace graft::testing::interpret_test
