// Templates with a [MASK] and label words.
#include "models/text/prompt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/text/tokenizer_file.h"
#include "runtime/error.h"
#include "tests/test_util.h"

namespace graft::prompt_test {
namespace {

using ::testing::HasSubstr;

class Prompt : public ::testing::Test {
 protected:
  // The tokens of an example, with '>' in front of the one that the head reads.
  std::string Tokens(const std::string& prompt, const std::string& text,
                     std::optional<std::string_view> second = {}, size_t most = 64) const {
    const PromptRows rows = PromptEncoder(tokenizer_, ParsePrompt(prompt), most)(text, second);
    EXPECT_EQ(rows.types, std::vector<int32_t>(rows.ids.size(), 0));
    std::string all;
    for (size_t i = 0; i < rows.ids.size(); ++i)
      all += fmt::format("{}{}{}", i ? " " : "", static_cast<int32_t>(i) == rows.mask ? ">" : "",
                         tokenizer_.token(rows.ids[i]));
    return all;
  }
  std::string Refused(const std::string& prompt) const {
    return MessageOf([&] { ParsePrompt(prompt); });
  }
  std::string Words(const std::string& words, size_t classes = 2) const {
    return LabelWords(tokenizer_, words, classes);
  }
  std::string RefusedWords(const std::string& words, size_t classes = 2) const {
    return MessageOf([&] { Words(words, classes); });
  }
  int32_t Id(const char* token) const { return *tokenizer_.Find(token); }

  TokenizerSpec spec_ = ReadTokenizer(kVocabulary);
  Tokenizer tokenizer_{spec_};
};

TEST_F(Prompt, PutsTheTextIntoTheTemplate) {
  EXPECT_EQ(Tokens("{text} a film [MASK].", "Moving, funny"),
            "[CLS] moving , funny a film >[MASK] . [SEP]");
  EXPECT_EQ(Tokens("[MASK] the {text_a}", "unfilm"), "[CLS] >[MASK] the un ##film [SEP]");
  EXPECT_EQ(Tokens("{text} [MASK]", ""), "[CLS] >[MASK] [SEP]");
  EXPECT_EQ(Tokens("{text_a} [MASK], {text_b}", "film", "the"), "[CLS] film >[MASK] , the [SEP]");
  EXPECT_EQ(Tokens("{text_b}[SEP][MASK]{text_a}", "film", "the"),
            "[CLS] the [SEP] >[MASK] film [SEP]");
}

// The head reads the template's own.
TEST_F(Prompt, TextsMayHoldAMask) {
  EXPECT_EQ(Tokens("{text} the [MASK]", "a [MASK] b"), "[CLS] a [MASK] b the >[MASK] [SEP]");
  EXPECT_EQ(Tokens("[MASK] {text}", "{text} [MASK]"),
            "[CLS] >[MASK] { t ##e ##x ##t } [MASK] [SEP]");
}

TEST_F(Prompt, OnlyTextsAreShortened) {
  EXPECT_EQ(Tokens("a {text} the [MASK] .", "b c d e f", {}, 8), "[CLS] a b c the >[MASK] . [SEP]");
  EXPECT_EQ(Tokens("{text} [MASK]", "b c d", {}, 4), "[CLS] b >[MASK] [SEP]");
  EXPECT_EQ(Tokens("{text_a} [MASK] {text_b}", "b c d e", "f", 7), "[CLS] b c d >[MASK] f [SEP]");
  EXPECT_EQ(Tokens("{text_a} [MASK] {text_b}", "b c d e", "f g h", 8),
            "[CLS] b c d >[MASK] f g [SEP]");
  spec_.truncate_left = true;
  tokenizer_ = Tokenizer(spec_);
  EXPECT_EQ(Tokens("a {text} [MASK]", "b c d e f", {}, 6), "[CLS] a e f >[MASK] [SEP]");
  EXPECT_EQ(Tokens("{text_a} [MASK] {text_b}", "b c d e", "f g h", 8),
            "[CLS] c d e >[MASK] g h [SEP]");
  EXPECT_THAT(MessageOf([&] { Tokens("a b c {text} [MASK]", "d", {}, 6); }),
              HasSubstr("takes 6 tokens and leaves no room for the text"));
  EXPECT_EQ(Tokens("a b c {text} [MASK]", "d", {}, 7), "[CLS] a b c d >[MASK] [SEP]");
}

TEST_F(Prompt, WrongTemplatesAreRefused) {
  EXPECT_THAT(Refused("{text}"), HasSubstr("expected one [MASK], found 0"));
  EXPECT_THAT(Refused("{text} [MASK] [MASK]"), HasSubstr("expected one [MASK], found 2"));
  EXPECT_THAT(Refused("{text} [mask]"), HasSubstr("expected one [MASK], found 0"));
  EXPECT_THAT(Refused("It was [MASK]."), HasSubstr("expected {text} (or {text_a}) once"));
  EXPECT_THAT(Refused("{text_a} {text} [MASK]"), HasSubstr("found it 2 times"));
  EXPECT_THAT(Refused("{text} {text_b} {text_b} [MASK]"), HasSubstr("{text_b} once, found it 2"));
  EXPECT_THAT(Refused("{txt} [MASK]"), HasSubstr("no field '{txt}'; known: {text}, {text_a}"));
  EXPECT_THAT(Refused("{text [MASK]"), HasSubstr("a '{' is opened and not closed"));
  EXPECT_THAT(MessageOf([&] { Tokens("{text} [MASK]", "a", "b"); }),
              HasSubstr("expected single texts, as it has no {text_b}, found 'a'"));
  EXPECT_THAT(MessageOf([&] { Tokens("{text} [MASK] {text_b}", "a"); }),
              HasSubstr("expected pairs for its {text_b}, found 'a'"));
}

TEST_F(Prompt, WordsBecomeGroupsOfIds) {
  EXPECT_EQ(Words("film|moving"), fmt::format("{}|{}", Id("film"), Id("moving")));
  EXPECT_EQ(Words("Film,the|zebra"),
            fmt::format("{},{}|{}", Id("film"), Id("the"),
                        fmt::join(tokenizer_.Encode("zebra", {.special_tokens = false}).ids, "+")));
  EXPECT_EQ(std::ranges::count(Words("a|zebra"), '+'), 4);
  EXPECT_EQ(Words("a,b|c|d", 3), fmt::format("{},{}|{}|{}", Id("a"), Id("b"), Id("c"), Id("d")));
}

TEST_F(Prompt, WrongWordsAreRefusedByName) {
  EXPECT_THAT(RefusedWords("film|\u2603"), HasSubstr("'\u2603' is not in the vocabulary of"));
  EXPECT_THAT(RefusedWords("film,a \u2603|the"), HasSubstr("'a \u2603' is not in the vocabulary"));
  EXPECT_THAT(RefusedWords("film|moving|the"),
              HasSubstr("words for 3 classes, but the task has 2"));
  EXPECT_THAT(RefusedWords("film|"), HasSubstr("a word is empty"));
  EXPECT_THAT(RefusedWords("film,,a|b"), HasSubstr("a word is empty"));
  EXPECT_THAT(RefusedWords("film|the,FILM"), HasSubstr("'FILM' stands for two classes"));
  EXPECT_THAT(RefusedWords("film,film|the"), HasSubstr("'film' occurs twice"));
}

TEST_F(Prompt, AVocabularyWithoutAMaskIsRefused) {
  TokenizerSpec spec = spec_;
  for (std::string& token : spec.tokens)
    if (token == "[MASK]") token = "[GAP]";
  std::erase_if(spec.added, [](const AddedToken& t) { return t.content == "[MASK]"; });
  const Tokenizer tokenizer(spec);
  EXPECT_THAT(MessageOf([&] { PromptEncoder(tokenizer, ParsePrompt("{text} [MASK]"), 64); }),
              HasSubstr("the vocabulary has no token '[MASK]'"));
}

}  // namespace
}  // namespace graft::prompt_test
