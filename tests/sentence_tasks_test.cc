// Tests pairs and choices of sentences of plain texts: their classes, and where their sentences
// stand.
#include "data/sentence_tasks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "runtime/error.h"
#include "tests/test_util.h"

namespace graft::sentence_tasks_test {
namespace {

// Documents of 2 to 7 sentences, each of which says where it stands: "d3 s4".
std::string Documents(int count) {
  std::string text;
  for (int d = 0; d < count; ++d) {
    for (int s = 0; s < 2 + d % 6; ++s) text += fmt::format("d{} s{} tells of it\n", d, s);
    text += '\n';
  }
  return text;
}

std::pair<int, int> PlaceOf(const std::string& sentence) {
  int document = -1, number = -1;
  EXPECT_EQ(std::sscanf(sentence.c_str(), "d%d s%d", &document, &number), 2) << sentence;
  return {document, number};
}

class Sentences : public ::testing::Test {
 protected:
  SentenceTask Task(SentenceTaskKind kind, const std::string& text) const {
    dir_.Write("a.txt", text);
    return SentenceTask(Corpus(dir_.path().string()), kind);
  }
  TempDir dir_;
};

TEST_F(Sentences, PairsStandAsTheirClassSays) {
  const SentenceTask task = Task(SentenceTaskKind::kPairs, Documents(600));
  EXPECT_EQ(task.class_names(), (std::vector<std::string>{"yes", "maybe", "no"}));
  const TextSplit split = task.Load("train");
  std::map<int, int> counts;
  int before = 0, after = 0;
  for (const TextExample& e : split.examples) {
    const auto [d1, s1] = PlaceOf(e.text);
    const auto [d2, s2] = PlaceOf(e.second.value());
    ++counts[e.label];
    if (e.label == 2) {
      EXPECT_NE(d1, d2);
      continue;
    }
    EXPECT_EQ(d1, d2);
    if (e.label == 0) {
      EXPECT_EQ(std::abs(s1 - s2), 1);
    } else {
      EXPECT_GE(std::abs(s1 - s2), 2);
    }
    (s2 < s1 ? before : after) += e.label == 0;
  }
  const double n = static_cast<double>(split.examples.size());
  EXPECT_GT(n, 1500);
  for (int label = 0; label < 3; ++label) EXPECT_NEAR(counts[label] / n, 1.0 / 3, 0.04) << label;
  EXPECT_NEAR(before / (before + after + 0.0), 0.5, 0.06);
}

// Every sentence that is not adjacent is drawn as often.
TEST_F(Sentences, OtherSentencesAreEquallyLikely) {
  std::map<std::pair<int, int>, int> drawn;  // (sentence, other) in documents of five
  std::string text;
  for (int d = 0; d < 3000; ++d) {
    for (int s = 0; s < 5; ++s) text += fmt::format("d{} s{} tells of it\n", d, s);
    text += '\n';
  }
  int of_two = 0;
  for (const TextExample& e : Task(SentenceTaskKind::kPairs, text).Load("train").examples)
    if (e.label == 1) {
      const int s1 = PlaceOf(e.text).second, s2 = PlaceOf(*e.second).second;
      ++drawn[{s1, s2}], of_two += s1 == 2;
    }
  EXPECT_EQ(drawn.size(), 12u);
  EXPECT_NEAR((drawn[{2, 0}]) / (of_two + 0.0), 0.5, 0.06);
  EXPECT_GT(of_two, 500);
}

TEST_F(Sentences, OneOfSixFollows) {
  const SentenceTask task = Task(SentenceTaskKind::kChoice, Documents(300));
  EXPECT_EQ(task.num_classes(), 6);
  const TextSplit split = task.Load("train", 0, 256);
  std::map<int, int> counts;
  for (const TextExample& e : split.examples) {
    const auto [d, s] = PlaceOf(e.text);
    int same = 0;
    for (int k = 0; k < 6; ++k) {
      const size_t at = e.second->find(fmt::format("{}. d", static_cast<char>('A' + k)));
      ASSERT_NE(at, std::string::npos) << *e.second;
      const auto [other, number] = PlaceOf(e.second->substr(at + 3));
      same += other == d;
      if (k == e.label) {
        EXPECT_EQ(std::pair(other, number), std::pair(d, s + 1));
      }
      if (k != e.label && other == d) {
        EXPECT_TRUE(number != s && number != s + 1);
      }
    }
    EXPECT_EQ(same, 2);
    ++counts[e.label];
  }
  const double n = static_cast<double>(split.examples.size());
  for (int label = 0; label < 6; ++label) EXPECT_NEAR(counts[label] / n, 1.0 / 6, 0.04) << label;
}

TEST_F(Sentences, LongOnesAreCutToWords) {
  std::string text = Documents(10);
  text += "\nd77 s0 " + std::string(400, 'a') + "\nd77 s1";
  for (int i = 0; i < 300; ++i) text += " w";
  text += "\nd77 s2\nd77 s3\n";
  for (const TextExample& e : Task(SentenceTaskKind::kChoice, text).Load("train", 0, 60).examples)
    EXPECT_LE(std::ranges::count(*e.second, ' '), 6 * 5);  // four words and the letter
}

// A text of one line is a document of its sentences.
TEST_F(Sentences, LinesAreCutBehindStops) {
  const std::string text =
      "d0 s0 is. d0 s1 was! d0 s2 may? d0 s3 of 3.5 m\nd1 s0 is. d1 s1 is.  d1 s2\n";
  const TextSplit split = Task(SentenceTaskKind::kPairs, text).Load("train");
  for (const TextExample& e : split.examples) {
    PlaceOf(e.text), PlaceOf(*e.second);
    EXPECT_LE(e.text.size(), 14u);
  }
  EXPECT_EQ(split.examples.size(), 6u);  // the middle one of three has no other
}

TEST_F(Sentences, SameOnesEveryTimeAndAFirstFew) {
  const SentenceTask task = Task(SentenceTaskKind::kPairs, Documents(50));
  const TextSplit all = task.Load("train"), few = task.Load("train", 7);
  EXPECT_EQ(all.examples, task.Load("train").examples);
  ASSERT_EQ(few.examples.size(), 7u);
  EXPECT_TRUE(std::equal(few.examples.begin(), few.examples.end(), all.examples.begin()));
}

TEST_F(Sentences, TooLittleIsRefused) {
  for (const char* text : {"one. two. three.\n", "one\ntwo\n\nthree\n", "one\n"})
    for (const SentenceTaskKind kind : {SentenceTaskKind::kPairs, SentenceTaskKind::kChoice})
      EXPECT_NE(MessageOf([&] {
                  Task(kind, text).Load("train");
                }).find("at least two documents, one of them of three sentences"),
                std::string::npos)
          << text;
}

}  // namespace
}  // namespace graft::sentence_tasks_test
