// Tables whose labels are numbers or several classes: every way to write them, and what is refused.
#include "data/text_targets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/dataset.h"
#include "data/image_places.h"
#include "data/split_files.h"
#include "tests/test_util.h"

namespace graft::text_targets_test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Words = std::vector<std::string>;
using Floats = std::vector<float>;

constexpr LabelKind kNumbers = LabelKind::kNumbers, kClasses = LabelKind::kClasses;

struct Table {
  std::string name, file, text, columns;
  LabelKind kind;
  Words names;
  std::vector<Floats> targets;
};

const Table kTables[] = {
    {"a number", "train.csv", "text,score\na,0.5\nb,-2\n", "", kNumbers, {"score"}, {{0.5}, {-2}}},
    {"any name", "train.csv", "text,beauty\na,1\nb,3e1\n", "", kNumbers, {"beauty"}, {{1}, {30}}},
    {"no header", "train.tsv", "a\t1\nb\t2.5\n", "", kNumbers, {"target"}, {{1}, {2.5}}},
    {"whole numbers and blanks",
     "train.csv",
     "text,label\na, 7\nb,8 \n",
     "",
     kNumbers,
     {"label"},
     {{7}, {8}}},
    {"pairs", "train.tsv", "a\tb\t1.5\nc\td\t2\n", "", kNumbers, {"target"}, {{1.5}, {2}}},
    {"two columns",
     "train.csv",
     "x,text,y\n1,a,2\n3,b,4\n",
     "text,y|x",
     kNumbers,
     {"y", "x"},
     {{2, 1}, {4, 3}}},
    {"two columns by number",
     "train.csv",
     "1,a,2\n3,b,4\n",
     "2,1|3",
     kNumbers,
     {"target_1", "target_2"},
     {{1, 2}, {3, 4}}},
    {"two columns by number below names",
     "train.csv",
     "x,text,y\n1,a,2\n3,b,4\n",
     "2,1|3",
     kNumbers,
     {"x", "y"},
     {{1, 2}, {3, 4}}},
    {"a name with a bar",
     "train.csv",
     "text,a|b\nx,1\ny,2\n",
     "text,a|b",
     kNumbers,
     {"a|b"},
     {{1}, {2}}},
    {"an array",
     "train.jsonl",
     "{\"text\":\"a\",\"label\":[1,2.5]}\n{\"text\":\"b\",\"label\":[3,4]}\n",
     "",
     kNumbers,
     {"label_1", "label_2"},
     {{1, 2.5}, {3, 4}}},
    {"numbers of JSON",
     "train.jsonl",
     "{\"text\":\"a\",\"u\":1,\"v\":2}\n{\"text\":\"b\",\"u\":3,\"v\":4}\n",
     "text,u|v",
     kNumbers,
     {"u", "v"},
     {{1, 2}, {3, 4}}},
    {"names",
     "train.csv",
     "text,labels\na,red|big\nb,\nc,big\n",
     "",
     kClasses,
     {"big", "red"},
     {{1, 1}, {0, 0}, {1, 0}}},
    {"names without a header",
     "train.tsv",
     "a one\tred | big\nb two\tbig\nc three\t\nd\tred\n",
     "",
     kClasses,
     {"big", "red"},
     {{1, 1}, {1, 0}, {0, 0}, {0, 1}}},
    {"numbers as names",
     "train.csv",
     "text,label\na,10|2\nb,2\n",
     "",
     kClasses,
     {"2", "10"},
     {{1, 1}, {1, 0}}},
    {"columns of yes and no",
     "train.csv",
     "text,toxic,insult\na,0,1\nb,True,0.0\n",
     "text,toxic|insult",
     kClasses,
     {"toxic", "insult"},
     {{0, 1}, {1, 0}}},
    {"an array of names",
     "train.jsonl",
     "{\"text\":\"a\",\"label\":[\"x|y\",\"z\"]}\n{\"text\":\"b\",\"label\":[]}\n",
     "",
     kClasses,
     {"x|y", "z"},
     {{1, 1}, {0, 0}}},
    {"one name as text",
     "train.jsonl",
     "{\"text\":\"a\",\"label\":\"z\"}\n{\"text\":\"b\",\"label\":[\"y\"]}\n",
     "",
     kClasses,
     {"y", "z"},
     {{0, 1}, {1, 0}}},
};

TEST(TextTargets, TablesAreReadInEveryForm) {
  for (const Table& t : kTables) {
    SCOPED_TRACE(t.name);
    const TempDir folder;
    folder.Write(t.file, t.text);
    const TextDataset data(folder.path().string(), ParseTextColumns(t.columns), false,
                           {.kind = t.kind});
    EXPECT_EQ(data.class_names(), t.names);
    std::vector<Floats> targets;
    for (const TextExample& e : data.Load("train").examples) targets.push_back(e.targets);
    EXPECT_EQ(targets, t.targets);
  }
}

TEST(TextTargets, ClassesOfAFileAndOfACaller) {
  const TempDir folder;
  folder.Write("train.csv", "text,label\na,red\nb,big|red\n");
  folder.Write("labels.txt", "big\ntall\nred\n");
  const TextDataset file(folder.path().string(), {}, false, {.kind = kClasses});
  EXPECT_THAT(file.class_names(), ElementsAre("big", "tall", "red"));
  EXPECT_EQ(file.Load("train").examples[1].targets, (Floats{1, 0, 1}));
  const TextDataset asked(folder.path().string(), {}, false, {kClasses, {"red", "big"}});
  EXPECT_EQ(asked.Load("train").examples[0].targets, (Floats{1, 0}));
  // Columns of yes and no are found by their names.
  folder.Write("train.csv", "text,red,big\na,1,0\n");
  const TextDataset flags(folder.path().string(), ParseTextColumns("text,red|big"), false,
                          {.kind = kClasses});
  EXPECT_EQ(flags.Load("train").examples[0].targets, (Floats{0, 0, 1}));
}

struct Refused {
  std::string name, file, text, columns;
  LabelKind kind;
  std::string says;
};

const Refused kRefused[] = {
    {"no number", "train.csv", "text,score\na,1\nb,high\n", "", kNumbers,
     "train.csv:3: expected a number as 'score', found 'high'"},
    {"missing", "train.csv", "text,score\na,1\nb,nan\n", "", kNumbers,
     "train.csv:3: the label is 'nan'"},
    {"empty", "train.csv", "text,score\na,1\nb,\n", "", kNumbers,
     "train.csv:3: the label is empty"},
    {"infinite", "train.csv", "text,score\na,1\nb,1e39\n", "", kNumbers, "found '1e39'"},
    {"fewer", "train.jsonl", "{\"text\":\"a\",\"label\":[1,2]}\n{\"text\":\"b\",\"label\":[1]}\n",
     "", kNumbers, "train.jsonl:2: expected 2 numbers (label_1, label_2), found 1"},
    {"text in an array", "train.jsonl", "{\"text\":\"a\",\"label\":[1,\"2\"]}\n", "", kNumbers,
     "expected an array of numbers"},
    {"a column twice", "train.csv", "text,a,b\nx,1,2\n", "text,a|b|a", kNumbers, "names 'a' twice"},
    {"no column", "train.csv", "text,a,b\nx,1,2\n", "text,a|c", kNumbers, "there is no column 'c'"},
    {"null", "train.jsonl", "{\"text\":\"a\",\"label\":null}\n", "", kClasses,
     "an empty array or text stands for no class"},
    {"missing among names", "train.csv", "text,label\na,red\nb,red|NA\n", "", kClasses,
     "train.csv:3: the label is 'NA'"},
    {"neither 0 nor 1", "train.csv", "text,a,b\nx,1,2\n", "text,a|b", kClasses,
     "train.csv:2: expected 0 or 1 as 'b', found '2'"},
    {"no label at all", "train.csv", "text,label\na,\nb,\n", "", kClasses, "expected labels"},
    {"an array for one class", "train.jsonl", "{\"text\":\"a\",\"label\":[\"x\"]}\n", "",
     LabelKind::kClass, "hint: --task multi-label reads several classes, --task regression"},
    {"columns for one class", "train.csv", "text,a,b\nx,1,2\n", "text,a|b", LabelKind::kClass,
     "--columns: 2 columns of labels; hint: --task regression"},
    {"numbers for one class", "train.csv", "text,label\na,1.5\nb,2.5\n", "", LabelKind::kClass,
     "train.csv:2: the label '1.5' is no class, which are names or whole numbers; hint: --task "
     "regression"},
};

TEST(TextTargets, WhatIsRefused) {
  for (const Refused& t : kRefused) {
    SCOPED_TRACE(t.name);
    const TempDir folder;
    folder.Write(t.file, t.text);
    EXPECT_THAT(MessageOf([&] {
                  TextDataset(folder.path().string(), ParseTextColumns(t.columns), false,
                              {.kind = t.kind})
                      .Load("train");
                }),
                HasSubstr(t.says));
  }
}

TEST(TextTargets, OtherColumnsInAnotherSplit) {
  const TempDir folder;
  folder.Write("train.csv", "text,label\na,red\nb,big\n");
  folder.Write("dev.csv", "text,label\na,blue\nb,big\n");
  const TextDataset data(folder.path().string(), {}, false, {.kind = kClasses});
  EXPECT_THAT(MessageOf([&] { data.Load("dev"); }), HasSubstr("dev.csv:2: unknown label 'blue'"));
}

TEST(TextTargets, TheDataTellTheKindOnlyWhereNothingElseCanBeMeant) {
  const auto tell = [](const std::string& file, const std::string& text) {
    const TempDir folder;
    folder.Write(file, text);
    return TellLabelKind(folder.path().string(), {});
  };
  EXPECT_EQ(
      tell("train.jsonl", "{\"text\":\"a\",\"label\":[]}\n{\"text\":\"a\",\"label\":[\"x\"]}\n"),
      kClasses);
  EXPECT_EQ(
      tell("train.jsonl", "{\"text\":\"a\",\"label\":[1,2]}\n{\"text\":\"a\",\"label\":[1.5]}\n"),
      kNumbers);
  EXPECT_THAT(MessageOf([&] { tell("train.jsonl", "{\"text\":\"a\",\"label\":[1,0]}\n"); }),
              HasSubstr("hint: --task regression if they are quantities, --task multi-label if"));
  for (const char* text :
       {"{\"text\":\"a\",\"label\":1.5}\n", "[1]\n", "{\n", "{\"text\":\"a\"}\n"})
    EXPECT_EQ(tell("train.jsonl", text), LabelKind::kClass) << text;
  EXPECT_EQ(tell("train.csv", "text,label\na,0.5\n"), LabelKind::kClass);
  EXPECT_EQ(TellLabelKind("/none", {}), LabelKind::kClass);
}

TEST(TextTargets, WrittenTablesAreReadAgain) {
  for (const LabelKind kind : {kNumbers, kClasses}) {
    const TempDir from, to;
    from.Write("train.csv",
               kind == kNumbers ? "text,u,v\na,0.1,2\nb,-3e-7,4\n" : "text,u,v\na,0,1\nb,0,0\n");
    const TextDataset data(from.path().string(), ParseTextColumns("text,u|v"), false,
                           {.kind = kind});
    WriteTextTables(to.path().string(), data.class_names(), {data.Load("train")}, kind);
    const TextDataset again(to.path().string(),
                            ParseTextColumns(kind == kNumbers ? "text,u|v" : ""), false,
                            {.kind = kind});
    EXPECT_EQ(again.class_names(), data.class_names());
    EXPECT_EQ(again.Load("train").examples, data.Load("train").examples);
  }
}

TEST(TextTargets, ATableOfImages) {
  const TempDir folder;
  folder.Write("labels.csv", "file,score\na/one.jpg,0.5\ntwo.PNG,2\n");
  const std::string path = folder / "labels.csv";
  const TextDataset tables(path, {}, false, {.kind = kNumbers});
  ASSERT_TRUE(NamesImages(tables));
  ImageDataset images(tables);
  images.AllowMissing();
  EXPECT_EQ(images.kind(), kNumbers);
  EXPECT_THAT(images.class_names(), ElementsAre("score"));
  const Split split = images.Load(images.DefaultTrainSplit());
  ASSERT_EQ(split.examples.size(), 2u);
  EXPECT_EQ(split.examples[0].path, folder / "a/one.jpg");
  EXPECT_EQ(split.examples[1].targets, (Floats{2}));
  folder.Write("labels.csv", "text,score\na film.jpg,0.5\nanother,2\n");
  EXPECT_FALSE(NamesImages(TextDataset(path, {}, false, {.kind = kNumbers})));
}

}  // namespace
}  // namespace graft::text_targets_test
