// Graphs over one base, joined: what each computes, what they share.
#include "runtime/join.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "runtime/passes.h"
#include "tests/graph_testing.h"

namespace graft::testing::join_test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Graph Frozen(Graph g) {
  for (ValueId v : g.Trainable()) g.SetTrainable(v, false);
  return g;
}

// x -> tanh(x a) b
Graph TwoLayers() {
  Graph g;
  const ValueId x = g.AddInput("x", F32({Dim::Sequences(1), 4}));
  const ValueId h = g.Add1(kTanh, {Matmul(g, x, g.AddParam("a", {4, 4}), false, true)});
  g.SetOutput("y", Matmul(g, h, g.AddParam("b", {3, 4}), false, true));
  return g;
}

TEST(JoinGraphs, NamesWhatIsSharedAndWhatIsNot) {
  const Graph g = TwoLayers();
  const ParamStore base = [&] {
    ParamStore store = RandomParams(g, 1);
    store.Freeze();
    return store;
  }();
  ParamStore cats = base, dogs = base;
  cats.Mutable("b")[0] = 5;
  dogs.Mutable("b")[0] = 6;
  cats.Freeze(), dogs.Freeze();
  const JoinMember members[] = {{"cats", &g, &cats}, {"dogs", &g, &dogs}, {"plain", &g, &base}};
  const Joined joined = JoinGraphs(base, members);
  EXPECT_THAT(joined.params.names(), ElementsAre("a", "b", "cats/b", "dogs/b"));
  EXPECT_EQ(joined.params.data("a"), base.data("a"));  // not a copy
  EXPECT_EQ(joined.params.data("cats/b"), cats.data("b"));
  EXPECT_EQ(joined.graph.live_nodes(), 5u);  // x a, tanh, and a product for each
  EXPECT_EQ(joined.shared_nodes, 2u);
  for (const Joined::Own& own : joined.own) EXPECT_EQ(own.nodes, 1u);
  EXPECT_EQ(joined.own[0].values, 12);
  EXPECT_EQ(joined.own[2].values, 0);
  std::vector<std::string> outputs;
  for (const GraphOutput& o : joined.graph.outputs) outputs.push_back(o.name);
  EXPECT_THAT(outputs, ElementsAre("y/cats", "y/dogs", "y/plain"));
}

// Members with the same base share its quantised weights: the same bytes are one parameter.
TEST(JoinGraphs, SharesBytes) {
  Graph g;
  const ValueId codes = g.AddParam("w.nf4", {6}, false, DType::kU8),
                absmax = g.AddParam("w.nf4.absmax", {1});
  const ValueId w = g.Add1(kNf4Dequantize, {codes, absmax}, Nf4Attrs{3, 4, 64, false});
  g.SetOutput("y", Matmul(g, g.AddInput("x", F32({Dim::Sequences(1), 4})), w, false, true));
  std::vector<uint8_t> bytes(6, 0x21);
  ParamStore base, cats, dogs;
  for (ParamStore* params : {&base, &cats, &dogs}) {
    if (params == &dogs) bytes[5] = 0x20;
    params->SetU8("w.nf4", {6}, bytes);
    params->Set("w.nf4.absmax", {1}, std::vector<float>{2});
  }
  const JoinMember members[] = {{"cats", &g, &cats}, {"dogs", &g, &dogs}};
  const Joined joined = JoinGraphs(base, members);
  EXPECT_THAT(joined.params.names(), ElementsAre("dogs/w.nf4", "w.nf4", "w.nf4.absmax"));
  EXPECT_EQ(joined.params.Get("w.nf4").u8().data(), base.Get("w.nf4").u8().data());
  EXPECT_EQ(ToString(joined.graph.type(joined.graph.FindLeaf("dogs/w.nf4"))), "u8[6]");
}

// A file may repeat the base's weights, or those of a member before.
TEST(JoinGraphs, EqualBytesAreEqualParameters) {
  const Graph g = TwoLayers();
  const ParamStore base = RandomParams(g, 1), copy = base;
  ParamStore changed = base;
  changed.Mutable("a")[3] = 2;
  ASSERT_NE(base.data("a"), copy.data("a"));
  const ParamStore again = changed;
  const JoinMember members[] = {{"0", &g, &copy}, {"1", &g, &changed}, {"2", &g, &again}};
  const Joined joined = JoinGraphs(base, members);
  EXPECT_THAT(joined.params.names(), ElementsAre("1/a", "a", "b"));
  EXPECT_EQ(joined.graph.live_nodes(), 6u);
  EXPECT_EQ(joined.graph.output("y/1"), joined.graph.output("y/2"));
}

TEST(JoinGraphs, InputsMustAgree) {
  const Graph g = TwoLayers();
  Graph wide;
  wide.SetOutput("y", Scale(wide, wide.AddInput("x", F32({Dim::Sequences(1), 5})), 2));
  const ParamStore params = RandomParams(g, 1);
  const JoinMember members[] = {{"cats", &g, &params}, {"dogs", &wide, &params}};
  EXPECT_THAT(MessageOf([&] { JoinGraphs(params, members); }),
              HasSubstr("input 'x': 'dogs' wants f32[s,5], those before it f32[s,4]"));
}

// Whether a leaf that is not the base's reaches the node's result.
bool ReadsChanged(const Graph& g, NodeId n, const std::set<std::string>& changed) {
  for (ValueId p : g.Leaves(Role::kParam))
    if (changed.contains(g.value(p).name) && g.HasAncestor(g.node(n).out[0], p)) return true;
  return false;
}

TEST(JoinGraphs, RandomGraphsComputeWhatTheyComputeAlone) {
  size_t shared = 0, own = 0;
  for (uint32_t seed = 0; seed < 40; ++seed) {
    Graph g = Frozen(RandomGraph(seed, 25, false));
    ShareEqualNodes(g);
    const ParamStore base = RandomParams(g, seed);
    const std::vector<std::string> names = base.names();
    std::vector<ParamStore> stores(3, base);
    std::vector<std::set<std::string>> changed(stores.size());
    std::mt19937 random(seed);
    for (size_t i = 0; i < stores.size(); ++i)
      for (const std::string& name : names)
        if (random() % 4 == 0) {
          stores[i].Mutable(name)[0] += static_cast<float>(i + 1);
          changed[i].insert(name);
        }
    std::vector<JoinMember> members;
    for (size_t i = 0; i < stores.size(); ++i)
      members.push_back({fmt::format("m{}", i), &g, &stores[i]});
    const Joined joined = JoinGraphs(base, members);
    const Leaves inputs = RandomInputs(g, {2, 0}, 2);
    const Values64 all = Interpret(joined.graph, {{2, 0}, inputs, &joined.params});
    for (size_t i = 0; i < stores.size(); ++i) {
      const Values64 alone = Interpret(g, {{2, 0}, inputs, &stores[i]});
      for (const char* output : {"first", "second"})
        EXPECT_EQ(all[joined.graph.output(fmt::format("{}/m{}", output, i)).i],
                  alone[g.output(output).i]);
      // No two members change a parameter by the same number, so a node is shared with those others
      // that, like this member, read nothing changed.
      size_t wanted = 0;
      for (NodeId n : g.TopoOrder()) {
        bool alone_has_it = true;
        for (size_t k = 0; k < stores.size(); ++k)
          alone_has_it &=
              k == i || ReadsChanged(g, n, changed[i]) || ReadsChanged(g, n, changed[k]);
        wanted += alone_has_it;
      }
      EXPECT_EQ(joined.own[i].nodes, wanted) << seed;
      own += wanted;
    }
    shared += joined.shared_nodes;
  }
  EXPECT_GT(shared, 100u);
  EXPECT_GT(own, 100u);
}

}  // namespace
}  // namespace graft::testing::join_test
