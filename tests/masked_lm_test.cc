// Tests the masked-LM head in the classifier's place: label words against float64 transformers,
// what of it trains, which rows are computed, and which checkpoints have it.
#include "models/files/masked_lm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "adapters/method_graph.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/json.h"
#include "runtime/rng.h"
#include "tests/fixture_testing.h"
#include "tests/test_util.h"

namespace graft::masked_lm_test {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kTexts = 4, kVocab = 41;
const std::string kWords = "3+17+4,9|40|0,8";  // of three classes

LoadedModel Tiny() { return LoadModel(kFixtures + "tiny_bert_hf", "", 0); }

LoadedModel WithWords() {
  LoadedModel m = Tiny();
  UseMaskedLm(m, {.label_words = kWords, .labels = {"a", "b", "c"}}, 0);
  return m;
}

// Gives a row in the middle of each text, as the graph wants it.
std::vector<double> MaskRows(const Expected& e) {
  const std::vector<double> offsets = e["offsets"];
  std::vector<double> rows;
  for (size_t i = 0; i + 1 < offsets.size(); ++i)
    rows.push_back(std::floor((offsets[i] + offsets[i + 1]) / 2));
  return rows;
}

InterpretOptions Leaves(const Expected& e, const ParamStore& params) {
  InterpretOptions o{
      .counts = {kTexts, static_cast<int64_t>(e["ids"].size())}, .leaves = {}, .params = &params};
  for (const char* name : {"ids", "type_ids", "positions", "offsets"}) o.leaves[name] = e[name];
  o.leaves["rows"] = MaskRows(e);
  o.leaves["labels"] = {0, 2, 1, 2}, o.leaves["one"] = {1};
  return o;
}

// The logit of a class is the mean over its words of the mean over a word's sub-words, of
// transformers' logits.
TEST(MaskedLm, ClassLogitsAreMeansOfWordLogits) {
  const Expected e("tiny_bert_expected.safetensors");
  const LoadedModel m = WithWords();
  const Graph g = BuildModel(m.config);
  const std::vector<double> all = e["mlm.logits"], rows = MaskRows(e);
  std::vector<double> expected;
  for (const double row : rows) {
    const double* z = &all[static_cast<size_t>(row) * kVocab];
    for (const double logit : {((z[3] + z[17] + z[4]) / 3 + z[9]) / 2, z[40], (z[0] + z[8]) / 2})
      expected.push_back(logit);
  }
  EXPECT_LT(RelativeError(Interpret(g, Leaves(e, m.params))[g.output("logits").i], expected),
            1e-12);
}

// Keys and values of the last block are for all rows, all else for the mask's.
TEST(MaskedLm, OnlyTheMaskRowsGoThroughTheLastBlock) {
  const Expected e("tiny_bert_expected.safetensors");
  for (const int64_t masks : {1, 2}) {
    LoadedModel m = WithWords();
    m.bert().mask_rows = masks;
    const Graph plain = BuildModel(m.config);
    Graph sunk = plain;
    InferencePasses().Run(sunk);
    int products = 0;
    for (NodeId id : sunk.TopoOrder()) {
      const Node& n = sunk.node(id);
      if (n.op != &kMatmul || !n.scope.starts_with("blocks.1")) continue;
      const bool all = n.scope.ends_with("attn.k") || n.scope.ends_with("attn.v");
      EXPECT_EQ(sunk.shape(n.out[0])[0], all ? Dim::Tokens() : Dim::Sequences(masks)) << n.scope;
      ++products;
    }
    EXPECT_EQ(products, 6);
    InterpretOptions leaves = Leaves(e, m.params);
    if (masks == 2) leaves.leaves["rows"] = e["mlm.rows"];
    EXPECT_LE(RelativeError(Interpret(sunk, leaves)[sunk.output("logits").i],
                            Interpret(plain, leaves)[plain.output("logits").i]),
              1e-12);
  }
}

std::vector<std::string> Trained(const std::string& method) {
  LoadedModel m = WithWords();
  const Graph g = MethodGraph(m.config, {.loss = true}, ParseMethod(method), m.params);
  std::vector<std::string> names;
  for (ValueId v : g.Trainable()) names.push_back(g.value(v).name);
  std::ranges::sort(names);
  return names;
}

// As a classifier's, unless it is frozen; the decoder is the word embeddings, which `full` trains.
TEST(MaskedLm, TheHeadTrains) {
  const std::vector<std::string> head{"mlm.bias", "mlm.dense.bias", "mlm.dense.weight",
                                      "mlm.norm.bias", "mlm.norm.weight"};
  EXPECT_EQ(Trained("linear"), head);
  const std::vector<std::string> full = Trained("full"), ln = Trained("ln(head=frozen)");
  EXPECT_EQ(std::ranges::count(full, "embed.word.weight"), 1);
  EXPECT_EQ(std::ranges::count_if(full, OfHead), 5);
  EXPECT_EQ(std::ranges::count_if(ln, OfHead), 0);
  EXPECT_EQ(ln.size(), 2u * (1 + 2 * 2));
  for (const std::string& name : Trained("bitfit"))
    EXPECT_TRUE(OfHead(name) || name.ends_with(".bias")) << name;
}

// The gradients are those of the whole model, in which the word embeddings are both input and
// decoder.
TEST(MaskedLm, GradientsAreThoseOfTheLoss) {
  const Expected e("tiny_bert_expected.safetensors");
  LoadedModel m = WithWords();
  Graph g = MethodGraph(m.config, {.loss = true}, ParseMethod("full"), m.params);
  const std::vector<ValueId> wrt = g.Trainable();
  const ValueId loss = SumAll(g, g.output("losses"));
  const std::vector<ValueId> gradients = AddGradients(g, loss, wrt);
  const InterpretOptions leaves = Leaves(e, m.params);
  const Values64 v = Interpret(g, leaves);
  for (size_t i = 0; i < wrt.size(); ++i) {
    const std::string& name = g.value(wrt[i]).name;
    const std::span<const float> at = m.params.values(name);
    std::vector<float> direction(at.size());
    FillNormal(direction, {MakeKey(1, Purpose::kData, name)}, 0, 1);
    double expected = 0;
    for (size_t k = 0; k < at.size(); ++k) expected += direction[k] * v[gradients[i].i][k];
    const auto slope = [&](double h) {
      InterpretOptions moved = leaves;
      std::vector<double>& values = moved.leaves[name];
      for (size_t k = 0; k < at.size(); ++k) values.push_back(at[k] + h * direction[k]);
      return Interpret(g, moved)[loss.i][0];
    };
    const double h = 1e-4, found = (slope(h) - slope(-h)) / (2 * h);
    EXPECT_NEAR(found, expected, 1e-5 * (1 + std::fabs(expected))) << name;
  }
}

// Losses of rows that stand for no word do not count.
TEST(MaskedLm, WeightsMultiplyTheLosses) {
  const Expected e("tiny_bert_expected.safetensors");
  LoadedModel m = Tiny();
  UseMaskedLm(m, {}, 0);
  const Graph g = BuildModel(m.config, {.loss = true});
  InterpretOptions leaves = Leaves(e, m.params);
  const auto losses = [&](const std::vector<double>& weights) {
    leaves.leaves["weights"] = weights;
    return Interpret(g, leaves)[g.output("losses").i];
  };
  const std::vector<double> all = losses({1, 1, 1, 1}), some = losses({1, 0, 0, 1});
  EXPECT_GT(all[1], 0.1);
  EXPECT_EQ(some, (std::vector<double>{all[0], 0, 0, all[3]}));
}

TEST(MaskedLm, TheClassifierGoes) {
  const LoadedModel m = WithWords();
  EXPECT_FALSE(m.params.Has("head.weight"));
  EXPECT_TRUE(m.params.Has("pooler.weight"));
  EXPECT_EQ(Classes(m.config), 3);
  EXPECT_EQ(m.labels, (std::vector<std::string>{"a", "b", "c"}));
  LoadedModel init = LoadModel("init:bert(vocab=41,width=24,depth=1,heads=2,mlp=48)", "", 3);
  UseMaskedLm(init, {}, 3);
  EXPECT_EQ(Classes(init.config), kVocab);
  EXPECT_FALSE(init.params.Has("pooler.weight"));
  const auto values = init.params.values("mlm.dense.weight");
  EXPECT_NE(std::ranges::count(values, 0.0f), std::ssize(values));
}

TEST(MaskedLm, ACheckpointWithoutTheHeadIsRefused) {
  const SafetensorsFile file = SafetensorsFile::Open(kFixtures + "tiny_bert_hf/model.safetensors");
  const auto refused = [&](const std::string& without, const std::string& config) {
    TempDir dir;
    std::vector<TensorToWrite> tensors;
    for (const FileTensor& t : file.tensors())
      if (t.name.find(without) == t.name.npos)
        tensors.push_back({t.name, t.dtype, t.shape, file.bytes(t)});
    WriteSafetensors(dir / "model.safetensors", tensors, {});
    dir.Write("config.json", config);
    LoadedModel m = LoadModel(dir.path(), "", 0);
    return MessageOf([&] { UseMaskedLm(m, {}, 0); });
  };
  std::string config = ReadFile(kFixtures + "tiny_bert_hf/config.json", 1 << 20);
  EXPECT_THAT(refused("cls.predictions", config),
              HasSubstr("has no masked-LM head (no tensor 'cls.predictions."));
  EXPECT_THAT(refused("cls.predictions.transform.LayerNorm.bias", config),
              HasSubstr("no tensor 'cls.predictions.transform.LayerNorm.bias'"));
  Json untied = ParseJson(config, "config");
  untied["tie_word_embeddings"] = false;
  EXPECT_THAT(refused("nothing", DumpJson(untied)),
              HasSubstr("decoder of its masked-LM head is not the word embeddings"));
}

}  // namespace
}  // namespace graft::masked_lm_test
