// sink_gather where a method has put tokens into the sequences: the class token's rows are found
// behind them.
#include <gtest/gtest.h>

#include "models/bert.h"
#include "models/vit.h"
#include "ops/optimise.h"
#include "peft/method.h"
#include "tests/graph_testing.h"

namespace graft::testing {
namespace {

// How many rows the products of a block compute, by scope.
std::map<std::string, std::string> MatmulRows(const Graph& g, const std::string& block) {
  std::map<std::string, std::string> rows;
  for (NodeId n : g.TopoOrder())
    if (g.node(n).op == &kMatmul && g.node(n).scope.starts_with(block))
      rows[g.node(n).scope] = ToString(g.shape(g.node(n).out[0])[0]);
  return rows;
}

// The head of a graph whose tokens stand behind the class token is computed for class rows, too.
void ExpectClassRowsPastTokens(Graph plain, const char* block, const InterpretOptions& options) {
  Graph sunk = plain;
  PassManager manager;
  for (Pass& pass : ForwardPasses()) manager.Add(std::move(pass));
  manager.Run(sunk);
  EXPECT_EQ(CountOps(sunk, kDropTokens), 0);
  for (const auto& [scope, rows] : MatmulRows(sunk, block)) {
    const bool keys = scope.ends_with("attn.k") || scope.ends_with("attn.v");
    if (!keys) {
      EXPECT_EQ(rows, "s") << scope;
    }
  }
  EXPECT_LE(RelativeError(Interpret(sunk, options)[sunk.output("logits").i],
                          Interpret(plain, options)[plain.output("logits").i]),
            1e-12);
}

TEST(SinkGather, PassesTokensBehindTheClassToken) {
  const VitConfig config{.image_size = 8,
                         .patch_size = 4,
                         .width = 8,
                         .depth = 2,
                         .heads = 2,
                         .mlp_width = 16,
                         .classes = 5};
  ParamStore params;
  InitVit(config, params, 3);
  Graph g = BuildVit(config);
  ApplyMethod(g, params, ParseMethod("vpt(tokens=3)"), 1);
  ExpectClassRowsPastTokens(g, "blocks.1", {{3, 0}, RandomInputs(g, {3, 0}, 4), &params});
}

TEST(SinkGather, PassesTokensBehindTheClassTokenOfTexts) {
  const BertConfig config{.vocab = 20,
                          .positions = 8,
                          .width = 8,
                          .depth = 2,
                          .heads = 2,
                          .mlp_width = 16,
                          .classes = 5};
  ParamStore params;
  InitBert(config, params, 3);
  Graph g = BuildBert(config);
  ApplyMethod(g, params, ParseMethod("vpt(tokens=3)"), 1);
  InterpretOptions options{{2, 7}, RandomInputs(g, {2, 7}, 4, 2), &params};
  options.leaves["offsets"] = {0, 3, 7};
  ExpectClassRowsPastTokens(g, "blocks.1", options);
}

// x has `with` rows for each sequence, of which two tokens at `position` go; then the first row of
// each sequence of `without` rows is read.
PassReport SinkPast(int64_t with, int64_t without, int64_t position) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({Dim::Sequences(6), 4}));
  const ValueId y = DropTokens(g, g.Add1(kTanh, {x}), Offsets(g, with), position, 2);
  g.SetOutput("y", GatherRows(g, y, FirstRows(g, Offsets(g, without))));
  const Graph before = g;
  const PassReport report = ForwardPasses()[0].run(g);
  const InterpretOptions options{{3, 0}, RandomInputs(before, {3, 0}, 2), nullptr};
  EXPECT_EQ(Interpret(g, options)[g.output("y").i],
            Interpret(before, options)[before.output("y").i]);
  return report;
}

TEST(SinkGather, PassesNoTokensThatMoveTheRow) {
  EXPECT_EQ(SinkPast(6, 4, 1).rewrites, 2);
  EXPECT_EQ(SinkPast(6, 4, 4).rewrites, 2);
  EXPECT_EQ(SinkPast(6, 4, 0).rewrites, 0) << "the first row stands behind the tokens";
  EXPECT_EQ(SinkPast(6, 3, 1).rewrites, 0) << "the rows of other sequences";
}

}  // namespace
}  // namespace graft::testing
