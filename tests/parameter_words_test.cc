// The words of --no-decay and --lr-scale.
#include "train/parameter_words.h"

#include <gmock/gmock.h>

#include "tests/test_util.h"

namespace graft::parameter_words_test {
namespace {

using ::testing::HasSubstr;

TEST(ParameterWords, NamesPartsAndKinds) {
  struct {
    const char *word, *name;
    int rank;
    bool named;
  } const cases[] = {
      {"head", "head.weight", 2, true},
      {"head", "head.bias", 1, true},
      {"head", "blocks.0.heads.weight", 2, false},
      {"head.*", "head.bias", 1, true},
      {"head.weight", "head.bias", 1, false},
      {"lora_b", "blocks.3.attn.q.lora_b", 2, true},
      {"lora_*", "blocks.3.attn.q.lora_a", 2, true},
      {"lora_b", "blocks.3.attn.q.lora_a", 2, false},
      {"blocks.3.*", "blocks.3.attn.q.lora_b", 2, true},
      {"blocks.3.*", "blocks.31.attn.q.lora_b", 2, false},
      {"bias", "blocks.0.attn.q.bias", 1, true},
      {"bias", "blocks.0.mlp.pfeiffer_down_bias", 1, true},
      {"bias", "blocks.0.attn.q.weight", 2, false},
      {"norm", "blocks.0.norm1.weight", 1, true},
      {"norm", "embed.norm.bias", 1, true},
      {"norm", "head.weight", 2, false},
      {"vector", "blocks.0.ssf_scale", 1, true},
      {"vector", "head.weight", 2, false},
      {"*", "head.weight", 2, true},
  };
  for (const auto& c : cases) {
    EXPECT_EQ(WithoutDecay(c.word, c.name, c.rank), c.named) << c.word << ", " << c.name;
    EXPECT_EQ(RateFactor(fmt::format("{}=3", c.word), c.name, c.rank), c.named ? 3 : 1)
        << c.word << ", " << c.name;
  }
}

TEST(ParameterWords, TheFirstRuleCounts) {
  const std::string rules = "head.bias=2|head=10|lora_b=1.6e1";
  EXPECT_EQ(RateFactor(rules, "head.bias", 1), 2);
  EXPECT_EQ(RateFactor(rules, "head.weight", 2), 10);
  EXPECT_EQ(RateFactor(rules, "blocks.0.attn.q.lora_b", 2), 16);
  EXPECT_EQ(RateFactor(rules, "blocks.0.attn.q.lora_a", 2), 1);
  EXPECT_EQ(RateFactor("", "head.bias", 1), 1);
}

TEST(ParameterWords, OtherTextIsRefused) {
  for (const char* rules :
       {"head", "=3", "head=", "head=x", "head=3x", "head=0", "head=-1", "head=nan", "head=inf",
        "head=1e7", "head=3|", "|head=3", "head=3,a=4", "head==3"})
    EXPECT_THAT(MessageOf([&] { RateFactor(rules, "head.bias", 1); }),
                HasSubstr("expected WORD=FACTOR"))
        << rules;
  EXPECT_THAT(MessageOf([] { WithoutDecay("bias||norm", "x", 1); }), HasSubstr("bias||norm"));
}

// Also one that another rule leaves nothing to.
TEST(ParameterWords, RulesWithoutAParameterAreRefused) {
  const std::map<std::string, int> trainable{{"head.weight", 2}, {"blocks.0.attn.q.lora_b", 2}};
  CheckRateRules("head=2|lora_b=16", trainable);
  CheckRateRules("", trainable);
  EXPECT_THAT(MessageOf([&] { CheckRateRules("lora_B=16", trainable); }),
              HasSubstr("left for 'lora_B'; did you mean 'lora_b'"));
  EXPECT_THAT(MessageOf([&] { CheckRateRules("*=2|head=3", trainable); }),
              HasSubstr("left for 'head'"));
}

TEST(ParameterWords, NamesWithoutAParameterAreRefused) {
  const std::map<std::string, int> trainable{{"head.weight", 2}, {"blocks.0.attn.q.lora_b", 2}};
  CheckDecayWords("", trainable);
  CheckDecayWords("lora_*|head.weight", trainable);
  CheckDecayWords("bias|norm|vector", trainable);  // kinds, of which a method may have none
  EXPECT_THAT(MessageOf([&] { CheckDecayWords("bias|lora_B", trainable); }),
              HasSubstr("--no-decay 'bias|lora_B': no parameter that trains has the name 'lora_B'; "
                        "did you mean 'lora_b'"));
}

}  // namespace
}  // namespace graft::parameter_words_test
