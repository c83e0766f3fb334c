#include "models/files/class_names.h"

#include <gmock/gmock.h>

#include <random>

namespace graft::class_names_test {
namespace {

using Names = std::vector<std::string>;
using ::testing::ElementsAre;

void ExpectMatch(const Names& task, const Names& head, const std::vector<int64_t>& number,
                 const Names& labels, bool by_name) {
  const std::optional<ClassMatch> match = MatchClasses(task, head);
  ASSERT_TRUE(match) << ::testing::PrintToString(task);
  EXPECT_EQ(match->number, number) << ::testing::PrintToString(task);
  EXPECT_EQ(match->labels, labels) << ::testing::PrintToString(task);
  EXPECT_EQ(match->by_name, by_name) << ::testing::PrintToString(task);
}

TEST(ClassNames, EqualInAnyOrderAndCase) {
  ExpectMatch({"cat", "dog"}, {"cat", "dog"}, {0, 1}, {"cat", "dog"}, true);
  ExpectMatch({"cat", "DOG", "Owl"}, {"owl", "Cat", "dog"}, {1, 2, 0}, {"owl", "Cat", "dog"}, true);
  ExpectMatch({"0", "1", "10", "2"}, {"2", "10", "1", "0"}, {3, 2, 1, 0}, {"2", "10", "1", "0"},
              true);
  ExpectMatch({"1", "2", "3"}, {"1", "2", "3"}, {0, 1, 2}, {"1", "2", "3"}, true);
}

TEST(ClassNames, NumbersFitNames) {
  ExpectMatch({"neg", "pos"}, {}, {0, 1}, {"neg", "pos"}, false);
  ExpectMatch({"0", "1"}, {"neg", "pos"}, {0, 1}, {"neg", "pos"}, false);
  ExpectMatch({"1", "0"}, {"neg", "pos"}, {1, 0}, {"neg", "pos"}, false);
  ExpectMatch({"neg", "pos"}, {"LABEL_0", "LABEL_1"}, {0, 1}, {"neg", "pos"}, false);
  ExpectMatch({"0", "1"}, {"LABEL_0", "LABEL_1"}, {0, 1}, {"LABEL_0", "LABEL_1"}, true);
  ExpectMatch({"bad", "good", "so-so"}, {"LABEL_0", "good", "bad"}, {2, 1, 0},
              {"so-so", "good", "bad"}, false);
  // One to three stars count no classes.
  ExpectMatch({"1", "2", "3"}, {"LABEL_0", "LABEL_1", "LABEL_2"}, {0, 1, 2}, {"1", "2", "3"},
              false);
}

// A number is the same in all the ways in which programs write it, unless it then is twice.
TEST(ClassNames, NumbersInOtherWords) {
  ExpectMatch({"0", "1", "2"}, {"2.0", "1.0", "0.0"}, {2, 1, 0}, {"2.0", "1.0", "0.0"}, true);
  ExpectMatch({"0", "1", "2"}, {"02", "01", "00"}, {2, 1, 0}, {"02", "01", "00"}, true);
  ExpectMatch({"00", "01", "02"}, {"02", "01", "00"}, {2, 1, 0}, {"02", "01", "00"}, true);
  ExpectMatch({"01", "1", "2"}, {"2", "01", "1"}, {1, 2, 0}, {"2", "01", "1"}, true);
  ExpectMatch({"no", "yes", "Yes"}, {"Yes", "yes", "no"}, {2, 1, 0}, {"Yes", "yes", "no"}, true);
  EXPECT_EQ(MatchSomeClasses({"yes", "Yes"}, {"Yes", "yes", "no"}), (std::vector<int64_t>{1, 0}));
  EXPECT_FALSE(MatchSomeClasses({"0", "1"}, {"2.0", "1.0", "0.0"}));
}

TEST(ClassNames, ThatContradict) {
  EXPECT_FALSE(MatchClasses({"cat", "dog"}, {"cat", "owl"}));
  EXPECT_FALSE(MatchClasses({"a", "b", "c"}, {"a", "b"}));
  EXPECT_FALSE(MatchClasses({"1", "2", "3"}, {"one", "two", "three"}));
  EXPECT_FALSE(MatchClasses({"0", "cat"}, {"cat", "dog"}));
  EXPECT_FALSE(MatchClasses({"a", "b", "bad"}, {"LABEL_0", "LABEL_1", "c"}));
}

// Only the same order can tell which of two equal names is which, such as the two "crane" of
// ImageNet.
TEST(ClassNames, ThatOccurTwice) {
  ExpectMatch({"crane", "owl", "crane"}, {"crane", "owl", "crane"}, {0, 1, 2},
              {"crane", "owl", "crane"}, true);
  EXPECT_FALSE(MatchClasses({"owl", "crane", "crane"}, {"crane", "owl", "crane"}));
  EXPECT_FALSE(MatchClasses({"owl", "crane", "crane"}, {"crane", "owl", "owl"}));
}

TEST(ClassNames, SomeOfThem) {
  using Numbers = std::vector<int64_t>;
  EXPECT_EQ(MatchSomeClasses({"Owl", "cat"}, {"cat", "dog", "owl"}), (Numbers{2, 0}));
  EXPECT_EQ(MatchSomeClasses({"4", "5"}, {"1", "2", "3", "4", "5"}), (Numbers{3, 4}));
  EXPECT_EQ(MatchSomeClasses({"0", "1"}, {"cat", "dog", "owl"}), (Numbers{0, 1}));
  EXPECT_FALSE(MatchSomeClasses({"0", "2"}, {"cat", "dog", "owl"}));  // folders of these names
  EXPECT_FALSE(MatchSomeClasses({"0"}, {"1", "2", "3"}));
  EXPECT_FALSE(MatchSomeClasses({"cat", "bat"}, {"cat", "dog", "owl"}));
  EXPECT_FALSE(MatchSomeClasses({"Cat", "cat"}, {"cat", "dog", "owl"}));
  EXPECT_FALSE(MatchSomeClasses({"crane"}, {"crane", "owl", "crane"}));
}

// A run stores the labels of the match and must find the same head for them again.
TEST(ClassNames, AMatchMatchesItself) {
  std::mt19937 random(1);
  const Names pool{"a", "b", "c", "0", "1", "2", "3", "LABEL_0", "LABEL_1", "LABEL_2"};
  int found = 0;
  for (int i = 0; i < 20000; ++i) {
    const size_t classes = 2 + random() % 3;
    Names task, head;
    for (size_t k = 0; k < classes; ++k) {
      task.push_back(pool[random() % pool.size()]);
      head.push_back(pool[random() % pool.size()]);
    }
    const std::optional<ClassMatch> match = MatchClasses(task, head);
    if (!match) continue;
    ++found;
    const std::optional<ClassMatch> again = MatchClasses(match->labels, head);
    ASSERT_TRUE(again && again->SameOrder())
        << ::testing::PrintToString(task) << ::testing::PrintToString(head);
    EXPECT_EQ(again->labels, match->labels);
    std::vector<int64_t> sorted = match->number;
    std::ranges::sort(sorted);
    for (size_t k = 0; k < classes; ++k) EXPECT_EQ(sorted[k], static_cast<int64_t>(k));
  }
  EXPECT_GT(found, 1000);
}

}  // namespace
}  // namespace graft::class_names_test
