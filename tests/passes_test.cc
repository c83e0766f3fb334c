// The pass manager and the passes that need no operator by name.
#include "runtime/passes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/vit.h"
#include "ops/optimise.h"
#include "runtime/verify.h"
#include "tests/graph_testing.h"

namespace graft::testing::passes_test {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Graph TanhOfScale() {
  Graph g;
  const ValueId x = g.AddInput("x", F32({2, 4}));
  g.SetOutput("y", g.Add1(kTanh, {Scale(g, x, 2)}));
  return g;
}

PassReport DropScale(Graph& g) {
  const Rule rules[] = {
      {"drop", Op(kScale, {Any("a")}), [](Graph&, const Match& m) { return m["a"]; }}};
  return Rewrite(g, "inner name", rules);
}
PassReport Nothing(Graph&) { return {}; }

PassManager Manager(PassManager::Options options) {
  PassManager manager(std::move(options));
  manager.Add({"nothing", Nothing});
  manager.Add({"drop_scale", DropScale});
  return manager;
}

TEST(PassManager, RunsInOrderAndReports) {
  Graph g = TanhOfScale();
  const PassManager manager = Manager({});
  EXPECT_THAT(manager.names(), ElementsAre("nothing", "drop_scale"));
  const std::vector<PassReport> reports = manager.Run(g);
  ASSERT_EQ(reports.size(), 2u);
  EXPECT_EQ(reports[0].name, "nothing");
  EXPECT_EQ(reports[1].name, "drop_scale");
  EXPECT_EQ(reports[1].rewrites, 1);
  EXPECT_EQ(reports[1].nodes_before, 2u);
  EXPECT_EQ(reports[1].nodes_after, 1u);
  EXPECT_GT(reports[1].milliseconds, 0);
  EXPECT_EQ(g.live_nodes(), 1u);
}

TEST(PassManager, APassCanBeDisabled) {
  Graph g = TanhOfScale();
  const std::vector<PassReport> reports =
      Manager({.disabled = {"drop_scale"}, .dump = "", .print = {}}).Run(g);
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(g.live_nodes(), 2u);
}

TEST(PassManager, AnUnknownPassIsAUsageError) {
  Graph g = TanhOfScale();
  try {
    Manager({.disabled = {"drop_scales"}, .dump = "", .print = {}}).Run(g);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(std::string(e.what()),
              "--disable-pass: no pass 'drop_scales'; did you mean 'drop_scale'?");
    EXPECT_EQ(e.kind, ErrorKind::kUsage);
  }
  EXPECT_EQ(g.live_nodes(), 2u);  // nothing ran
}

TEST(PassManager, ErrorsNameThePassAndThoseBefore) {
  Graph g = TanhOfScale();
  PassManager manager = Manager({});
  manager.Add(
      {"fails", [](Graph&) -> PassReport { throw Error("no way", ErrorKind::kNotFoldable); }});
  try {
    manager.Run(g);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(std::string(e.what()), "pass 'fails': no way (passes before: nothing, drop_scale)");
    EXPECT_EQ(e.kind, ErrorKind::kNotFoldable);
  }
}

TEST(PassManager, EachPassIsVerified) {
  Graph g = TanhOfScale();
  PassManager manager;
  manager.Add({"breaks", [](Graph& graph) {
                 graph.AddOutput(graph.outputs[0].name, graph.outputs[0].value);
                 return PassReport{};
               }});
  EXPECT_THAT(MessageOf([&] { manager.Run(g); }),
              AllOf(HasSubstr("pass 'breaks': two outputs are named 'y'"),
                    HasSubstr("(passes before: none)")));
}

TEST(PassManager, DumpsBeforeAndAfter) {
  std::string printed;
  const auto print = [&](const std::string& text) { printed += text; };
  Graph g = TanhOfScale();
  Manager({.disabled = {}, .dump = "drop_scale", .print = print}).Run(g);
  EXPECT_THAT(printed, AllOf(HasSubstr("--- pass 'drop_scale'\n"), HasSubstr("- %0 = scale(@x)"),
                             HasSubstr("+ %0 = tanh(@x)")));
  EXPECT_THAT(printed, ::testing::Not(HasSubstr("'nothing'")));
  printed.clear();
  g = TanhOfScale();
  Manager({.disabled = {}, .dump = "*", .print = print}).Run(g);
  EXPECT_THAT(printed, HasSubstr("--- pass 'nothing'\n"));
}

// --- share_equal -----------------------------------------------------------------------------

TEST(ShareEqualNodes, EqualSubgraphsBecomeOne) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({2, 4})), w = g.AddParam("w", {4, 4});
  auto branch = [&] { return g.Add1(kTanh, {Scale(g, Matmul(g, x, w), 0.5)}); };
  g.SetOutput("y", Sub(g, branch(), branch()));
  const PassReport report = ShareEqualNodes(g);
  EXPECT_EQ(report.rewrites, 3);
  EXPECT_EQ(report.nodes_before, 7u);
  EXPECT_EQ(report.nodes_after, 4u);
  const Node& difference = Maker(g, g.output("y"));
  EXPECT_EQ(difference.in[0], difference.in[1]);
  Verify(g);
}

TEST(ShareEqualNodes, AttributesOperandsAndPhaseMustAgree) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({4, 4})), y = g.AddInput("y", F32({4, 4}));
  const ValueId state = g.AddState("s", {4, 4});
  g.SetOutput("a", Scale(g, x, 2));
  g.SetOutput("b", Scale(g, x, 3));
  g.SetOutput("c", Sub(g, x, y));
  g.SetOutput("d", Sub(g, y, x));
  g.SetOutput("e", Matmul(g, x, y));
  g.SetOutput("f", Matmul(g, x, y, true));
  g.phase = Phase::kUpdate;
  g.SetOutput("g", Scale(g, x, 2));
  g.AddUpdate(state, Add(g, state, x));
  EXPECT_EQ(ShareEqualNodes(g).rewrites, 0);
}

TEST(ShareEqualNodes, AllResultsAreRedirected) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({2, 4}));
  const ValueId gain = g.AddParam("gain", {4}), bias = g.AddParam("bias", {4});
  const auto a = g.Add(kLayerNorm, {x, gain, bias}, NormAttrs{1e-6});
  const auto b = g.Add(kLayerNorm, {x, gain, bias}, NormAttrs{1e-6});
  g.SetOutput("y", a[0]);
  g.SetOutput("rstd", b[2]);
  EXPECT_EQ(ShareEqualNodes(g).rewrites, 1);
  EXPECT_EQ(g.output("rstd"), a[2]);
  EXPECT_EQ(CountOps(g, kLayerNorm), 1);
}

TEST(ShareEqualNodes, RandomNodesStay) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({Dim::Sequences(), 4}));
  const ValueId offsets = Offsets(g, 1), rng = g.AddInput("rng", I32({2}));
  const DropoutAttrs attrs{.p = 0.5, .stream = "a"};
  g.SetOutput("y", Add(g, Dropout(g, x, offsets, rng, attrs), Dropout(g, x, offsets, rng, attrs)));
  EXPECT_EQ(ShareEqualNodes(g).rewrites, 0);
}

TEST(ShareEqualNodes, ComputesTheSameAndIsIdempotent) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const Graph g = RandomGraph(seed, 25, false);
    Graph merged = g;
    ShareEqualNodes(merged);
    EXPECT_EQ(ShareEqualNodes(merged).rewrites, 0);
    const ParamStore params = RandomParams(g, 1);
    const InterpretOptions options{{2, 0}, RandomInputs(g, {2, 0}, 2), &params};
    EXPECT_EQ(Interpret(g, options)[g.output("first").i],
              Interpret(merged, options)[merged.output("first").i]);
  }
}

// --- matmul_epilogue -----------------------------------------------------------------------------

// Builds y = x W' + b, h = act(y); with `backward`, also act'(y) dh, as training has it.
struct ActivationGraph {
  Graph g;
  ActivationGraph(const OpDef& act, const OpDef& grad, bool backward) {
    const ValueId x = g.AddInput("x", F32({7, 5}));
    const ValueId y = Linear(g, x, g.AddParam("w", {9, 5}), g.AddParam("b", {9}));
    g.SetOutput("h", g.Add1(act, {y}));
    if (backward) g.SetOutput("dy", g.Add1(grad, {y, g.AddInput("dh", F32({7, 9}))}));
  }
  void Fuse() {
    for (const Pass& pass : StepPasses())
      if (pass.name == "matmul_epilogue") pass.run(g);
    Verify(g);
  }
};

TEST(MatmulEpilogue, TakesTheActivationWhereTheBackwardPassReadsItsOperand) {
  for (const auto& [act, grad] : {std::pair{&kGelu, &kGeluGrad}, {&kGeluTanh, &kGeluTanhGrad}}) {
    const ActivationGraph plain(*act, *grad, true);
    ActivationGraph fused = plain;
    fused.Fuse();
    EXPECT_EQ(CountOps(fused.g, *act), 0);
    EXPECT_EQ(CountOps(fused.g, *grad), 0);
    EXPECT_EQ(CountOps(fused.g, kMatmul), 1);
    EXPECT_EQ(CountOps(fused.g, kMul), 1);
    const ParamStore params = RandomParams(plain.g, 1);
    const InterpretOptions options{{}, RandomInputs(plain.g, {}, 2), &params};
    for (const char* name : {"h", "dy"})
      EXPECT_LE(RelativeError(Interpret(fused.g, options)[fused.g.output(name).i],
                              Interpret(plain.g, options)[plain.g.output(name).i]),
                1e-14);
  }
}

TEST(MatmulEpilogue, LeavesAnActivationThatMayTakeItsOperandsMemory) {
  ActivationGraph inference(kGelu, kGeluGrad, false);
  inference.Fuse();
  EXPECT_EQ(CountOps(inference.g, kGelu), 1);
}

TEST(MatmulEpilogue, LeavesAnActivationWhoseOperandIsReadOtherwise) {
  ActivationGraph both(kGelu, kGeluGrad, true);
  both.g.SetOutput(
      "tanh",
      both.g.Add1(kGeluTanh, {both.g.node(both.g.value(both.g.output("h")).producer).in[0]}));
  both.Fuse();
  EXPECT_EQ(CountOps(both.g, kGelu), 1);
  EXPECT_EQ(CountOps(both.g, kGeluGrad), 1);
}

// --- sink_gather -----------------------------------------------------------------------------

// How many rows the matmuls of the last block and the head compute, by scope.
std::map<std::string, std::string> MatmulRows(const Graph& g, const std::string& block) {
  std::map<std::string, std::string> rows;
  for (NodeId n : g.TopoOrder())
    if (g.node(n).op == &kMatmul && g.node(n).scope.starts_with(block))
      rows[g.node(n).scope] = ToString(g.shape(g.node(n).out[0])[0]);
  return rows;
}

TEST(SinkGather, LastBlockOfAVitComputesClassRowsOnly) {
  const VitConfig config{.image_size = 8,
                         .patch_size = 4,
                         .width = 8,
                         .depth = 3,
                         .heads = 2,
                         .mlp_width = 16,
                         .classes = 5};
  const Graph plain = BuildVit(config);
  const auto before = MatmulRows(plain, "blocks.2");
  for (const auto& [scope, rows] : before) EXPECT_EQ(rows, "5*s") << scope;
  Graph sunk = plain;
  PassManager manager;
  for (Pass& pass : ForwardPasses()) manager.Add(std::move(pass));
  const std::vector<PassReport> reports = manager.Run(sunk);
  EXPECT_GT(reports[0].rewrites, 8);
  const auto after = MatmulRows(sunk, "blocks.2");
  EXPECT_EQ(after.size(), before.size());
  for (const auto& [scope, rows] : after) {
    const bool keys = scope.ends_with("attn.k") || scope.ends_with("attn.v");
    EXPECT_EQ(rows, keys ? "5*s" : "s") << scope;
  }
  for (const auto& [scope, rows] : MatmulRows(sunk, "blocks.1")) EXPECT_EQ(rows, "5*s") << scope;

  ParamStore params;
  InitVit(config, params, 3);
  const InterpretOptions options{{3, 0}, RandomInputs(plain, {3, 0}, 4), &params};
  EXPECT_LE(RelativeError(Interpret(sunk, options)[sunk.output("logits").i],
                          Interpret(plain, options)[plain.output("logits").i]),
            1e-12);
}

class SinkTest : public ::testing::Test {
 protected:
  // Makes the rows 0 of v's sequences the output "y", then runs the pass, which must leave the
  // values as they are.
  PassReport Sink(ValueId v) {
    g.SetOutput("y", GatherRows(g, v, FirstRows(g, offsets)));
    const Graph before = g;
    const PassReport report = SinkGather(g, kGatherRows, {});
    const ParamStore params = RandomParams(before, 1);
    const InterpretOptions options{{3, 0}, RandomInputs(before, {3, 0}, 2), &params};
    EXPECT_EQ(Interpret(g, options)[g.output("y").i],
              Interpret(before, options)[before.output("y").i]);
    return report;
  }
  Graph g;
  ValueId x = g.AddInput("x", F32({Dim::Sequences(4), 8}));
  ValueId w = g.AddParam("w", {8, 8}), b = g.AddParam("b", {8});
  ValueId offsets = Offsets(g, 4);
};

TEST_F(SinkTest, MovesThroughRowWiseOperators) {
  const ValueId column = SumCols(g, x);
  const ValueId y = Softmax(g, LayerNorm(g, Mul(g, Linear(g, x, w, b), column), b, b, 1e-5));
  EXPECT_EQ(Sink(y).rewrites, 6);
  EXPECT_EQ(CountOps(g, kGatherRows), 1);  // of x; the second one was equal
  EXPECT_EQ(Maker(g, g.output("y")).op, &kSoftmax);
}

TEST_F(SinkTest, StaysWhereOthersReadAllRows) {
  const ValueId y = g.Add1(kTanh, {x});
  g.SetOutput("all", y);
  EXPECT_EQ(Sink(y).rewrites, 0);
}

TEST_F(SinkTest, StaysWhereANodeReadsAllRows) {
  const ValueId z = g.Add1(kRelu, {x});
  g.SetOutput("sum", SumRows(g, z));
  EXPECT_EQ(Sink(z).rewrites, 0);
}

TEST_F(SinkTest, StaysWhereAnotherResultIsRead) {
  const auto normed = g.Add(kLayerNorm, {x, b, b}, NormAttrs{1e-5});
  g.SetOutput("mean", SumAll(g, normed[1]));
  EXPECT_EQ(Sink(normed[0]).rewrites, 0);
}

TEST_F(SinkTest, DoesNotPassOperatorsThatMixRows) {
  EXPECT_EQ(Sink(AddPositions(g, x, g.AddParam("table", {4, 8}), offsets)).rewrites, 0);
}

// With ta the rows of the result are the columns of the first operand.
TEST_F(SinkTest, DoesNotPassATransposedOperand) {
  const ValueId a = g.AddInput("a", F32({8, Dim::Sequences(4)}));
  EXPECT_EQ(Sink(Matmul(g, a, w, true, false)).rewrites, 0);
}

TEST_F(SinkTest, DoesNotPassASquareTransposedOperand) {
  const ValueId square = g.AddParam("square", {8, 8});
  const ValueId rows = FirstRows(g, offsets);
  g.SetOutput("y", GatherRows(g, Matmul(g, square, w, true, false), rows));
  const Graph before = g;
  SinkGather(g, kGatherRows, {});
  const ParamStore params = RandomParams(before, 1);
  const InterpretOptions options{{2, 0}, RandomInputs(before, {2, 0}, 2), &params};
  EXPECT_EQ(Interpret(g, options)[g.output("y").i],
            Interpret(before, options)[before.output("y").i]);
}

}  // namespace
}  // namespace graft::testing::passes_test
