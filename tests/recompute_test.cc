// Recomputation: whatever it chooses, bits stay, and its plans are what sessions allocate.
#include "autograd/recompute.h"

#include <gtest/gtest.h>

#include <cstring>

#include "autograd/gradient.h"
#include "runtime/lifetimes.h"
#include "runtime/text.h"
#include "runtime/verify.h"
#include "tests/graph_testing.h"
#include "train/evaluator.h"

namespace graft::testing::recompute_test {
namespace {

const ModelConfig kVit = VitConfig{.image_size = 32,
                                   .patch_size = 4,
                                   .width = 32,
                                   .depth = 4,
                                   .heads = 2,
                                   .mlp_width = 128,
                                   .classes = 5};
const ModelConfig kBert = BertConfig{.vocab = 99,
                                     .positions = 32,
                                     .width = 32,
                                     .depth = 4,
                                     .heads = 2,
                                     .mlp_width = 128,
                                     .classes = 5};
constexpr size_t kBatch = 5;

struct Case {
  const ModelConfig& model;
  const char* method;
  Counts capacity;
};

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Has a task of its own parameters, which is trained for some steps with the given passes.
struct Trained {
  std::vector<float> losses, weights;
  size_t arena_bytes = 0;
};

class RecomputeTest : public ::testing::TestWithParam<Case> {
 protected:
  RecomputeTest() {
    model_.config = GetParam().model;
    InitModel(model_.config, model_.params, 1);
    const ModelBuild build{
        .loss = true, .label_smoothing = 0.1, .drop_path = model_.is_bert() ? 0 : 0.2, .seed = 9};
    graph_ = MethodGraph(model_.config, build, ParseMethod(GetParam().method), model_.params, 9);
  }

  TrainStep Compile(ParamStore& params, const TrainStep::Passes& passes) const {
    return TrainStep(graph_, params, {.weight_decay = 0.05, .clip = 1}, GetParam().capacity,
                     passes);
  }

  Trained Train(const TrainStep::Passes& passes) const {
    ParamStore params = model_.params;
    TrainStep step = Compile(params, passes);
    const std::unique_ptr<BatchSource> data = MakeRandomData(kBatch, model_, 2);
    Trained result;
    for (int i = 0; i < 4; ++i) {
      data->Start(InOrder(*data));
      data->Take(kBatch);
      const std::vector<Counts> parts = data->Parts(GetParam().capacity);
      const StepResult r = step.Run(parts, i, 1e-3, [&](int64_t first, int64_t count, int worker) {
        data->Fill(step.session(), first, count, worker);
        int32_t* labels = step.session().Input("labels", worker).i32();
        for (int64_t k = 0; k < count; ++k) labels[k] = static_cast<int32_t>(first + k);
      });
      result.losses.push_back(static_cast<float>(r.loss));
      result.losses.push_back(static_cast<float>(r.gradient_norm));
    }
    for (const std::string& name : step.trainable_names()) {
      const auto values = params.values(name);
      result.weights.insert(result.weights.end(), values.begin(), values.end());
    }
    result.arena_bytes = step.session().memory().bytes;
    return result;
  }

  // The limit at which the search begins, where nothing is recomputed.
  RecomputeLimit Plain(TrainStep& step) const {
    return {GetParam().capacity, step.session().memory().bytes, step.session().steps()};
  }

  LoadedModel model_;
  Graph graph_;
};

TEST_P(RecomputeTest, BitsStayAndSmallerLimitsGiveSmallerPlans) {
  const Trained plain = Train(TrainingPasses({}));
  ParamStore params = model_.params;
  TrainStep step = Compile(params, TrainingPasses({}));
  RecomputeLimit limit = Plain(step);
  limit.arena_bytes = 0;
  Graph untouched = step.graph();
  const size_t smallest = Recompute(untouched, limit).arena_bytes, most = plain.arena_bytes;
  EXPECT_EQ(ToText(untouched), ToText(step.graph()));
  EXPECT_LT(smallest, most);

  RecomputeResult before{0, most, 0};
  for (const size_t quarter : {3, 2, 1, 0}) {
    limit.arena_bytes = smallest + (most - smallest) / 4 * quarter;
    Graph g = step.graph();
    const RecomputeResult result = Recompute(g, limit);
    EXPECT_LE(result.arena_bytes, limit.arena_bytes);
    EXPECT_LE(result.arena_bytes, before.arena_bytes);
    EXPECT_GE(result.nodes, before.nodes);
    EXPECT_GE(result.seconds, before.seconds);
    EXPECT_GT(result.nodes, 0);
    EXPECT_EQ(g.live_nodes(), step.graph().live_nodes() + static_cast<size_t>(result.nodes));
    before = result;

    const Trained trained = Train(TrainingPasses({}, limit));
    EXPECT_EQ(trained.arena_bytes, result.arena_bytes);  // the plan is what a session allocates
    EXPECT_TRUE(SameBits(trained.losses, plain.losses));
    EXPECT_TRUE(SameBits(trained.weights, plain.weights));
  }
}

TEST_P(RecomputeTest, CanBeDisabled) {
  ParamStore params = model_.params;
  TrainStep step = Compile(params, TrainingPasses({}));
  RecomputeLimit limit = Plain(step);
  limit.arena_bytes -= limit.arena_bytes / 50;
  const Trained trained = Train(TrainingPasses({"recompute"}, limit));
  EXPECT_EQ(trained.arena_bytes, step.session().memory().bytes);
}

INSTANTIATE_TEST_SUITE_P(Methods, RecomputeTest,
                         ::testing::Values(Case{kVit, "full", {3, 0}},
                                           Case{kVit, "lora(r=4,dropout=0.2)", {3, 0}},
                                           Case{kVit, "lora(r=4,targets=attn.*|mlp.*)+ln", {3, 0}},
                                           Case{kVit, "bitfit", {3, 0}},
                                           Case{kBert, "full", {3, 40}},
                                           Case{kBert, "lora(r=4,dropout=0.2)", {3, 40}}),
                         [](const auto& info) { return fmt::format("{}", info.index); });

// --- any graph -------------------------------------------------------------------------------

// Makes a random graph and the gradients of its parameters, all of which are outputs.
Graph RandomTraining(uint32_t seed) {
  Graph g = RandomGraph(seed, 30, false);
  const std::vector<ValueId> params = g.Trainable();
  const std::vector<ValueId> gradients = AddGradients(g, SumAll(g, g.output("first")), params);
  for (size_t i = 0; i < params.size(); ++i)
    if (gradients[i].valid()) g.SetOutput(fmt::format("gradient{}", i), gradients[i]);
  g.EraseDead();
  return g;
}

std::vector<float> Results(const Graph& g) {
  ParamStore params = RandomParams(g, 1);
  Session session(g, params, {.capacity = {2, 0}, .poison = true});
  SetInputs(session, RandomInputs(g, {2, 0}, 2));
  session.Run({2, 0});
  std::vector<float> all;
  for (const GraphOutput& o : g.outputs)
    for (float x : OutputValues(session, o.name)) all.push_back(x);
  return all;
}

TEST(Renumber, FollowsTheOrderAndIsTheSameGraph) {
  for (uint32_t seed = 0; seed < 30; ++seed) {
    const Graph g = RandomGraph(seed, 25);
    Graph same = g;
    same.Renumber(OrderNodes(g).nodes);
    Verify(same);
    EXPECT_EQ(ToText(same), ToText(g));
    const std::vector<NodeId> order = same.TopoOrder();
    ASSERT_EQ(order.size(), g.live_nodes());
    for (uint32_t i = 0; i < order.size(); ++i) EXPECT_EQ(order[i].i, i);
  }
}

TEST(Recompute, AnyGraphKeepsItsBits) {
  int changed = 0;
  for (uint32_t seed = 0; seed < 60; ++seed) {
    const Graph g = RandomTraining(seed);
    ParamStore params = RandomParams(g, 1);
    const Session session(g, params, {.capacity = {2, 0}});
    RecomputeLimit limit{{2, 0}, 0, session.steps()};
    Graph smaller = g;
    const RecomputeResult smallest = Recompute(smaller, limit);
    limit.arena_bytes = smallest.arena_bytes;
    const RecomputeResult result = Recompute(smaller, limit);
    Verify(smaller);
    changed += result.nodes > 0;
    EXPECT_EQ(result.arena_bytes, limit.arena_bytes);
    EXPECT_EQ(result.nodes, smallest.nodes);  // the first plan that is so small
    EXPECT_LE(result.arena_bytes, session.memory().bytes);
    EXPECT_EQ(Session(smaller, params, {.capacity = {2, 0}}).memory().bytes, result.arena_bytes);
    EXPECT_TRUE(SameBits(Results(smaller), Results(g))) << seed;
  }
  EXPECT_GT(changed, 10);
}

// Two values of one size lie idle across a wide one, and the one that reads less is computed again.
TEST(Recompute, TakesTheLeastCostPerByte) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({64, 256})), z = g.AddInput("z", F32({64, 256}));
  const ValueId product = Mul(g, x, z), gelu = Gelu(g, x);
  g.SetOutput("early", Add(g, SumRows(g, product), SumRows(g, gelu)));
  const ValueId wide = g.Add1(kTanh, {ConcatCols(g, x, x)});
  const ValueId squares = SumCols(g, Mul(g, wide, wide));
  g.SetOutput("y", Add(g, Mul(g, product, gelu), squares));
  ParamStore params;
  const Session session(g, params, {.capacity = {1, 0}});
  RecomputeLimit limit{{1, 0}, session.memory().bytes - 1, session.steps()};
  ASSERT_EQ(Recompute(g, limit).nodes, 1);
  EXPECT_EQ(CountOps(g, kGelu), 2);
}

// h = tanh(x + acc) is idle while the wide values live, but acc is another one when h is read
// again.
class StateTest : public ::testing::Test {
 protected:
  int Recomputed(bool from_state) {
    Graph g;
    const ValueId x = g.AddInput("x", F32({64, 8})), acc = g.AddState("acc", {64, 8});
    const ValueId h = g.Add1(kTanh, {Add(g, x, from_state ? acc : x)});
    g.AddUpdate(acc, Add(g, acc, h));
    const ValueId wide = g.Add1(kTanh, {ConcatCols(g, x, x)});
    const ValueId sums = SumRows(g, SliceCols(g, Mul(g, wide, wide), 0, 8));
    g.SetOutput("y", Add(g, sums, SumRows(g, h)));
    ParamStore params;
    const Session session(g, params, {.capacity = {1, 0}});
    RecomputeLimit limit{{1, 0}, 0, session.steps()};
    Graph smaller = g;
    return Recompute(smaller, limit).nodes;
  }
};

TEST_F(StateTest, WhatAnAccumulatorFeedsIsKept) {
  EXPECT_GT(Recomputed(false), 0);
  EXPECT_EQ(Recomputed(true), 0);
}

}  // namespace
}  // namespace graft::testing::recompute_test
