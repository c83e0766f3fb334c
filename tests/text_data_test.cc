// Texts from TSV, CSV and JSON lines, their mistakes, and the loader's rows.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "data/text.h"
#include "data/text_loader.h"
#include "runtime/threads.h"
#include "tests/test_util.h"

namespace graft::text_data_test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Opens it with every split in order.
TextDataset Open(const TempDir& folder, const TextColumns& columns = {}) {
  TextDataset data(folder.path().string(), columns);
  for (const std::string& split : data.split_names()) data.Load(split);
  return data;
}

TEST(TextData, ATableBesideFoldersIsOfImages) {
  const TempDir folder;
  folder.Write("reviews.csv", "text,label\na,0\n");
  EXPECT_TRUE(HoldsTexts(folder.path().string()));
  std::filesystem::create_directory(folder.path() / ".cache");
  EXPECT_TRUE(HoldsTexts(folder.path().string()));
  std::filesystem::create_directory(folder.path() / "images");
  EXPECT_FALSE(HoldsTexts(folder.path().string()));
  folder.Write("dev.tsv", "good\t1\n");
  EXPECT_TRUE(HoldsTexts(folder.path().string()));
}

TEST(TextData, UsualLayout) {
  const TempDir folder;
  folder.Write("labels.txt", "negative\npositive\n\n");
  folder.Write("train.tsv",
               "\xef\xbb\xbf"
               "a \"fine\" film\t1\r\nbad , bad\tnegative\n\nso so\t0");
  folder.Write("dev.tsv", "good\tpositive\n");
  folder.Write("extra.tsv", "odd\t1\n");
  folder.Write("notes.md", "nothing");
  EXPECT_TRUE(HoldsTexts(folder.path().string()));
  const TextDataset data = Open(folder);
  EXPECT_THAT(data.split_names(), ElementsAre("train", "dev", "extra"));
  EXPECT_THAT(data.class_names(), ElementsAre("negative", "positive"));
  EXPECT_EQ(data.num_classes(), 2);
  EXPECT_FALSE(data.pairs());
  EXPECT_THAT(data.Load("train").examples,
              ElementsAre(TextExample{"a \"fine\" film", {}, 1}, TextExample{"bad , bad", {}, 0},
                          TextExample{"so so", {}, 0}));
  EXPECT_EQ(data.Load("train", 2).examples.size(), 2u);
  EXPECT_EQ(data.DefaultTrainSplit(), "train");
  EXPECT_EQ(data.DefaultValidationSplit(), "dev");
  EXPECT_EQ(data.DefaultEvalSplit(), "dev");
  EXPECT_EQ(MessageOf([&] { data.Load("trian"); }),
            folder.path().string() +
                ": there is no split 'trian'; did you mean 'train'?; it has "
                "train, dev, extra");
}

TEST(TextData, Pairs) {
  const TempDir folder;
  folder.Write("train.tsv", "one\ttwo\t0\n\tsecond only\t1\nfirst only\t\t1\n");
  folder.Write("test.csv", "one,\"two, and \"\"a half\"\"\n\",0\r\n\"\",x,2\n");
  const TextDataset data = Open(folder);
  EXPECT_TRUE(data.pairs());
  EXPECT_TRUE(data.class_names().empty());
  EXPECT_EQ(data.num_classes(), 3);
  EXPECT_EQ(data.Load("train").examples[1], (TextExample{"", "second only", 1}));
  EXPECT_EQ(data.Load("train").examples[2], (TextExample{"first only", "", 1}));  // still a pair
  EXPECT_NE(data.Load("train").examples[2], (TextExample{"first only", {}, 1}));
  EXPECT_THAT(data.Load("test").examples,
              ElementsAre(TextExample{"one", "two, and \"a half\"\n", 0}, TextExample{"", "x", 2}));
  EXPECT_EQ(data.DefaultEvalSplit(), "test");
  const TextSplit other{"b", {{"one", "two", 1}}};
  EXPECT_THAT(Overlap(data.Load("train"), other), ElementsAre(TextExample{"one", "two", 0}));
}

TEST(TextData, NamedColumns) {
  const TempDir folder;
  folder.Write("train.tsv", "label\tid\tsentence2\tsentence1\nyes\t7\tb\ta\nno\t8\td\tc\n");
  folder.Write("dev.jsonl",
               "{\"sentence1\": \"\\u00e9\", \"sentence2\": \"f\", \"label\": \"no\"}\n\n"
               "{\"label\": 1, \"sentence1\": \"g\", \"sentence2\": \"h\", \"more\": null}\n");
  const TextDataset data = Open(folder);
  EXPECT_TRUE(data.pairs());
  EXPECT_THAT(data.class_names(), ElementsAre("no", "yes"));
  EXPECT_THAT(data.Load("train").examples,
              ElementsAre(TextExample{"a", "b", 1}, TextExample{"c", "d", 0}));
  EXPECT_THAT(data.Load("dev").examples,
              ElementsAre(TextExample{"é", "f", 0}, TextExample{"g", "h", 1}));
  const TextDataset single = Open(folder, {.text = "sentence2"});
  EXPECT_FALSE(single.pairs());
  EXPECT_EQ(single.Load("train").examples[0], (TextExample{"b", {}, 1}));
  const TextDataset turned = Open(folder, {.text = "sentence2", .second = "sentence1"});
  EXPECT_EQ(turned.Load("train").examples[0], (TextExample{"b", "a", 1}));
}

TEST(TextData, AClassMayBeCalledLabel) {
  const TempDir folder;
  folder.Write("labels.txt", "label\nother\n");
  folder.Write("train.tsv", "no header\tlabel\n");
  EXPECT_EQ(Open(folder).Load("train").examples[0], (TextExample{"no header", {}, 0}));
}

TEST(TextData, NumbersMayBeNames) {
  const TempDir folder;
  folder.Write("labels.txt", "3\n1\n0\n");
  folder.Write("train.tsv", "a\t1\nb\t0\nc\t3.0\nd\t01\n");
  std::vector<int> labels;
  for (const TextExample& e : Open(folder).Load("train").examples) labels.push_back(e.label);
  EXPECT_THAT(labels, ElementsAre(1, 2, 0, 1));
  folder.Write("train.tsv", "a\t1\nb\t0\nc\t2\n");  // and is no place in the list of these
  EXPECT_THAT(MessageOf([&] { Open(folder).Load("train"); }),
              HasSubstr("train.tsv:3: unknown label '2'; known: 3, 1, 0"));
  folder.Write("labels.txt", "1\n01\n");
  folder.Write("train.tsv", "a\t1\nb\t01\nc\t001\n");
  EXPECT_THAT(MessageOf([&] { Open(folder).Load("train"); }),
              HasSubstr("train.tsv:3: unknown label '001'; did you mean '01'?"));
}

struct BadFile {
  std::string name, text, message;
};

TEST(TextData, Mistakes) {
  const BadFile files[] = {
      {"train.tsv", "", "train.tsv: expected texts with labels, found none"},
      {"train.tsv", "\n\n", "train.tsv: expected texts with labels, found none"},
      {"train.tsv", "text\tlabel\n", "train.tsv: expected texts with labels, found none"},
      {"train.tsv", "a\t0\nb c\n", "train.tsv:2: expected 2 columns, found 1"},
      {"train.tsv", "a\t0\n\nb\tc\t1\n", "train.tsv:3: expected 2 columns, found 3"},
      {"train.tsv", "a\tb\tc\td\n", "train.tsv:1: expected 2 or 3 columns"},
      {"train.tsv", "only text\n", "train.tsv:1: expected 2 or 3 columns"},
      {"train.tsv", "a\tgood\nb\t\n", "train.tsv:2: the label is empty"},
      {"train.tsv", "a\tgodo\n", "train.tsv:1: unknown label 'godo'; did you mean 'good'?"},
      {"train.tsv", "Meinung\tUrteil\na b\tgood\n",
       "train.tsv:1: unknown label 'Urteil'; known: bad, good; hint: if the line names the "
       "columns, "
       "--columns TEXT,LABEL with these names"},
      {"train.tsv", "a\t2\n", "train.tsv:1: expected a label from 0 to 1, found '2'"},
      {"train.tsv", "a\t-1\n", "train.tsv:1: expected a label from 0 to 1, found '-1'"},
      {"train.tsv", "a\t99999999999999999999\n", "expected a label from 0 to 1"},
      {"train.tsv", "a\t1.5\n", "train.tsv:1: expected a label from 0 to 1, found '1.5'"},
      {"train.tsv", "text\ttext\tlabel\na\tb\t0\n",
       "train.tsv:1: two columns have the name 'text'"},
      {"train.tsv", "words\tmore\tlabel\na\tb\t0\n",
       "train.tsv:1: expected a column 'text', found words, more, label; hint: name the columns "
       "with --columns"},
      {"train.tsv", "a\t0\ncaf\xe9\t1\n",
       "train.tsv:2: expected UTF-8, found byte 0xe9; hint: if it is Latin-1, iconv -f ISO-8859-1"},
      {"train.tsv", "\x93quoted\x94\t1\n", "iconv -f WINDOWS-1252"},
      {"train.tsv",
       std::string("\xff\xfe"
                   "a\0\t\0",
                   6),
       "train.tsv: expected UTF-8, found UTF-16"},
      {"train.tsv", std::string("a\0\t\0", 4), "train.tsv:1: expected UTF-8, found a NUL byte"},
      {"train.tsv", "\x1f\x8b\x08", "train.tsv: expected text, found a gzip file"},
      {"train.csv", "a,0\n\"b\nc,1\n", "train.csv:2: a quote is opened and never closed"},
      {"train.csv", "a,0\n\"b\nc\"d,1\n", "train.csv:3: expected a comma or the end of the line"},
      {"train.csv", "a,0\nb\"c, d\",1\n", "train.csv:2: expected 2 columns, found 3"},
      {"train.csv", "a,0\nb,c,1\n", "train.csv:2: expected 2 columns, found 3"},
      {"train.csv", "\"a\n\nb\",0\nc\n", "train.csv:4: expected 2 columns, found 1"},
      {"train.jsonl", "{\"text\": \"a\", \"label\": 0}\n[1]\n",
       "train.jsonl:2: expected an object"},
      {"train.jsonl", "{\"text\": \"a\"}\n",
       "train.jsonl:1: expected a column 'label', found text"},
      {"train.jsonl", "{\"text\": 5, \"label\": 0}\n", "train.jsonl:1: 'text': expected a string"},
      {"train.jsonl", "{\"text\": \"a\", \"label\": 0.5}\n",
       "train.jsonl:1: expected a label from 0 to 1, found '0.5'"},
      {"train.jsonl", "{\"text\": \"a\", \"label\": null}\n", "train.jsonl:1: the label is empty"},
      {"train.jsonl", "{\"text\": \"a\", \"label\": 0}\n{\"txt\": \"a\", \"label\": 0}\n",
       "train.jsonl:2: expected a key 'text'; did you mean 'txt'?"},
      {"train.jsonl", "{\"text\": \"a\", \"label\": 0\n", "train.jsonl:1: parse error"},
      {"train.txt", "a 0\n", "expected texts such as train.tsv"},
      {"labels.txt", "a\nb\na\n", "labels.txt:3: the class 'a' is in line 1 too"},
      {"labels.txt", "\n", "labels.txt: expected a class name per line"},
      {"labels.txt", "caf\xe9\n", "labels.txt:1: expected UTF-8"},
  };
  for (const BadFile& file : files) {
    const TempDir folder;
    folder.Write("labels.txt", "bad\ngood\n");
    if (file.name == "labels.txt") folder.Write("train.tsv", "a\t0\n");
    folder.Write(file.name, file.text);
    EXPECT_THAT(MessageOf([&] { Open(folder); }), HasSubstr(file.message)) << file.text;
  }
}

TEST(TextData, MistakesBetweenFiles) {
  const TempDir folder;
  EXPECT_THAT(MessageOf([&] { TextDataset(folder / "none"); }), HasSubstr("does not exist"));
  folder.Write("train.tsv", "a\tyes\nb\tno\n");
  folder.Write("dev.tsv", "a\tyse\n");
  EXPECT_THAT(MessageOf([&] { Open(folder); }),
              HasSubstr("dev.tsv:1: unknown label 'yse'; did you mean 'yes'?"));
  folder.Write("dev.tsv", "a\tb\tyes\n");
  EXPECT_THAT(MessageOf([&] { Open(folder); }), HasSubstr("dev.tsv: expected single texts as in"));
  folder.Write("dev.tsv", "a\tyes\n");
  EXPECT_THAT(MessageOf([&] { Open(folder, {.text = "txet"}); }),
              HasSubstr("train.tsv:1: there is no column 'txet'"));
  folder.Write("train.csv", "a,yes\n");
  EXPECT_THAT(MessageOf([&] { Open(folder); }),
              HasSubstr("two files of the split 'train': train.csv and train.tsv"));
}

// GLUE has tests without labels beside its training and validation texts.
TEST(TextData, SplitsThatNobodyAsksForMayBeOfAnotherKind) {
  const TempDir folder;
  const std::string path = folder.path().string();
  folder.Write("train.tsv", "sentence\tlabel\na\t0\nb\t1\n");
  folder.Write("test.tsv", "index\tsentence\n0\ta\n1\tb\n");
  const TextDataset data(path);
  EXPECT_THAT(data.split_names(), ElementsAre("train"));
  EXPECT_EQ(data.num_classes(), 2);
  EXPECT_EQ(data.Load("train").examples.size(), 2u);
  EXPECT_THAT(MessageOf([&] { data.Load("test"); }),
              HasSubstr("test.tsv: it has no column 'label'; graft predict reads texts"));
  folder.Write("train.tsv", "a\n");
  EXPECT_THAT(MessageOf([&] { TextDataset again(path); }), HasSubstr("train.tsv:1: expected 2"));
  folder.Write("labels.txt", "no\nyes\n");
  folder.Write("dev.tsv", "a\tyes\n");
  const TextDataset named(path);
  EXPECT_EQ(named.Load("dev").examples[0].label, 1);
  EXPECT_THAT(MessageOf([&] { named.Load("train"); }), HasSubstr("train.tsv:1: expected 2"));
}

TEST(TextData, ClassNumbersAreFewerThanTexts) {
  const TempDir folder;
  folder.Write("train.tsv", "a\t0\nb\t99999\n");
  const TextDataset data(folder.path().string());
  EXPECT_EQ(data.num_classes(), 1);
  EXPECT_THAT(MessageOf([&] { data.Load("train"); }),
              HasSubstr("train.tsv:2: expected a class number below 2, the number of texts, found "
                        "'99999'; hint: --task regression learns quantities"));
}

TEST(TextData, NamesTheFileOfAnotherFormat) {
  const TempDir folder;
  const std::string path = folder.path().string();
  folder.Write("images.json", "");
  EXPECT_EQ(NearlyTexts(path), "");
  folder.Write("train.XLSX", "");
  EXPECT_FALSE(HoldsTexts(path));
  EXPECT_EQ(NearlyTexts(path), folder / "train.XLSX");
}

TEST(TextData, SharedDataSets) {
  const char* shared = std::getenv("GRAFT_DATA");
  if (!shared) GTEST_SKIP() << "GRAFT_DATA is not set";
  size_t sets = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(shared) / "data" / "text")) {
    const TextDataset data(entry.path().string());
    EXPECT_THAT(data.split_names(), ElementsAre("train", "dev"));
    EXPECT_EQ(data.num_classes(), static_cast<int>(data.class_names().size()));
    const std::string name = entry.path().filename().string();
    EXPECT_EQ(data.pairs(), name == "mrpc" || name == "rte") << name;
    ++sets;
  }
  EXPECT_EQ(sets, 11u);
}

// A text of n letters becomes n + 1 tokens: 100, then letter numbers; a second text has type 1.
TokenSequence Letters(const TextExample& e) {
  TokenSequence s{{100}, {0}};
  for (char c : e.text) s.ids.push_back(c - 'a'), s.types.push_back(0);
  for (char c : e.second.value_or("")) s.ids.push_back(c - 'a'), s.types.push_back(1);
  return s;
}

struct Buffers {
  std::vector<int32_t> ids, types, positions, offsets, labels;
  TextBatch Fit(size_t sequences, size_t rows) {
    for (auto* v : {&ids, &types, &positions}) v->assign(rows, -1);
    offsets.assign(sequences + 1, -1);
    labels.assign(sequences, -1);
    return {ids.data(), types.data(), positions.data(), offsets.data(), labels.data()};
  }
};

TEST(TextLoader, RowsWithoutPadding) {
  const std::vector<TextExample> examples = {{"abc", {}, 0}, {"", {}, 1}, {"b", "cd", 2}};
  TextLoader loader(examples, Letters);
  EXPECT_EQ(loader.size(), 3u);
  EXPECT_EQ(loader.longest(), 4u);
  Buffers b;
  EXPECT_EQ(loader.Write(std::vector<size_t>{2, 0, 1}, b.Fit(3, 9)), 9u);
  EXPECT_THAT(b.ids, ElementsAre(100, 1, 2, 3, 100, 0, 1, 2, 100));
  EXPECT_THAT(b.types, ElementsAre(0, 0, 1, 1, 0, 0, 0, 0, 0));
  EXPECT_THAT(b.positions, ElementsAre(0, 1, 2, 3, 0, 1, 2, 3, 0));
  EXPECT_THAT(b.offsets, ElementsAre(0, 4, 8, 9));
  EXPECT_THAT(b.labels, ElementsAre(2, 0, 1));
  TextBatch without = b.Fit(1, 4);
  without.labels = nullptr;
  EXPECT_EQ(loader.Write(std::vector<size_t>{2}, without), 4u);
  EXPECT_THAT(b.labels, ElementsAre(-1));
  EXPECT_EQ(loader.Write({}, b.Fit(0, 0)), 0u);
  EXPECT_THAT(b.offsets, ElementsAre(0));
}

// The row that a masked-LM head reads is counted from the first of the batch.
TEST(TextLoader, RowsOfMasks) {
  const std::vector<TextExample> examples = {{"abc", {}, 0}, {"b", "cd", 2}};
  const auto last = [](const TextExample& e) {
    TokenSequence s = Letters(e);
    s.mask = static_cast<int32_t>(s.ids.size()) - 1;
    return s;
  };
  const TextLoader loader(examples, last);
  Buffers b;
  TextBatch batch = b.Fit(2, 8);
  std::vector<int32_t> masks(2);
  batch.masks = masks.data();
  loader.Write(std::vector<size_t>{1, 0}, batch);
  EXPECT_THAT(masks, ElementsAre(b.offsets[1] - 1, b.offsets[2] - 1));
}

TEST(TextLoader, SameForAnyNumberOfThreads) {
  std::vector<TextExample> examples;
  for (int i = 0; i < 1000; ++i)
    examples.push_back(
        {std::string(static_cast<size_t>(i % 17), static_cast<char>('a' + i % 26)), {}, i});
  std::vector<size_t> order(examples.size());
  std::iota(order.rbegin(), order.rend(), 0);
  const int before = Threads();
  Buffers first, other;
  for (int threads : {1, 3}) {
    SetThreads(threads);
    TextLoader loader(examples, Letters);
    Buffers& b = threads == 1 ? first : other;
    loader.Write(order, b.Fit(1000, 1000 * loader.longest()));
  }
  EXPECT_EQ(first.ids, other.ids);
  EXPECT_EQ(first.offsets, other.offsets);
  EXPECT_EQ(first.labels, other.labels);
  EXPECT_EQ(first.labels[0], 999);
  // The error of the first example in order, whichever thread comes first.
  const auto fail = [](const TextExample& e) -> TokenSequence {
    if (e.label >= 300) Fail("example {}", e.label);
    return Letters(e);
  };
  EXPECT_EQ(MessageOf([&] { TextLoader(examples, fail); }), "example 300");
  SetThreads(before);
}

}  // namespace
}  // namespace graft::text_data_test
