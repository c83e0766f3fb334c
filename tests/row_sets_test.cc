// Which sequence a row belongs to, for every set of rows that the models make: the masks of dropout
// on them are those of the sequences, however a batch is cut.
#include "ops/row_sets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "models/bert.h"
#include "models/vit.h"
#include "peft/method.h"
#include "tests/graph_testing.h"

namespace graft::testing::row_sets_test {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kSequences = 5;
const std::vector<int64_t> kLengths{4, 7, 3, 6, 5};  // of texts

// A graph whose outputs are the masks of all its dropout nodes, named by their streams.
struct Masks {
  Graph g;
  ParamStore params;
  std::map<std::string, Dim> rows;    // by stream
  std::set<std::string> by_sequence;  // streams of drop path

  explicit Masks(Graph graph) : g(std::move(graph)) {
    g.ClearOutputs();
    const ValueId one = g.AddInput("one", F32({1}));
    for (NodeId id : g.TopoOrder()) {
      const Node n = g.node(id);
      if (n.op != &kDropout) continue;
      const DropoutAttrs& attrs = n.attrs.As<DropoutAttrs>();
      rows[attrs.stream] = g.shape(n.in[0])[0];
      if (attrs.per_sequence) by_sequence.insert(attrs.stream);
      g.SetOutput(attrs.stream,
                  Dropout(g, BroadcastLike(g, one, n.in[0]), n.in[1], n.in[2], attrs));
    }
    g.EraseDead();
    params = RandomParams(g, 1);
  }

  // Those of sequences [first, first + count) of the batch in one run, by stream.
  std::map<std::string, std::vector<float>> Of(int64_t first, int64_t count) {
    Counts counts{count, 0};
    for (int64_t i = 0; i < count; ++i) counts.tokens += kLengths[first + i];
    Session session(g, params, {.capacity = counts});
    SetInputs(session, RandomInputs(g, counts, 1, 2));
    session.Input("one").f32()[0] = 1;
    session.Input("rng").i32()[0] = 3;
    session.Input("rng").i32()[1] = static_cast<int32_t>(first);
    if (session.HasInput("offsets")) {
      int32_t* offsets = session.Input("offsets").i32();
      offsets[0] = 0;
      for (int64_t i = 0; i < count; ++i)
        offsets[i + 1] = offsets[i] + static_cast<int32_t>(kLengths[first + i]);
    }
    session.Run(counts);
    std::map<std::string, std::vector<float>> masks;
    for (const GraphOutput& o : g.outputs) masks[o.name] = OutputValues(session, o.name);
    return masks;
  }
};

// The batch in one run, cut in two and one sequence at a time; no two sequences have equal masks,
// unless one draw decides for all of a sequence.
void ExpectMasksOfSequences(Masks& masks, const std::string& what) {
  const auto whole = masks.Of(0, kSequences);
  std::map<std::string, std::vector<float>> two, single;
  const auto append = [](auto& to, const auto& from) {
    for (const auto& [stream, values] : from)
      to[stream].insert(to[stream].end(), values.begin(), values.end());
  };
  append(two, masks.Of(0, 3));
  append(two, masks.Of(3, 2));
  std::map<std::string, std::vector<std::vector<float>>> of;
  for (int64_t i = 0; i < kSequences; ++i) {
    const auto one = masks.Of(i, 1);
    append(single, one);
    for (const auto& [stream, values] : one) of[stream].push_back(values);
  }
  for (const auto& [stream, values] : whole) {
    EXPECT_EQ(values, two[stream]) << what << " " << stream;
    EXPECT_EQ(values, single[stream]) << what << " " << stream;
    if (masks.by_sequence.contains(stream)) continue;
    for (size_t i = 0; i < of[stream].size(); ++i)
      for (size_t j = 0; j < i; ++j) {
        const std::vector<float>&a = of[stream][i], &b = of[stream][j];
        const auto common = std::ssize(a.size() < b.size() ? a : b);
        EXPECT_FALSE(std::equal(a.begin(), a.begin() + common, b.begin()))
            << what << " " << stream << ": " << i << " and " << j;
      }
  }
}

Graph WithLora(Graph g) {
  ParamStore params = RandomParams(g, 2);
  ApplyMethod(g, params, ParseMethod("lora(r=2,dropout=0.5,targets=*)"), 7);
  return g;
}

TEST(RowSets, MasksOfAVitAreThoseOfItsImages) {
  for (const char* pool : {"token", "mean", "mean_fc_norm", "distilled"}) {
    const VitConfig config{.image_size = 8,
                           .patch_size = 4,
                           .width = 24,
                           .depth = 2,
                           .heads = 2,
                           .mlp_width = 36,
                           .classes = 5,
                           .pool = pool,
                           .tokens = std::string(pool) == "distilled" ? 2 : 1};
    Masks masks(WithLora(BuildVit(config, {.drop_path = 0.5})));
    ExpectMasksOfSequences(masks, pool);
    EXPECT_EQ(masks.rows.at("patch_embed.dropout"), Dim::Sequences(4));
    EXPECT_EQ(masks.rows.at("blocks.1.attn.q.dropout"), Dim::Sequences(config.rows()));
    EXPECT_EQ(masks.rows.at("blocks.1.drop_path2"), Dim::Sequences(config.rows()));
    EXPECT_EQ(masks.rows.at("head.dropout"), Dim::Sequences());
    EXPECT_EQ(masks.rows.contains("head.dist.dropout"), config.tokens == 2);
  }
}

TEST(RowSets, MasksOfABertAreThoseOfItsTexts) {
  for (const char* pool : {"pooler", "cls", "mean"}) {
    const BertConfig config{.vocab = 20,
                            .positions = 8,
                            .width = 24,
                            .depth = 1,
                            .heads = 2,
                            .mlp_width = 36,
                            .pool = pool};
    Masks masks(WithLora(BuildBert(config, {.hidden_dropout = 0.5, .classifier_dropout = 0.5})));
    ExpectMasksOfSequences(masks, pool);
    EXPECT_EQ(masks.rows.at("blocks.0.o_dropped"), Dim::Tokens());
    EXPECT_EQ(masks.rows.at("blocks.0.mlp.fc2.dropout"), Dim::Tokens());
    EXPECT_EQ(masks.rows.at("head.dropout"), Dim::Sequences());
    EXPECT_EQ(masks.rows.contains("pooler.dropout"), std::string(pool) == "pooler");
  }
}

TEST(RowSets, MasksOfMaskedWordsAreThoseOfTheirTexts) {
  const BertConfig config{
      .vocab = 20, .positions = 8, .width = 24, .depth = 1, .heads = 2, .mlp_width = 36};
  for (int64_t words : {0, 2}) {
    Masks masks(WithLora(BuildBert(config, {.head = BertHead::kMaskedLm, .mask_rows = words})));
    ExpectMasksOfSequences(masks, fmt::format("{} words", words));
    EXPECT_EQ(masks.rows.at("mlm.dense.dropout"), words ? Dim::Sequences(words) : Dim::Tokens());
  }
}

// Tokens that a method inserts into texts of different lengths.
TEST(RowSets, InsertedTokensBelongToTheTextsAroundThem) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({Dim::Tokens(), 30}));
  const ValueId offsets = g.AddInput("offsets", I32({Dim(1, 1, 0)}));
  const ValueId longer = InsertTokens(g, x, g.AddParam("prompt", {3, 30}), offsets, 1);
  RowSets rows(g);
  g.SetOutput("y", rows.Drop(longer, {.p = 0.5, .stream = "prompted"}));
  Masks masks(std::move(g));
  EXPECT_EQ(masks.rows.at("prompted"), Dim(0, 3, 1));
  ExpectMasksOfSequences(masks, "prompt");
}

TEST(RowSets, TakesWhatTheGraphHas) {
  Graph g;
  RowSets rows(g);
  const ValueId x = g.AddInput("x", F32({Dim::Sequences(6), 4}));
  const ValueId y = g.AddInput("y", F32({Dim::Sequences(2), 4}));
  const ValueId z = g.AddInput("z", F32({Dim(0, 2, 1), 4}));
  const ValueId offsets = g.AddInput("offsets", I32({Dim(1, 1, 0)}));
  const ValueId six = Offsets(g, 6), shifted = ShiftOffsets(g, offsets, 2);
  EXPECT_EQ(rows.OffsetsOf(x), six);
  EXPECT_EQ(rows.OffsetsOf(z), shifted);
  const ValueId two = rows.OffsetsOf(y);
  EXPECT_EQ(Maker(g, two).attrs.As<OffsetsAttrs>().length, 2);
  EXPECT_EQ(rows.OffsetsOf(y), two);
  const size_t nodes = g.num_nodes();
  EXPECT_EQ(rows.OffsetsOf(g.AddInput("t", F32({Dim::Tokens(), 4}))), offsets);
  EXPECT_EQ(g.num_nodes(), nodes);
  g.EraseNode(Producer(g, two));
  EXPECT_NE(rows.OffsetsOf(y), two);
}

TEST(RowSets, RowsOfNoSequenceAreRefused) {
  Graph g;
  RowSets rows(g);
  const ValueId param = g.AddParam("w", {6, 4}), tokens = g.AddInput("x", F32({Dim::Tokens(), 4}));
  const ValueId mixed = g.AddInput("m", F32({Dim(1, 1, 0), 4}));
  const ValueId twice = g.AddInput("t", F32({Dim::Tokens(2), 4}));
  for (ValueId v : {param, mixed, twice})
    EXPECT_THAT(MessageOf([&] { rows.OffsetsOf(v); }), HasSubstr("belong to no sequence"));
  EXPECT_THAT(MessageOf([&] { rows.OffsetsOf(tokens); }), HasSubstr("no input 'offsets'"));
}

}  // namespace
}  // namespace graft::testing::row_sets_test
