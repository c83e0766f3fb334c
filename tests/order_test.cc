// The order of nodes, and when the memory of values ends.
#include <gtest/gtest.h>

#include "runtime/lifetimes.h"
#include "tests/graph_testing.h"

namespace graft::testing {
namespace {

// h_i = 2^i w: of these runs read one, an update another one, and the rest goes when the next one
// is made.
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

}  // namespace
}  // namespace graft::testing
