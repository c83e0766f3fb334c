// Tables as programs and people leave them: separators, line ends, headers in the middle, labels
// below zero, test sets without labels.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "data/text.h"
#include "data/text_columns.h"
#include "data/text_labels.h"
#include "tests/text_tables_testing.h"

namespace graft::text_oddities_test {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

using Words = std::vector<std::string>;

using Table = TextTableCase;

TEST(TextOddities, AreRead) {
  const Words sentiments{"neg", "pos"};
  const Table tables[] = {
      {"other separators that all lines have", "train.csv",
       "good, very;pos\nbad;neg\nso, so, so;pos\n", "", 3, sentiments, "good, very", ""},
      {"as Excel says it", "train.csv", "sep=;\ntext;label\na, b;pos\nc;neg\n", "", 2, sentiments,
       "a, b", ""},
      {"as Excel says it of commas", "train.csv", "sep=,\r\ntext,label\r\na;b,pos\r\nc,neg\r\n", "",
       2, sentiments, "a;b", ""},
      {"line ends of old", "train.csv", "text,label\ra b,pos\rc,neg\r", "", 2, sentiments, "a b",
       ""},
      {"without a text", "train.csv", "text,label\n,pos\n\" \",neg\nc,neg\nd,pos\n", "", 4,
       sentiments, "", "split 'train' has 2 examples with an empty text"},
      {"below zero",
       "train.csv",
       "text,label\na,-1\nb,1\nc,0\nd,-1\n",
       "",
       4,
       {"-1", "0", "1"},
       "a",
       ""},
      {"below zero, with a point",
       "train.csv",
       "text,label\na,-1.0\nb,1.0\nc,-1\n",
       "",
       3,
       {"-1", "1"},
       "a",
       ""},
      {"from 1 with a gap",
       "train.tsv",
       "a\t1\nb\t3\nc\t3\nd\t1\n",
       "",
       4,
       {},
       "a",
       "labels begin at 1, but classes count from 0: '0', '2' have no example"},
      {"labels joined by commas",
       "train.csv",
       "text,tags\na,\"big, red\"\nb,red\nc,big\n",
       "",
       3,
       {"big", "big, red", "red"},
       "a",
       "'big, red' is one class beside those that it joins; hint: --task multi-label"},
  };
  for (const Table& t : tables) ExpectRead(t);
}

struct Refused {
  std::string name, file, text, columns;
  Words says;
};

TEST(TextOddities, AreRefused) {
  const Refused tables[] = {
      {"the names again",
       "train.csv",
       "text,label\ngood,pos\nbad,neg\ntext,label\nfine,pos\n",
       "",
       {"train.csv:4: names the columns again; hint: --skip-bad"}},
      {"the names again, which are any",
       "train.csv",
       "Was,Wie\nso gut,1\nna ja,0\nWas,Wie\nso,1\n",
       "",
       {"train.csv:4: names the columns again"}},
      {"an array",
       "train.jsonl",
       "[{\"text\": \"a\", \"label\": \"x\"}]\n",
       "",
       {"train.jsonl:1: expected an object in each line, found an array; hint: jq -c '.[]' "}},
      {"an object of many lines",
       "train.jsonl",
       "{\n\"text\": \"a\"}\n",
       "",
       {"train.jsonl:1: expected an object in each line, found one of many lines"}},
      {"a name of two columns",
       "train.csv",
       "text,label,label\na,b,c\n",
       "",
       {"two columns have the name 'label'; hint: --columns takes columns by number, too"}},
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

TEST(FirstBytes, KeepsCharactersWhole) {
  EXPECT_EQ(FirstBytes("abc", 3), "abc");
  EXPECT_EQ(FirstBytes("abcd", 3), "abc");
  EXPECT_EQ(FirstBytes("ab\u00fc", 3), "ab");
  EXPECT_EQ(FirstBytes("ab\u00fc", 4), "ab\u00fc");
  EXPECT_EQ(FirstBytes("\U0001f600x", 3), "");
  EXPECT_EQ(FirstBytes("", 0), "");
}

// Files beside the training table, and whether they are splits.
TEST(TextOddities, TestSetsWithoutLabelsAreLeftOut) {
  struct Row {
    std::string train, file, text, told;  // told: "" = the file is a split
  };
  const std::string r = "good,pos\nbad,neg\n\"he said, no\",neg\n";
  const Row rows[] = {
      {"id,text,label\n1,good film,pos\n2,bad,neg\n", "test.csv", "id,text\n3,fine\n",
       "test.csv is left out: it has no column 'label'; graft predict reads"},
      {"text,label\n" + r, "test.csv", "text\nfine\n", "no column 'label'"},
      {"Was,Wie\n" + r, "test.csv", "Nr,Was\n3,fine\n4,bad\n5,so so\n", "no column 'Wie'"},
      {"Kommentar,Wertung\nsehr gut,1\nso so,0\n", "test.csv", "Nr,Kommentar\n3,fine\n",
       "no column 'Wertung'"},
      {"review,stars\n" + r, "test.jsonl", "{\"review\": \"fine\", \"id\": 3}\n",
       "no column 'stars'"},
      {"text,label\n" + r, "test.csv", "text,label\nfine,pos\n", ""},
      {"text,label\n" + r, "test.csv", "body,id\nfine,3\n", ""}};  // says what it has, if asked
  for (const Row& row : rows) {
    SCOPED_TRACE(row.train.substr(0, 20) + row.text);
    const TempDir folder;
    folder.Write("train.csv", row.train);
    folder.Write("dev.csv", row.train);
    folder.Write(row.file, row.text);
    const TextDataset data(folder.path().string(),
                           ParseTextColumns(row.train.starts_with("Was") ? "Was,Wie" : ""));
    EXPECT_EQ(data.has_split("test"), row.told.empty());
    EXPECT_EQ(data.DefaultEvalSplit(), row.told.empty() ? "test" : "dev");
    if (!row.told.empty()) {
      EXPECT_THAT(data.Notes(false), Contains(HasSubstr(row.told)));
    }
  }
}

// Programs write 1 as 1.0 where a row lacks its label; the class is that of its name, not of its
// number.
TEST(TextOddities, NamesThatAreNumbers) {
  const TempDir folder;
  folder.Write("labels.txt", "1\n2\n3\n");
  folder.Write("train.csv", "text,label\na,1.0\nb,3.0\nc,2\n");
  std::vector<int> labels;
  for (const TextExample& e : TextDataset(folder.path().string()).Load("train").examples)
    labels.push_back(e.label);
  EXPECT_THAT(labels, ElementsAre(0, 2, 1));
}

// A second text under a name that no pair has is not passed over in silence.
TEST(TextOddities, ATextThatIsNotReadIsNamed) {
  struct Unread {
    const char *header, *read, *note;
  };
  const Unread tables[] = {
      {"question|sentence|label", "question,sentence,label", ""},
      {"Query|Passage|label", "Query,Passage,label", ""},
      {"title|text|label", "text,label",
       "train.csv: 'text' and the label 'label' are read; 'title' holds texts, too, and is not; "
       "hint: --columns text,title,label for pairs"},
      {"context|sentence1|sentence2|label", "sentence1,sentence2,label",
       "'sentence1', 'sentence2' and the label 'label' are read; 'context' holds texts"},
      {"user|text|label", "text,label", ""},
      {"file|remarks|label", "file,label", ""},
  };
  for (const Unread& t : tables) {
    SCOPED_TRACE(t.header);
    const Words names = LabelParts(t.header);
    const TempDir dir;
    std::string csv = fmt::format("{}\n", fmt::join(names, ",")), lines;
    for (const char* label : {"pos", "neg", "pos"}) {
      nlohmann::json object;
      for (const std::string& name : names) {
        object[name] = name == "label" ? label : name == "user" ? "ann" : "some words of " + name;
        csv += object[name].get<std::string>() + (name == "label" ? "\n" : ",");
      }
      lines += object.dump() + "\n";
    }
    dir.Write("a/train.csv", csv), dir.Write("b/train.jsonl", lines);
    const auto notes = [&](const std::string& data, const TextColumns& columns) {
      return fmt::format("{}", fmt::join(TextDataset(data, columns).Notes(false), "\n"));
    };
    for (const char* data : {"a", "b"}) {
      EXPECT_EQ(TextDataset(dir / data).read_columns(), t.read);
      EXPECT_EQ(notes(dir / data, {}).find("holds texts") == std::string::npos, *t.note == '\0');
    }
    EXPECT_THAT(notes(dir / "a", {}), HasSubstr(t.note));
    EXPECT_THAT(notes(dir / "a", {names[0], "", names.back()}), Not(HasSubstr("holds texts")));
  }
}

}  // namespace
}  // namespace graft::text_oddities_test
