// Has one broken graph for each invariant of Verify, and the message that names it.
#include "runtime/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/graph_testing.h"

namespace graft {

// Breaks what the methods of Graph keep whole.
class GraphSurgery {
 public:
  explicit GraphSurgery(Graph& g) : g_(g) {}
  Value& value(ValueId v) { return g_.values_[v.i]; }
  Node& node(NodeId n) { return g_.nodes_[n.i]; }
  UserList& users(ValueId v) { return g_.users_[v.i]; }
  std::vector<GraphOutput>& outputs() { return g_.outputs.items_; }
  std::vector<Update>& updates() { return g_.updates.items_; }
  void KillLeaf(ValueId v) { g_.dead_leaf_[v.i] = true; }

 private:
  Graph& g_;
};

}  // namespace graft

namespace graft::verify_test {
namespace {

using namespace graft::testing;
using ::testing::HasSubstr;

// y = layer_norm(x; gain, bias) + w, and acc += sum over rows of y.
class VerifyTest : public ::testing::Test {
 protected:
  VerifyTest() {
    g.scope = "block";
    normed = g.Add(kLayerNorm, {x, gain, bias}, NormAttrs{1e-6});
    y = Add(g, normed[0], w);
    sum = SumRows(g, y);
    total = Add(g, acc, sum);
    g.SetOutput("y", y);
    g.AddUpdate(acc, total);
    Verify(g);
  }
  void ExpectBroken(const std::string& message) {
    EXPECT_THAT(MessageOf([&] { Verify(g); }), HasSubstr(message));
  }
  static std::string Id(ValueId v) { return fmt::format("%{}", v.i); }

  Graph g;
  ValueId x = g.AddInput("x", F32({Dim::Sequences(), 4}));
  ValueId gain = g.AddParam("gain", {4}), bias = g.AddParam("bias", {4});
  ValueId w = g.AddParam("w", {4}, true);
  ValueId acc = g.AddState("acc", {4});
  ValueList normed;
  ValueId y, sum, total;
  GraphSurgery cut{g};
};

TEST_F(VerifyTest, LeafWithProducer) {
  cut.value(w).producer = Producer(g, y);
  ExpectBroken("leaf 'w' has a producer");
}

TEST_F(VerifyTest, TrainableButNoParameter) {
  cut.value(y).trainable = true;
  ExpectBroken(Id(y) + " is trainable but no parameter");
}

TEST_F(VerifyTest, TrainableBytes) {
  cut.value(w).type.dtype = DType::kU8;
  ExpectBroken("parameter 'w' is trainable but u8");
}

TEST_F(VerifyTest, UsedByAnErasedNode) {
  const ValueId extra = g.Add1(kTanh, {y});
  const NodeId gone = Producer(g, extra);
  g.EraseNode(gone);
  cut.users(y).push_back(gone);
  ExpectBroken(Id(y) + " is listed as used by an erased node");
}

TEST_F(VerifyTest, UsedByANodeThatDoesNotReadIt) {
  cut.users(x).push_back(Producer(g, sum));
  ExpectBroken(Id(x) + " is listed as used by node " + std::to_string(Producer(g, sum).i));
}

TEST_F(VerifyTest, TwoLeavesOfOneName) {
  cut.value(w).name = "gain";
  ExpectBroken("two leaves are named 'gain'");
}

TEST_F(VerifyTest, InputThatDoesNotExist) {
  cut.node(Producer(g, y)).in[1] = {9999};
  ExpectBroken("(add) in 'block': input 9999 does not exist");
}

TEST_F(VerifyTest, InputThatWasErased) {
  cut.KillLeaf(w);
  ExpectBroken("(add) in 'block': input " + Id(w) + " was erased");
}

TEST_F(VerifyTest, UseListThatMissesAUse) {
  cut.users(w).clear();
  ExpectBroken("reads " + Id(w) + " 1 times, the use list says 0");
}

TEST_F(VerifyTest, UseListWithOneUseTooMany) {
  cut.users(w).push_back(Producer(g, y));
  ExpectBroken("reads " + Id(w) + " 1 times, the use list says 2");
}

TEST_F(VerifyTest, MainNodeReadsTheUpdatePhase) {
  cut.node(Producer(g, y)).phase = Phase::kUpdate;
  ExpectBroken("a main-phase node reads " + Id(y) + " of the update phase");
}

TEST_F(VerifyTest, ResultThatNamesAnotherProducer) {
  cut.value(total).producer = Producer(g, y);
  ExpectBroken("result " + Id(total) + " names another producer");
}

TEST_F(VerifyTest, InputsThatNoLongerFit) {
  cut.value(w).type.shape = {5};
  ExpectBroken("(add) in 'block': its inputs no longer fit: ");
}

TEST_F(VerifyTest, WrongNumberOfResults) {
  cut.node(Producer(g, y)).out.push_back(y);
  ExpectBroken("expected 1 results, found 2");
}

TEST_F(VerifyTest, ValueThatNoNodeMakes) {
  const ValueId extra = g.Add1(kTanh, {y});
  g.EraseNode(Producer(g, extra));
  cut.value(extra).producer = Producer(g, y);
  ExpectBroken(Id(extra) + " names node");
}

TEST_F(VerifyTest, ResultOfAnotherType) {
  cut.value(total).type.shape = {5};
  ExpectBroken("result " + Id(total) + " should be f32[4] but is f32[5]");
}

TEST_F(VerifyTest, OutputThatWasErased) {
  g.AddOutput("z", {});
  ExpectBroken("output 'z' was erased");
  cut.outputs().back().value = {12345};
  ExpectBroken("output 'z' was erased");
  const ValueId extra = g.Add1(kTanh, {y});
  g.EraseNode(Producer(g, extra));
  cut.outputs().back().value = extra;
  ExpectBroken("output 'z' was erased");
}

TEST_F(VerifyTest, TwoOutputsOfOneName) {
  g.AddOutput("y", sum);
  ExpectBroken("two outputs are named 'y'");
}

TEST_F(VerifyTest, UpdateOfAnErasedValue) {
  const ValueId spare = g.AddState("spare", {4});
  cut.KillLeaf(spare);
  g.AddUpdate(spare, sum);
  ExpectBroken("an update refers to an erased value");
  cut.updates().back() = {acc, {}};
  ExpectBroken("an update refers to an erased value");
}

TEST_F(VerifyTest, UpdateOfAnInput) {
  const ValueId input = g.AddInput("input", F32({4}));
  g.AddUpdate(input, sum);
  ExpectBroken("update of " + Id(input) + ": only parameters and states can be updated");
}

TEST_F(VerifyTest, UpdateOfAnotherType) {
  cut.updates()[0].value = normed[1];
  ExpectBroken("update of 'acc': f32[s,1] given for f32[4]");
}

TEST_F(VerifyTest, TwoUpdatesOfOneTarget) {
  g.AddUpdate(acc, sum);
  ExpectBroken("'acc' is updated twice");
}

TEST_F(VerifyTest, ResultsThatTheGraphDoesNotKnow) {
  cut.outputs()[0].value = sum;
  ExpectBroken("output 'y': " + Id(sum) + " is not known as one");
  cut.outputs()[0].value = y;
  cut.updates()[0].value = g.Add1(kScale, {total}, ScaleAttrs{2});
  ExpectBroken("update of 'acc': " + Id(cut.updates()[0].value) + " is not known");
  cut.updates().clear();
  ExpectBroken("2 results are known, there are 1");
}

TEST_F(VerifyTest, NodesThatAreNotCounted) {
  const ValueId extra = g.Add1(kTanh, {y});
  cut.node(Producer(g, extra)) = Node{};
  cut.value(extra).producer = {};
  cut.users(y).pop_back();
  ExpectBroken("nodes are counted");
}

TEST_F(VerifyTest, LeafThatIsNotFoundByItsName) {
  cut.value(w).name = "renamed";
  ExpectBroken("leaf 'renamed' is not found by its name");
}

TEST_F(VerifyTest, Cycle) {
  const ValueId a = g.Add1(kTanh, {y}), b = g.Add1(kRelu, {a});
  g.SetInput(Producer(g, a), 0, b);
  ExpectBroken("the graph has a cycle");
}

TEST_F(VerifyTest, TrainableThatReachesNothing) {
  VerifyTrainableReachOutput(g);
  g.AddParam("lost", {4}, true);
  EXPECT_EQ(MessageOf([&] { VerifyTrainableReachOutput(g); }),
            "trainable parameter 'lost' reaches no output: training would leave it as it is");
}

}  // namespace
}  // namespace graft::verify_test
