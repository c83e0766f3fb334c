// Tests the order of nodes, and when the memory of values ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/lifetimes.h"
#include "runtime/text.h"
#include "runtime/verify.h"
#include "tests/graph_testing.h"

namespace graft::testing::order_test {
namespace {

using ::testing::HasSubstr;

// With h_i = 2^i w, runs read one of these and an update reads another one; the rest goes when the
// next one is made.
TEST(Lifetimes, ValuesOfParametersAloneDieWithTheirLastReader) {
  constexpr size_t kMatrix = 64 * 64 * sizeof(float);
  Graph g;
  const ValueId x = g.AddInput("x", F32({64})), w = g.AddParam("w", {64, 64}, true);
  std::vector<ValueId> h{w};
  for (int i = 0; i < 12; ++i) h.push_back(Scale(g, h.back(), 2));
  g.SetOutput("y", Add(g, x, SumRows(g, h.back())));
  g.phase = Phase::kUpdate;
  g.AddUpdate(w, Add(g, w, h[5]));
  ParamStore params;
  params.Set("w", {64, 64}, std::vector<float>(64 * 64, 1));
  Session session(g, params, {.capacity = {1, 0}, .poison = true});
  EXPECT_LE(session.shared_bytes(), 4 * kMatrix);
  const Session apart(g, params, {.capacity = {1, 0}, .share_memory = false, .plan_only = true});
  EXPECT_GE(apart.shared_bytes(), 12 * kMatrix);
  float weight = 1;
  for (int step = 0; step < 3; ++step) {
    session.Run({1, 0});
    session.Run({1, 0});
    EXPECT_EQ(OutputValues(session, "y")[63], 64 * 4096 * weight) << step;
    session.RunUpdate();
    weight *= 33;
    EXPECT_EQ(params.data("w")[100], weight) << step;
  }
}

// The update of w has the lower id, but v' = v + w wants the old one.
TEST(Order, AnUpdateWaitsForThoseThatReadWhatItReplaces) {
  Graph g;
  const ValueId w = g.AddParam("w", {2}, true), v = g.AddParam("v", {2}, true);
  const ValueId d = g.AddInput("d", F32({2}));
  g.phase = Phase::kUpdate;
  g.AddUpdate(w, Add(g, w, d));
  g.AddUpdate(v, Add(g, v, g.Add1(kRelu, {w})));
  ParamStore params;
  params.Set("w", {2}, std::vector<float>{1, 2});
  params.Set("v", {2}, std::vector<float>{10, 20});
  for (const bool early : {false, true}) {
    ParamStore mine = params;
    if (early) UpdateEarly(g);
    Session session(g, mine, {.capacity = {1, 0}});
    std::fill_n(session.Input("d").f32(), 2, 5.0f);
    session.RunUpdate();
    EXPECT_EQ(mine.data("w")[1], 7);
    EXPECT_EQ(mine.data("v")[1], 22);
  }
  Graph swap;
  const ValueId a = swap.AddParam("a", {2}, true), b = swap.AddParam("b", {2}, true);
  swap.phase = Phase::kUpdate;
  swap.AddUpdate(a, Add(swap, a, b));
  swap.AddUpdate(b, Add(swap, b, a));
  EXPECT_THAT(MessageOf([&] { OrderNodes(swap); }),
              HasSubstr("0 of 2 nodes ordered: nodes read the values that each other's updates"));
}

// h_i = tanh(1.5 h_{i-1}), acc_i += h_i' h_i; the accumulators have the highest ids.
Graph LateAccumulators(int layers) {
  Graph g;
  std::vector<ValueId> h{g.AddInput("x", F32({1024, 32}))};
  for (int i = 0; i < layers; ++i) h.push_back(g.Add1(kTanh, {Scale(g, h.back(), 1.5)}));
  for (int i = 1; i <= layers; ++i) {
    const ValueId acc = g.AddState(fmt::format("acc.{}", i), {32, 32});
    const ValueId a = h[i];
    g.AddUpdate(acc, g.Add1(kMatmul, {a, a, acc}, MatmulAttrs{.ta = true, .residual = true}));
  }
  g.SetOutput("y", SumRows(g, h.back()));
  return g;
}

TEST(EarlyUpdates, WhatIsAddedUpNeedNotWait) {
  constexpr size_t kMatrix = 1024 * 32 * sizeof(float);
  const Graph plain = LateAccumulators(12);
  Graph early = plain;
  EXPECT_EQ(UpdateEarly(early).rewrites, 11);  // the last one has its place
  Verify(early);
  EXPECT_EQ(ToText(early), ToText(plain));
  EXPECT_EQ(UpdateEarly(early).rewrites, 0) << "it is in order";
  ParamStore params;
  Session a(plain, params, {.capacity = {1, 0}}), b(early, params, {.capacity = {1, 0}});
  EXPECT_GE(a.memory().bytes, 12 * kMatrix);
  EXPECT_LE(b.memory().bytes, 5 * kMatrix);
  const Leaves inputs = RandomInputs(plain, {1, 0}, 3);
  for (Session* session : {&a, &b}) SetInputs(*session, inputs), session->Run({1, 0});
  EXPECT_EQ(OutputValues(a, "y"), OutputValues(b, "y"));
  for (int i = 1; i <= 12; ++i) {
    const Tensor x = a.State(fmt::format("acc.{}", i)), y = b.State(fmt::format("acc.{}", i));
    EXPECT_TRUE(std::equal(x.f32(), x.f32() + 32 * 32, y.f32())) << i;
  }
}

TEST(EarlyUpdates, LeavesGraphsWithoutUpdates) {
  Graph g;
  g.SetOutput("y", g.Add1(kTanh, {g.AddInput("x", F32({2, 4}))}));
  const size_t nodes = g.num_nodes();
  EXPECT_EQ(UpdateEarly(g).rewrites, 0);
  EXPECT_EQ(g.num_nodes(), nodes);
}

}  // namespace
}  // namespace graft::testing::order_test
