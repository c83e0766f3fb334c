// Plain texts: what is a text, which words are masked, and that it depends on nothing else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "data/corpus.h"
#include "models/files/masked_lm.h"
#include "models/text/tokenizer.h"
#include "tests/test_util.h"
#include "train/batches.h"

namespace graft::masked_texts_test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> TextsOf(const Corpus& corpus, const std::string& split) {
  std::vector<std::string> texts;
  for (const TextExample& e : corpus.Load(split).examples) texts.push_back(e.text);
  return texts;
}

TEST(Corpus, LinesAreTextsUnlessEmptyLinesPartDocuments) {
  TempDir dir;
  dir.Write("b.txt", "\none\r\ntwo\n\n");  // at the ends they part nothing
  dir.Write("a.txt", "first line\nsecond line\n\n\nanother document");
  dir.Write("val.txt", "three\n");
  dir.Write("notes.md", "no text");
  const Corpus corpus(dir.path());
  EXPECT_THAT(TextsOf(corpus, "train"),
              ElementsAre("first line\nsecond line", "another document", "one", "two"));
  EXPECT_THAT(TextsOf(corpus, "val"), ElementsAre("three"));
  EXPECT_EQ(corpus.DefaultTrainSplit(), "train");
  EXPECT_EQ(corpus.DefaultValidationSplit(), "val");
  EXPECT_EQ(corpus.DefaultEvalSplit(), "val");
  EXPECT_EQ(corpus.Load("train", 3).examples.size(), 3u);
  EXPECT_THAT(MessageOf([&] { corpus.Load("test"); }), HasSubstr("test"));
}

// What is for a test must not be trained on, whatever the case of its name; a Mac's copies of
// metadata are no texts.
TEST(Corpus, NamesOfSplitsAreThoseOfTables) {
  TempDir dir;
  dir.Write("a.txt", "train on this\n");
  dir.Write("Test.txt", "one\n"), dir.Write("eval.txt", "two\n");
  dir.Write("._a.txt", std::string("\0\5\26\7", 4)), dir.Write(".notes.txt", "no");
  const Corpus corpus(dir.path());
  EXPECT_THAT(TextsOf(corpus, "train"), ElementsAre("train on this"));
  EXPECT_THAT(TextsOf(corpus, "Test"), ElementsAre("one"));
  EXPECT_EQ(corpus.DefaultValidationSplit(), "eval");
  EXPECT_EQ(corpus.DefaultEvalSplit(), "Test");
}

// What these hold of .txt files are names of classes and lists of images.
TEST(Corpus, DataSetsWithClassesAreRefused) {
  for (const char* file : {"labels.txt", "classes.txt", "train.tsv", "dev.csv", "test.jsonl"}) {
    const TempDir dir;
    dir.Write("a.txt", "x y\n"), dir.Write("notes.csv", "x,y\n");
    EXPECT_EQ(MessageOf([&] { Corpus(dir.path()); }), "no error");
    dir.Write(file, "x\ty\n");
    EXPECT_THAT(MessageOf([&] { Corpus(dir.path()); }), HasSubstr(file));
  }
}

TEST(Corpus, WhatIsNoneIsRefused) {
  TempDir dir;
  EXPECT_THAT(MessageOf([&] { Corpus(dir.path()); }), HasSubstr("expected texts as .txt files"));
  EXPECT_THAT(MessageOf([&] { Corpus(dir / "none"); }), HasSubstr("does not exist"));
  dir.Write("a.txt", "\n\n");
  EXPECT_THAT(MessageOf([&] { Corpus(dir.path()).Load("train"); }), HasSubstr("found none"));
  EXPECT_THAT(MessageOf([&] { Corpus(dir / "a.txt"); }), HasSubstr("found a file"));
  dir.Write("a.txt", "\xff\xfe");
  EXPECT_THAT(MessageOf([&] { Corpus(dir.path()); }), HasSubstr("a.txt"));
}

// One masked text as the model gets it.
struct Masked {
  std::vector<int32_t> ids;
  std::map<int32_t, int32_t> answers;  // by place
  bool operator==(const Masked&) const = default;
};

class MaskedTexts : public ::testing::Test {
 protected:
  MaskedTexts() {
    facts_.model = "init:bert(vocab=260,width=8,depth=1,heads=2,mlp=8,positions=64)";
    facts_.tokenizer = kVocabulary, facts_.objective = "mlm", facts_.max_length = 64;
    facts_.seed = 7;
    model_ = LoadModel(facts_.model, "", 0);
  }
  std::unique_ptr<BatchSource> Open(const std::vector<std::string>& texts) {
    std::vector<TextExample> examples;
    for (const std::string& text : texts) examples.push_back({text, {}, 0});
    std::unique_ptr<BatchSource> data = MakeMaskedTexts(examples, model_, facts_);
    UseMaskedLm(model_, {.mask_rows = data->mask_rows()}, 0);
    return data;
  }
  // The texts of one batch, in this order, as a session gets them in one part.
  std::vector<Masked> Batch(BatchSource& data, const std::vector<size_t>& order) {
    data.Start(order);
    data.Take(order.size());
    const std::vector<Counts> parts = data.Parts({1000, 100000});
    EXPECT_EQ(parts.size(), 1u);
    Graph g = BuildModel(model_.config, {.loss = true});
    Session session(g, model_.params, {.capacity = parts[0]});
    data.Fill(session, 0, parts[0].sequences, 0);
    const int32_t *ids = session.Input("ids").i32(), *offsets = session.Input("offsets").i32();
    const int32_t *rows = session.Input("rows").i32(), *labels = session.Input("labels").i32();
    const float* weights = session.Input("weights").f32();
    std::vector<Masked> texts;
    int64_t losses = 0;
    for (size_t i = 0; i < order.size(); ++i) {
      Masked text{{ids + offsets[i], ids + offsets[i + 1]}, {}};
      for (int64_t k = 0; k < data.mask_rows(); ++k, ++rows, ++labels, ++weights) {
        EXPECT_TRUE(*rows >= offsets[i] && *rows < offsets[i + 1]);  // one of its own
        if (*weights == 0) continue;
        EXPECT_EQ(*weights, 1);
        EXPECT_TRUE(text.answers.emplace(*rows - offsets[i], *labels).second);
        ++losses;
      }
      texts.push_back(std::move(text));
    }
    EXPECT_EQ(losses, data.Losses());
    return texts;
  }
  std::vector<Masked> All(BatchSource& data) {
    std::vector<size_t> order(data.size());
    std::iota(order.begin(), order.end(), size_t{0});
    return Batch(data, order);
  }
  // What was masked, with the answers put back.
  std::string Restored(Masked text) const {
    for (const auto& [place, answer] : text.answers) text.ids[place] = answer;
    std::string all;
    for (const int32_t id : text.ids) all += (all.empty() ? "" : " ") + tokenizer_.token(id);
    return all;
  }
  AdapterFacts facts_;
  LoadedModel model_;
  const Tokenizer tokenizer_ = Tokenizer::Open(kVocabulary);
};

std::string Letters(size_t n, size_t from = 0) {
  std::string text;
  for (size_t i = 0; i < n; ++i)
    text += std::string(i ? " " : "") + static_cast<char>('a' + (from + i) % 26);
  return text;
}

TEST_F(MaskedTexts, FifteenPercentAreToBeGuessed) {
  const std::vector<size_t> lengths{1, 3, 9, 10, 11, 30, 62};
  std::vector<std::string> texts;
  for (const size_t n : lengths) texts.push_back(Letters(n));
  const std::unique_ptr<BatchSource> data = Open(texts);
  EXPECT_EQ(data->mask_rows(), 9);  // 0.15 * 62 = 9.3
  EXPECT_EQ(data->longest(), 64);
  const std::vector<Masked> masked = All(*data);
  const std::vector<size_t> wanted{1, 1, 1, 2, 2, 5, 9};
  for (size_t i = 0; i < lengths.size(); ++i) {
    EXPECT_EQ(masked[i].answers.size(), wanted[i]) << lengths[i];
    EXPECT_EQ(Restored(masked[i]), "[CLS] " + texts[i] + " [SEP]");
  }
}

// 80 % become [MASK], 10 % become another token and 10 % stay; every place is chosen as often as
// any other.
TEST_F(MaskedTexts, EightyTenTen) {
  const std::unique_ptr<BatchSource> data = Open(std::vector<std::string>(400, Letters(60)));
  int64_t n = 0, masks = 0, same = 0;
  std::vector<int64_t> at(62);
  std::set<int32_t> others;
  for (const Masked& text : All(*data))
    for (const auto& [place, answer] : text.answers) {
      const int32_t id = text.ids[place];
      ++n, ++at[place];
      masks += id == *tokenizer_.Find("[MASK]"), same += id == answer;
      if (id != answer) others.insert(id);
    }
  ASSERT_EQ(n, 400 * 9);
  // The tolerance is five deviations of a binomial distribution.
  EXPECT_NEAR(static_cast<double>(masks), 0.8 * 3600, 5 * std::sqrt(0.8 * 0.2 * 3600));
  EXPECT_NEAR(static_cast<double>(same), 0.1 * 3600, 5 * std::sqrt(0.1 * 0.9 * 3600));
  EXPECT_GT(others.size(), 150u);  // of the whole vocabulary
  EXPECT_EQ(at[0] + at[61], 0);
  for (size_t i = 1; i <= 60; ++i) EXPECT_NEAR(static_cast<double>(at[i]), 60, 5 * std::sqrt(60));
}

TEST_F(MaskedTexts, MasksFollowSeedTextAndEpochAlone) {
  std::vector<std::string> texts;
  for (size_t i = 0; i < 8; ++i) texts.push_back(Letters(20 + i, i));
  const std::unique_ptr<BatchSource> data = Open(texts);
  const std::vector<Masked> fixed = All(*data);
  EXPECT_EQ(All(*data), fixed);
  EXPECT_EQ(All(*Open(texts)), fixed);
  data->SetEpoch(0);
  const std::vector<Masked> first = All(*data);
  data->SetEpoch(1);
  const std::vector<Masked> second = All(*data);
  for (size_t i = 0; i < texts.size(); ++i) {
    EXPECT_NE(first[i], fixed[i]);
    EXPECT_NE(second[i], first[i]);
  }
  EXPECT_EQ(Batch(*data, {5, 2}), (std::vector<Masked>{second[5], second[2]}));
  data->SetEpoch(0);
  EXPECT_EQ(All(*data), first);
  facts_.seed = 8;
  EXPECT_NE(All(*Open(texts)), fixed);
}

TEST_F(MaskedTexts, LongTextsBecomeSeveral) {
  facts_.max_length = 12;
  const std::unique_ptr<BatchSource> data = Open({Letters(25), "", Letters(10), "[SEP] [CLS]"});
  ASSERT_EQ(data->size(), 4u);  // without a word there is nothing to guess
  const std::vector<Masked> masked = All(*data);
  EXPECT_EQ(Restored(masked[0]), "[CLS] " + Letters(10) + " [SEP]");
  EXPECT_EQ(Restored(masked[1]), "[CLS] " + Letters(10, 10) + " [SEP]");
  EXPECT_EQ(Restored(masked[2]), "[CLS] " + Letters(5, 20) + " [SEP]");
  EXPECT_EQ(Restored(masked[3]), "[CLS] " + Letters(10) + " [SEP]");
  EXPECT_EQ(data->longest(), 12);
}

TEST_F(MaskedTexts, SpecialTokensAreNotGuessed) {
  const std::unique_ptr<BatchSource> data =
      Open(std::vector<std::string>(50, "a [SEP] b [MASK] [CLS]"));
  for (const Masked& text : All(*data))
    for (const auto& [place, answer] : text.answers) EXPECT_TRUE(place == 1 || place == 3);
}

// "unfilm" is un ##film, of which all or nothing is masked.
TEST_F(MaskedTexts, WholeWords) {
  facts_.whole_words = true;
  std::string text = "a unfilm";
  for (int i = 0; i < 5; ++i) text += " b c unfilm";
  const std::unique_ptr<BatchSource> data = Open(std::vector<std::string>(60, text));
  const int32_t un = *tokenizer_.Find("un"), film = *tokenizer_.Find("##film");
  int64_t words = 0;
  for (const Masked& masked : All(*data)) {
    EXPECT_EQ(masked.answers.size(), 3u);  // 0.15 * 23 = 3.45
    for (const auto& [place, answer] : masked.answers) {
      words += answer == un;
      if (answer == un) {
        EXPECT_EQ(masked.answers.count(place + 1), 1u);
      }
      if (answer == film) {
        EXPECT_EQ(masked.answers.count(place - 1), 1u);
      }
    }
  }
  EXPECT_GT(words, 20);
}

// Every word is longer than 15 % of the text: then one of the shortest is guessed.
TEST_F(MaskedTexts, OneWholeWordAtLeast) {
  facts_.whole_words = true;
  const std::unique_ptr<BatchSource> data =
      Open(std::vector<std::string>(20, "zebra unfilm zebra"));
  EXPECT_EQ(data->mask_rows(), 2);
  const std::map<int32_t, int32_t> unfilm{{6, *tokenizer_.Find("un")},
                                          {7, *tokenizer_.Find("##film")}};
  for (const Masked& text : All(*data)) EXPECT_EQ(text.answers, unfilm);
}

TEST_F(MaskedTexts, ATextWithoutWordsIsRefused) {
  EXPECT_THAT(MessageOf([&] { Open({"", "  "}); }), HasSubstr("expected texts"));
}

}  // namespace
}  // namespace graft::masked_texts_test
