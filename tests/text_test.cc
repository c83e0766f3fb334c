// Tests the text form: what is printed reads back as the same graph, and mistakes name their line.
#include "runtime/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/vit.h"
#include "runtime/verify.h"
#include "tests/graph_testing.h"
#include "tools/lib/graph_dot.h"

namespace graft::testing::text_test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Graph Parse(const std::string& text) { return ParseGraph(text, AllOps()); }

TEST(Text, PrintsLeavesNodesOutputsAndUpdates) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({Dim::Sequences(3), 4}));
  const ValueId w = g.AddParam("w", {5, 4}, true);
  g.AddInput("labels", I32({Dim::Sequences()}));
  const ValueId acc = g.AddState("acc", {5});
  Scope scope(g, "head");
  const ValueId y = Matmul(g, x, w, false, true);
  g.SetName(y, "logits");
  g.SetOutput("out", y);
  const ValueId sum = Add(g, acc, SumRows(g, y));
  g.phase = Phase::kUpdate;
  g.SetOutput("half", Scale(g, acc, 0.5));
  g.AddUpdate(acc, sum);
  EXPECT_EQ(ToText(g),
            "input @labels : i32[s]\n"
            "input @x : f32[3*s,4]\n"
            "param @w : f32[5,4] trainable\n"
            "state @acc : f32[5]\n"
            "%0'logits' = matmul(@x, @w) {ta=0 tb=1 alpha=1 bias=0 residual=0 act=none}"
            " : f32[3*s,5]  # head\n"
            "%1 = scale!(@acc) {by=0.5} : f32[5]  # head\n"
            "%2 = sum_rows(%0) : f32[5]  # head\n"
            "%3 = add(@acc, %2) : f32[5]  # head\n"
            "output out = %0\n"
            "output half = %1\n"
            "update @acc = %3\n");
}

TEST(Text, RandomGraphsReadBackAsTheyWere) {
  for (uint32_t seed = 0; seed < 100; ++seed) {
    const Graph g = RandomGraph(seed, 5 + static_cast<int>(seed % 30));
    const std::string text = ToText(g);
    const Graph back = Parse(text);
    ASSERT_EQ(ToText(back), text) << "seed " << seed;
    EXPECT_EQ(back.live_nodes(), g.live_nodes());
    EXPECT_EQ(back.Trainable().size(), g.Trainable().size());
    EXPECT_EQ(back.updates.size(), g.updates.size());
  }
}

TEST(Text, AWholeModelReadsBack) {
  const Graph g = BuildVit(VitByName("vit_nano_patch4_32"), {.loss = true, .drop_path = 0.1});
  const std::string text = ToText(g);
  EXPECT_EQ(ToText(Parse(text)), text);
}

TEST(Text, ReadBackGraphsComputeTheSame) {
  const Graph g = RandomGraph(5);
  const Graph back = Parse(ToText(g));
  const ParamStore params = RandomParams(g, 1);
  const Counts counts{2, 0};
  const InterpretOptions options{counts, RandomInputs(g, counts, 2), &params};
  for (const char* name : {"first", "second"})
    EXPECT_EQ(Interpret(g, options)[g.output(name).i],
              Interpret(back, options)[back.output(name).i]);
}

// Builds (tanh(x) + gelu(x)) * w in either order, and leaves debris behind.
Graph Isomorphic(bool other_way) {
  Graph g;
  ValueId x, w, a, b;
  if (other_way) {
    w = g.AddParam("w", {4});
    x = g.AddInput("x", F32({2, 4}));
    b = Gelu(g, x);
    const ValueId debris = Scale(g, b, 3);
    a = g.Add1(kTanh, {x});
    g.EraseNode(Producer(g, debris));
  } else {
    x = g.AddInput("x", F32({2, 4}));
    w = g.AddParam("w", {4});
    a = g.Add1(kTanh, {x});
    b = Gelu(g, x);
  }
  g.SetOutput("y", Mul(g, Add(g, a, b), w));
  return g;
}

TEST(Text, IsomorphicGraphsPrintEqually) {
  EXPECT_EQ(ToText(Isomorphic(false)), ToText(Isomorphic(true)));
}

TEST(Text, OperandOrderShows) {
  Graph a, b;
  for (Graph* g : {&a, &b}) {
    const ValueId x = g->AddInput("x", F32({2, 4})), y = g->AddInput("y", F32({2, 4}));
    g->SetOutput("out", g == &a ? Sub(*g, x, y) : Sub(*g, y, x));
  }
  EXPECT_NE(ToText(a), ToText(b));
}

TEST(Text, VeryDeepGraphsPrint) {
  Graph g;
  ValueId v = g.AddInput("x", F32({1}));
  for (int i = 0; i < 100000; ++i) v = Scale(g, v, 1);
  g.SetOutput("y", v);
  EXPECT_THAT(ToText(g), HasSubstr("output y = %99999\n"));
}

TEST(Text, MistakesNameTheirLine) {
  const std::string head = "input @x : f32[2,4]\nparam @w : f32[4] trainable\n\n";
  const std::pair<const char*, const char*> cases[] = {
      {"%0 = tanhh(@x) : f32[2,4]", "line 4: no operator 'tanhh'; did you mean 'tanh'?"},
      {"%0 = tanh(%7) : f32[2,4]", "line 4: '%7' is not defined above"},
      {"%0 = tanh(@v) : f32[2,4]", "line 4: '@v' is not defined above"},
      {"%0 = tanh(@x : f32[2,4]", "line 4: "},
      {"%0 tanh(@x) : f32[2,4]", "line 4: expected '='"},
      {"%0 = tanh(@x)", "line 4: expected ':'"},
      {"%0 = tanh(@x) : f32[2,5]", "line 4: states f32[2,5] but tanh makes f32[2,4]"},
      {"%0 = tanh(@x) : f32[2,4] rest", "line 4: unexpected 'rest'"},
      {"%0, %1 = tanh(@x) : f32[2,4], f32[2,4]", "line 4: tanh has 1 results, not 2"},
      {"%0 = tanh(@x, @x) : f32[2,4]", "line 4: "},
      {"%0 = scale(@x) {bi=2} : f32[2,4]", "line 4: unknown attribute 'bi'"},
      {"%0 = scale(@x) {by=two} : f32[2,4]", "line 4: 'by': expected a number, found 'two'"},
      {"%0 = scale(@x) {by=2 : f32[2,4]", "line 4: "},
      {"%0 = tanh(@x) {by=2} : f32[2,4]", "line 4: unknown attribute 'by'"},
      {"%0 = add(@x, @w) : f32[2,4]\n%0 = tanh(@x) : f32[2,4]", "line 5: '%0' is defined twice"},
      {"input @x : f32[1]", "line 4: 'x' exists already"},
      {"param @p : f32[s,1]", "line 4: parameter 'p'"},
      {"param @p : f32[1", "line 4: expected a type"},
      {"param @p : f16[1]", "line 4: "},
      {"param @p f32[1]", "line 4: expected ':'"},
      {"input x : f32[1]", "line 4: expected '@'"},
      {"output y", "line 4: expected '='"},
      {"output y = @x @w", "line 4: unexpected '@w'"},
      {"update @w = %3", "line 4: '%3' is not defined above"},
      {"nonsense", "line 4: expected '='"},
  };
  for (const auto& [line, message] : cases)
    EXPECT_THAT(MessageOf([&, l = line] { Parse(head + l + "\noutput y = @x\n"); }),
                HasSubstr(std::string("graph text, ") + message))
        << line;
}

TEST(Text, AParsedGraphIsVerified) {
  EXPECT_THAT(MessageOf([] {
                Parse(
                    "input @x : f32[2]\nstate @a : f32[2]\n%0 = add(@a, @x) : f32[2]\n"
                    "update @a = %0\nupdate @a = %0\n");
              }),
              HasSubstr("'a' is updated twice"));
}

TEST(Text, AnyPrefixOfATextIsAGraphOrAnError) {
  const std::string text = ToText(RandomGraph(3));
  for (size_t n = 0; n < text.size(); ++n) {
    const std::string message = MessageOf([&] { Verify(Parse(text.substr(0, n))); });
    EXPECT_FALSE(message.empty());
  }
}

TEST(Text, DiffShowsWhatChanged) {
  const Graph before = Isomorphic(false);
  Graph after = before;
  const ValueId w = after.FindLeaf("w");
  after.ReplaceUses(w, Scale(after, w, 2));
  // The scale itself read w, too, and now reads itself: give it back.
  after.SetInput(after.users(w).empty() ? NodeId{static_cast<uint32_t>(after.num_nodes() - 1)}
                                        : after.users(w)[0],
                 0, w);
  Verify(after);
  const std::string diff = DiffText(before, after);
  EXPECT_THAT(diff, HasSubstr("+ %3 = scale(@w) {by=2} : f32[4]\n"));
  EXPECT_THAT(diff, HasSubstr("- %3 = mul(%2, @w) : f32[2,4]\n"));
  EXPECT_THAT(diff, HasSubstr("  ...\n"));
  EXPECT_EQ(DiffText(before, before), "  ...\n");
}

// Longer sequences and names are no difference, what makes them longer is one.
TEST(Text, DiffOfOperations) {
  const auto graph = [](int64_t rows, bool longer) {
    Graph g;
    const ValueId x = g.AddInput("x", F32({Dim::Sequences(rows), 4}));
    const ValueId w = g.AddParam("w", {4, 4});
    ValueId y = g.Add1(kTanh, {x});
    if (longer) y = InsertTokens(g, y, g.AddParam("tokens", {1, 4}), Offsets(g, rows), 0);
    g.SetName(y, "edge");
    g.AddOutput("y", Scale(g, Matmul(g, y, w, false, true), 2));
    return g;
  };
  const Graph before = graph(3, false), after = graph(3, true);
  EXPECT_THAT(DiffText(before, after), HasSubstr("\n- %2 = scale"));
  const std::string diff = DiffText(before, after, 1, DiffOf::kOperations);
  EXPECT_THAT(diff, HasSubstr("+ param @tokens : f32[1,4]\n"));
  EXPECT_THAT(diff, HasSubstr("\n+ %2'edge' = insert_tokens("));
  EXPECT_THAT(diff, HasSubstr("\n+ %1 = offsets("));
  EXPECT_THAT(diff, Not(HasSubstr("\n- ")));
  EXPECT_THAT(diff, Not(HasSubstr("+ %3")));
  EXPECT_EQ(DiffText(graph(3, false), graph(4, false), 1, DiffOf::kOperations), "  ...\n");
}

TEST(Text, DotDrawsAScopeAndMarks) {
  Graph g;
  const ValueId x = g.AddInput("x", {DType::kF32, {Dim::Sequences(), 4}});
  g.scope = "blocks.0.a";
  const ValueId first = g.Add1(kTanh, {x});
  g.scope = "blocks.10";
  const ValueId second = g.Add1(kTanh, {first});
  g.AddOutput("y", g.Add1(kTanh, {second}));
  const std::string dot = ToDot(g, "blocks.10", {g.value(second).producer});
  EXPECT_THAT(dot, HasSubstr("label=\"tanh\\nblocks.10\\nf32[s,4]\", style=filled"));
  EXPECT_THAT(dot, HasSubstr("label=\"tanh\\nf32[s,4]\", shape=ellipse]"));
  EXPECT_THAT(dot, Not(HasSubstr("blocks.0.a")));
  EXPECT_THAT(MessageOf([&] { ToDot(g, "blocks.1"); }), HasSubstr("no node"));
}

TEST(Text, DotDrawsEveryNode) {
  const Graph g = Isomorphic(false);
  const std::string dot = ToDot(g);
  for (const char* part : {"digraph graft {", "label=\"tanh\\n", "label=\"mul\\n", "label=\"w\\n"})
    EXPECT_THAT(dot, HasSubstr(part));
}

}  // namespace
}  // namespace graft::testing::text_test
