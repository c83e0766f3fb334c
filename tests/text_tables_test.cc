// Tables as people have them: headers of any names, labels in the ways in which programs write
// them, and what is refused or told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/text_tables_testing.h"

namespace graft::text_tables_test {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

using Words = std::vector<std::string>;

std::string Reviews() {
  std::string rows;
  for (int i = 0; i < 3; ++i)
    rows += "\"good, very\",pos\n\"bad\",neg\n\"he said \"\"no\"\"\",neg\n\"two\nlines\",pos\n";
  return rows;
}

using Table = TextTableCase;

std::vector<Table> Tables() {
  const std::string r = Reviews(), first = "good, very";
  const Words sentiments{"neg", "pos"};
  return {
      {"no header", "train.csv", r, "", 12, sentiments, first, ""},
      {"review", "train.csv", "review,sentiment\n" + r, "", 12, sentiments, first, ""},
      {"category", "train.csv", "text,category\n" + r, "", 12, sentiments, first, ""},
      {"is_positive", "train.csv", "sentence,is_positive\n" + r, "", 12, sentiments, first, ""},
      {"quoted", "train.csv", "\"text\",\"label\"\n" + r, "", 12, sentiments, first, ""},
      {"capitals", "train.csv", "Text,Label\n" + r, "", 12, sentiments, first, ""},
      {"one known name", "train.csv", "Comment,Wertung\n" + r, "", 12, sentiments, first,
       "train.csv:1: names the columns"},
      {"a class that repeats is no header", "train.csv", "review,pos\n" + r, "", 13, sentiments,
       "review", ""},
      {"label first by name", "train.tsv", "label\ttext\npos\tgood film\nneg\tbad film\n", "", 2,
       sentiments, "good film", ""},
      {"index column", "train.csv", ",text,label\n0,a film,pos\n1,b film,neg\n", "", 2, sentiments,
       "a film", ""},
      {"index column beside another name", "train.csv", ",a,label\n0,a film,pos\n1,b film,neg\n",
       "", 2, sentiments, "a film", ""},
      {"more columns", "train.csv",
       "id,tweet,user,airline_sentiment\n1,\"a, b\",me,pos\n2,c,me,neg\n", "", 2, sentiments,
       "a, b", ""},
      {"pandas without names", "train.csv", "0,1\ngood,pos\nbad,neg\n", "", 2, sentiments, "good",
       ""},
      {"numbers below any name",
       "train.tsv",
       "Kommentar\tWertung\nsehr gut\t1\nso so\t0\n",
       "",
       2,
       {},
       "sehr gut",
       "'Kommentar' and the label 'Wertung' are read"},
      {"words above sentences", "train.tsv",
       "Kommentar\tWertung\nsehr gut\tpos\nso so\tneg\nnicht gut\tneg\n", "", 3, sentiments,
       "sehr gut", "names the columns: 'Kommentar'"},
      {"asked for", "train.csv", "a,b,c\nx,good,pos\ny,bad,neg\n", "b,c", 2, sentiments, "good",
       ""},
      {"asked in another case", "train.csv", "A,B,C\nx,good,pos\ny,bad,neg\n", "b,c", 2, sentiments,
       "good", ""},
      {"by number", "train.tsv", "pos\tgood film\nneg\tbad film\npos\tfine film\n", "2,1", 3,
       sentiments, "good film", ""},
      {"by number below a header", "train.tsv", "label\ttext\npos\tgood film\nneg\tbad film\n",
       "2,1", 2, sentiments, "good film", ""},
      {"by number, the only one of its class",
       "train.csv",
       "odd thing,rare\n" + r,
       "1,2",
       13,
       {"neg", "pos", "rare"},
       "odd thing",
       "the only one of the class 'rare'"},
      {"semicolons", "train.csv", "text;label\na, b;pos\n\"c;d\";neg\n", "", 2, sentiments, "a, b",
       ""},
      {"a semicolon in the first text", "train.csv", "\"a; \nb\",pos\nc,neg\nd,pos\n", "", 3,
       sentiments, "a; \nb", ""},
      {"floats", "train.tsv", "good\t1.0\nbad\t0.0\nfine\t1\n", "", 3, {}, "good", ""},
      {"floats in JSON",
       "train.jsonl",
       "{\"text\": \"good\", \"label\": 1.0}\n{\"text\": \"bad\", \"label\": 0}\n",
       "",
       2,
       {},
       "good",
       ""},
      {"zeros in front",
       "train.tsv",
       "a\t01\nb\t1\nc\t10\nd\t02\n",
       "",
       4,
       {"01", "1", "02", "10"},
       "a",
       ""},
      {"zeros in front in JSON",
       "train.jsonl",
       "{\"text\": \"a\", \"label\": \"00\"}\n{\"text\": \"b\", \"label\": \"01\"}\n",
       "",
       2,
       {"00", "01"},
       "a",
       ""},
      {"parts of one are no zeros in front", "train.tsv", "a\t0.0\nb\t1\n", "", 2, {}, "a", ""},
      {"truth in JSON",
       "train.jsonl",
       "{\"review\": \"good\", \"is_positive\": true}\n{\"review\": \"bad\", \"is_positive\": "
       "false}\n",
       "",
       2,
       {"false", "true"},
       "good",
       ""},
      {"blanks around labels", "train.csv", "good, pos\nbad,neg\nfine,pos\n", "", 3, sentiments,
       "good", ""},
      {"numbers before names",
       "train.tsv",
       "a\t10\nb\t2\nc\tother\nd\t1\ne\t10\n",
       "",
       5,
       {"1", "2", "10", "other"},
       "a",
       ""},
      {"a TSV in quotes", "train.tsv",
       "\"text\"\t\"label\"\n\"he said \"\"no\"\"\"\t\"neg\"\n\"good\"\t\"pos\"\n", "", 2,
       sentiments, "he said \"no\"", ""},
      {"quoted texts in a TSV",
       "train.tsv",
       "text\tlabel\n\"he said \"\"no\"\"\"\t0\n\"good\"\t1\n",
       "",
       2,
       {},
       "he said \"no\"",
       ""},
      {"from 1", "train.tsv", "a\t1\nb\t2\nc\t3\nd\t1\n", "", 4, {}, "a", "labels begin at 1"},
      {"a gap",
       "train.tsv",
       "a\t0\nb\t3\nc\t0\nd\t3\n",
       "",
       4,
       {},
       "a",
       "2 of the 4 classes have no example: '1', '2'"},
      {"in two cases",
       "train.tsv",
       "a\tGood\nb\tgood\nc\tbad\n",
       "",
       3,
       {"Good", "bad", "good"},
       "a",
       "the classes 'Good' and 'good' differ only in case"},
      {"two labels",
       "train.tsv",
       "a\tgood\na\tbad\nc\tbad\nd\tgood\n",
       "",
       4,
       {"bad", "good"},
       "a",
       "1 text with two labels (the first is 'a' as 'good' and 'bad')"},
      {"capital extension", "train.CSV", "good,pos\nbad,neg\n", "", 2, sentiments, "good", ""},
      {"one example of a class", "train.tsv",
       "a\tpos\nb\tpos\nc\tpos\nd\tpos\ne\tpos\nf\tpos\ng\tpos\nh\tpos\ni\tpos\nj\tpos\nk\tneg\n",
       "", 11, sentiments, "a", "the class 'neg' has a single example"},
      {"quotes inside a field", "train.csv", "he said \"1\" ok,neg\ngood,pos\n", "", 2, sentiments,
       "he said \"1\" ok", ""},
      {"a class called none",
       "train.tsv",
       "a\tnone\nb\tNone\nc\tsome\n",
       "",
       3,
       {"None", "none", "some"},
       "a",
       "'None' and 'none'"},
  };
}

TEST(TextTables, AreRead) {
  for (const Table& t : Tables()) ExpectRead(t);
}

struct Refused {
  std::string name, file, text, columns;
  Words says;
};

TEST(TextTables, AreRefused) {
  const std::string r = Reviews();
  const Refused tables[] = {
      {"only in line 1",
       "train.csv",
       "odd thing,rare\n" + r,
       "",
       {"train.csv:1: does this line name the columns, or is it the only example of the class "
        "'rare'? hint: --columns odd thing,rare if it names them, --columns 1,2 if it is an "
        "example"}},
      {"label first",
       "train.tsv",
       "pos\tgood film\nneg\tbad film\npos\tfine film\n",
       "",
       {"train.tsv: the label seems to stand first: column 1 has 2 different values, column 2 has "
        "3; hint: --columns 2,1 if it does, --columns 1,2 if not"}},
      {"label first below any name",
       "train.tsv",
       "Wertung\tKommentar\npos\tgood film\nneg\tbad film\npos\tfine film\n",
       "",
       {"the label seems to stand first", "--columns Kommentar,Wertung", "2,1"}},
      {"no column left for the label",
       "train.csv",
       "id,text\n1,a b\n2,c d\n",
       "",
       {"expected a column 'label', found id, text", "graft predict reads texts without labels"}},
      {"a sentence is no name of a column",
       "train.csv",
       "good,\"so, so\"\npos,good film\nneg,bad film\npos,fine film\n",
       "",
       {"the label seems to stand first", "--columns 1,2 if not"}},
      {"empty",
       "train.tsv",
       "good\tpos\nbad\tneg\nwhat\t\nso\tpos\n",
       "",
       {"train.tsv:3: the label is empty; hint: --skip-bad leaves such rows out"}},
      {"blank", "train.tsv", "good\tpos\nbad\tneg\nwhat\t \n", "", {"train.tsv:3: the label is"}},
      {"nan",
       "train.csv",
       "text,label\ngood,1.0\nbad,nan\n",
       "",
       {"train.csv:3: the label is 'nan', which stands for a missing one"}},
      {"NaN in numbers", "train.tsv", "good\t1\nbad\t0\nwhat\tNaN\n", "", {"train.tsv:3", "'NaN'"}},
      {"null",
       "train.jsonl",
       "{\"text\": \"a\", \"label\": \"x\"}\n{\"text\": \"b\", \"label\": "
       "null}\n",
       "",
       {"train.jsonl:2: the label is empty"}},
      {"several",
       "train.tsv",
       "good\tpos\nbad\tneg\nwhat\t\nso\tpos\nx\ny\tnan\n",
       "",
       {"train.tsv:5: expected 2 columns, found 1; 3 rows of the file are wrong, which graft data "
        "check lists"}},
      {"half",
       "train.tsv",
       "good\t1\nbad\t0\nso so\t0.5\n",
       "",
       {"train.tsv:3: the label '0.5' is no class"}},
      {"no such number",
       "train.tsv",
       "good\t1\nbad\t0\n",
       "3,1",
       {"train.tsv:1: --columns asks for column 3, expected 1 to 2"}},
      {"which text",
       "train.csv",
       "title,body,label\na,b,x\nc,d,y\n",
       "",
       {"train.csv:1: which column is the text: title or body? hint: name it, --columns"}},
      {"which label",
       "train.csv",
       "text,topic,sentiment\na,b,x\nc,d,y\n",
       "",
       {"train.csv:1: which column is the label: topic or sentiment?"}},
      {"no name of three",
       "train.csv",
       "x,y2,label\na,b,c\n",
       "",
       {"train.csv:1: expected a column 'text', found x, y2, label; hint: name the columns with "
        "--columns"}},
      {"commas without quotes",
       "train.csv",
       "text,label\ngood, very,pos\nbad,neg\n",
       "",
       {"train.csv:2: expected 2 columns, found 3; hint: a text with commas stands in quotes"}},
      {"one name twice", "train.csv", "text,label\na,b\n", "text,text", {"names 'text' twice"}},
  };
  for (const Refused& t : tables) {
    SCOPED_TRACE(t.name);
    const TempDir folder;
    folder.Write(t.file, t.text);
    const std::string message = MessageOf(
        [&] { TextDataset(folder.path().string(), ParseTextColumns(t.columns)).Load("train"); });
    for (const std::string& word : t.says) EXPECT_THAT(message, HasSubstr(word));
  }
}

TEST(TextTables, BadRowsAreLeftOutWhenAsked) {
  const TempDir folder;
  folder.Write("train.tsv", "good\tpos\nbad\tneg\nwhat\t\nso\tpos\nx\ny\tnan\n");
  const TextDataset data(folder.path().string(), {}, true);
  EXPECT_EQ(data.Load("train").examples.size(), 3u);
  const auto problems = data.problems("train");
  EXPECT_EQ(problems.count, 3u);
  EXPECT_THAT(problems.first, ElementsAre(HasSubstr("train.tsv:5: expected 2 columns"),
                                          HasSubstr("train.tsv:3: the label is empty"),
                                          HasSubstr("train.tsv:6: the label is 'nan'")));
  folder.Write("train.tsv", "what\t\nx\n");
  EXPECT_THAT(MessageOf([&] { TextDataset(folder.path().string(), {}, true).Load("train"); }),
              HasSubstr("train.tsv:"));
}

TEST(TextTables, TheSameFirstLineInTwoFilesIsAHeader) {
  const TempDir folder;
  const std::string path = folder.path().string();
  folder.Write("train.csv", "Was,Wie\n" + Reviews());
  EXPECT_THAT(MessageOf([&] { TextDataset data(path); }), HasSubstr("does this line name the"));
  folder.Write("dev.csv", "Was,Wie\nfine,pos\nawful,neg\n");
  const TextDataset data(path);
  EXPECT_EQ(data.Load("train").examples.size(), 12u);
  EXPECT_EQ(data.Load("dev").examples.size(), 2u);
  folder.Write("dev.csv", "Was,Wie\n" + Reviews());  // a copy tells nothing
  EXPECT_THAT(MessageOf([&] { TextDataset again(path); }), HasSubstr("does this line name the"));
}

TEST(TextTables, NamesOfClassesDecide) {
  const TempDir folder;
  folder.Write("labels.txt", "neg\npos\nrare\nnan\n");
  folder.Write("train.csv", "odd thing,rare\n" + Reviews() + "unclear,nan\n");
  const TextDataset data(folder.path().string());
  EXPECT_EQ(data.Load("train").examples.size(), 14u);
  EXPECT_EQ(data.Load("train").examples[0].label, 2);
  EXPECT_EQ(data.Load("train").examples[13].label, 3);
}

TEST(TextTables, ClassesOfOtherSplits) {
  const TempDir folder;
  const std::string path = folder.path().string();
  folder.Write("train.tsv", "a\tx\nb\ty\nc\tx\nd\tz\ne\tz\ne\ty\n");
  folder.Write("dev.tsv", "f\tx\ng\tw\nh\tv\n");
  const TextDataset named(path);
  EXPECT_THAT(MessageOf([&] { named.Load("dev"); }),
              AllOf(HasSubstr("dev.tsv:2: unknown label 'w'"), HasSubstr("2 rows of the file")));
  EXPECT_THAT(named.Notes(true), Contains(HasSubstr("split 'dev' has no example of 2 of the 3")));
  EXPECT_THAT(named.Notes(false), Not(Contains(HasSubstr("split 'dev'"))));
  folder.Write("train.tsv", "a\t0\nb\t1\nc\t1\n");
  folder.Write("dev.tsv", "f\t0\ng\t2\n");
  EXPECT_THAT(
      TextDataset(path).Notes(false),
      Contains(HasSubstr("split 'dev' has examples of class '2', of which 'train' has none")));
}

TEST(TextTables, FilesAndSplits) {
  const TempDir folder;
  const std::string path = folder.path().string();
  folder.Write("Training.csv", Reviews());
  folder.Write("Validation.csv", Reviews());
  folder.Write("testing.csv", Reviews());
  folder.Write("._Training.csv", std::string("\0\5\26\7", 4));
  folder.Write(".DS_Store", "x");
  const TextDataset data(path);
  EXPECT_THAT(data.split_names(), ElementsAre("Training", "Validation", "testing"));
  EXPECT_EQ(data.DefaultTrainSplit(), "Training");
  EXPECT_EQ(data.DefaultValidationSplit(), "Validation");
  EXPECT_EQ(data.DefaultEvalSplit(), "testing");
  // A path may be one file alone.
  EXPECT_TRUE(HoldsTexts(folder / "Training.csv"));
  EXPECT_FALSE(HoldsTexts(folder / ".DS_Store"));
  folder.Write("reviews.csv", "text,label\n" + Reviews());
  const TextDataset one(folder / "reviews.csv");
  EXPECT_EQ(one.DefaultTrainSplit(), "reviews");
  EXPECT_EQ(one.DefaultEvalSplit(), "reviews");
  EXPECT_EQ(one.DefaultValidationSplit(), "");
}

TEST(TextTables, HoldOut) {
  const TempDir folder;
  std::string rows;
  for (int i = 0; i < 40; ++i)
    rows += "text " + std::to_string(i) + "\t" + (i % 4 ? "x" : "y") + "\n";
  rows += "text 0\ty\ntext 0\ty\nalone\tz\n";
  folder.Write("train.tsv", rows);
  const std::string path = folder.path().string();
  const auto hold_out = [&](double share, uint64_t seed) {
    TextDataset data(path);
    data.HoldOut("train", share, seed);
    return data;
  };
  const TextDataset data = hold_out(0.2, 1);
  EXPECT_EQ(data.DefaultValidationSplit(), "holdout");
  EXPECT_EQ(data.DefaultTrainSplit(), "train");
  const TextSplit train = data.Load("train"), held = data.Load("holdout");
  EXPECT_EQ(train.examples.size() + held.examples.size(), 43u);
  EXPECT_THAT(Overlap(held, train), IsEmpty());
  std::vector<int> per_class(3);
  std::set<std::string> texts;
  for (const TextExample& e : held.examples)
    if (texts.insert(e.text).second) ++per_class[e.label];
  EXPECT_THAT(per_class, ElementsAre(6, 2, 0));  // of 30, 10 and 1 different texts
  EXPECT_EQ(hold_out(0.2, 1).Load("holdout").examples, held.examples);
  EXPECT_NE(hold_out(0.2, 2).Load("holdout").examples, held.examples);
  folder.Write("train.tsv", "a\tx\nb\ty\n");
  EXPECT_THAT(MessageOf([&] { hold_out(0.2, 1); }), HasSubstr("every class has one example"));
}

}  // namespace
}  // namespace graft::text_tables_test
