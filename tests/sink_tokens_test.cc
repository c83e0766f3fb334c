// sink_gather where a method has put tokens into the sequences: the class token's rows are found
// in front of them or behind them, with the same values and gradients.
#include <gtest/gtest.h>

#include "autograd/gradient.h"
#include "models/bert.h"
#include "models/vit.h"
#include "ops/optimise.h"
#include "peft/method.h"
#include "tests/graph_testing.h"

namespace graft::testing::sink_tokens_test {
namespace {

// How many rows the products of a block compute, by scope.
std::map<std::string, std::string> MatmulRows(const Graph& g, const std::string& block) {
  std::map<std::string, std::string> rows;
  for (NodeId n : g.TopoOrder())
    if (g.node(n).op == &kMatmul && g.node(n).scope.starts_with(block))
      rows[g.node(n).scope] = ToString(g.shape(g.node(n).out[0])[0]);
  return rows;
}

// The gradient of a loss to everything that trains, in order.
std::vector<std::vector<double>> Gradients(Graph g, const InterpretOptions& options) {
  std::vector<ValueId> gradients;
  const ValueId loss = g.output("losses");
  for (ValueId v : AddGradients(g, loss, g.Trainable())) gradients.push_back(v);
  const Values64 values = Interpret(g, options);
  std::vector<std::vector<double>> all;
  for (ValueId v : gradients)
    if (v.valid()) all.push_back(values[v.i]);
  return all;
}

// The head of a graph whose sequences have more tokens is computed for class rows, too.
void ExpectClassRowsPastTokens(Graph plain, const InterpretOptions& options) {
  Graph sunk = plain;
  PassManager manager;
  for (Pass& pass : ForwardPasses()) manager.Add(std::move(pass));
  manager.Run(sunk);
  EXPECT_EQ(CountOps(sunk, kDropTokens), 0);
  for (const auto& [scope, rows] : MatmulRows(sunk, "blocks.1")) {
    const bool keys = scope.ends_with("attn.k") || scope.ends_with("attn.v");
    if (!keys) {
      EXPECT_EQ(rows, "s") << scope;
    }
  }
  EXPECT_LE(RelativeError(Interpret(sunk, options)[sunk.output("logits").i],
                          Interpret(plain, options)[plain.output("logits").i]),
            1e-12);
  const auto before = Gradients(plain, options), after = Gradients(sunk, options);
  ASSERT_EQ(before.size(), after.size());
  EXPECT_GT(before.size(), 2u);
  for (size_t i = 0; i < before.size(); ++i)
    EXPECT_LE(RelativeError(after[i], before[i]), 1e-9) << i;
}

// In front of the class token, behind it, and in front where others are behind it already.
constexpr const char* kMethods[] = {"vpt(tokens=3)", "prompt(tokens=3)",
                                    "prompt(tokens=2)+vpt(tokens=3)"};

TEST(SinkGather, PassesTokens) {
  const VitConfig config{.image_size = 8,
                         .patch_size = 4,
                         .width = 8,
                         .depth = 2,
                         .heads = 2,
                         .mlp_width = 16,
                         .classes = 5};
  for (const char* method : kMethods) {
    SCOPED_TRACE(method);
    ParamStore params;
    InitVit(config, params, 3);
    Graph g = BuildVit(config, {.loss = true});
    ApplyMethod(g, params, ParseMethod(method), 1);
    InterpretOptions options{{3, 0}, RandomInputs(g, {3, 0}, 4), &params};
    options.leaves["labels"] = {1, 0, 4}, options.leaves["one"] = {1};
    ExpectClassRowsPastTokens(g, options);
  }
}

TEST(SinkGather, PassesTokensOfTexts) {
  const BertConfig config{.vocab = 20,
                          .positions = 16,
                          .width = 8,
                          .depth = 2,
                          .heads = 2,
                          .mlp_width = 16,
                          .classes = 5};
  for (const char* method : kMethods) {
    SCOPED_TRACE(method);
    ParamStore params;
    InitBert(config, params, 3);
    Graph g = BuildBert(config, {.loss = true});
    ApplyMethod(g, params, ParseMethod(method), 1);
    InterpretOptions options{{2, 7}, RandomInputs(g, {2, 7}, 4, 2), &params};
    options.leaves["offsets"] = {0, 3, 7};
    options.leaves["labels"] = {1, 4}, options.leaves["one"] = {1};
    ExpectClassRowsPastTokens(g, options);
  }
}

// x has `with` rows for each sequence, of which two tokens at `position` go; then row `at` of each
// sequence of `without` rows is read.
PassReport SinkPast(int64_t with, int64_t without, int64_t position, int64_t at = 0) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({Dim::Sequences(6), 4}));
  const ValueId y = DropTokens(g, g.Add1(kTanh, {x}), Offsets(g, with), position, 2);
  g.SetOutput("y", GatherRows(g, y, FirstRows(g, Offsets(g, without), at)));
  const Graph before = g;
  const PassReport report = ForwardPasses()[0].run(g);
  const InterpretOptions options{{3, 0}, RandomInputs(before, {3, 0}, 2), nullptr};
  EXPECT_EQ(Interpret(g, options)[g.output("y").i],
            Interpret(before, options)[before.output("y").i]);
  return report;
}

TEST(SinkGather, FindsTheRowInFrontOfTokensAndBehindThem) {
  for (int64_t position = 0; position <= 4; ++position)
    for (int64_t at = 0; at < 4; ++at)
      EXPECT_EQ(SinkPast(6, 4, position, at).rewrites, 2) << position << ", " << at;
  EXPECT_EQ(SinkPast(6, 3, 1).rewrites, 0) << "the rows of other sequences";
}

}  // namespace
}  // namespace graft::testing::sink_tokens_test
