// What a run, or what was made of it, knows of the texts that it learnt: their words and whether
// they are pairs.
#include <gtest/gtest.h>

#include "tests/cli_mistakes_testing.h"

namespace graft::cli::cli_learnt_texts_test {
namespace {

const std::string kWords = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\n";

class LearntTexts : public ::testing::Test {
 protected:
  std::string At(const std::string& name) { return dir_ / name; }
  TempDir dir_;
};

// A run that learnt single texts reads no pairs, and the other way round; a fused file knows it,
// too.
TEST_F(LearntTexts, SinglesAreNoPairs) {
  Spill(At("vocab.txt"), kWords);
  const std::string singles = "text,label\na,x\nb,y\nc,x\na b,y\n";
  const std::string pairs = "text_a,text_b,label\na,b,x\nb,a,y\nc,b,x\na b,c,y\n";
  for (const bool pair : {false, true}) {
    const std::string name = pair ? "learnt_pairs" : "learnt_singles", run = At(name + "/run");
    fs::create_directories(At(name));
    Spill(At(name + "/train.csv"), pair ? pairs : singles);
    Spill(At("other.csv"), pair ? singles : pairs);
    Spill(At("bare.csv"), pair ? "a\nb\n" : "x,a b\ny,c\n");
    const Outcome made =
        Graft({"train", "--model", kNanoBert, "--tokenizer", At("vocab.txt"), "--data",
               At(name + "/train.csv"), "--val-split", "none", "--method", "lora", "--epochs", "1",
               "--max-length", "8", "--out", run});
    ASSERT_EQ(made.code, 0) << made.err;
    const char* says = pair ? "single texts, but the model learnt pairs"
                            : "pairs of texts, but the model learnt single ones";
    const auto refused = [&](const Words& args) {
      const Outcome o = Graft(args);
      EXPECT_EQ(o.code, 1) << o.out;
      EXPECT_NE(o.err.find(says), std::string::npos) << o.err;
    };
    refused({"eval", "--run", run, "--data", At("other.csv"), "--split", "other"});
    refused({"predict", "--run", run, At("other.csv")});
    refused({"predict", "--run", run, At("bare.csv")});
    refused({"predict", "--run", run, "--text", pair ? "a b" : "a\tb"});
    EXPECT_EQ(Graft({"predict", "--run", run, "--text", pair ? "a\tb" : "a b"}).code, 0);
    EXPECT_EQ(Graft({"predict", "--run", run, At(name + "/train.csv")}).code, 0);
    const std::string fused = At(name + "/fused");
    ASSERT_EQ(Graft({"fuse", "--run", run, "--out", fused}).code, 0);
    refused({"predict", "--model", fused, "--tokenizer", At("vocab.txt"), At("other.csv")});
  }
}

// A text or a tokenizer that changed means other numbers, though the tokens are as many as before.
TEST_F(LearntTexts, OtherWordsAreRefused) {
  const std::string moving = At("of_words"), vocab = At("own/vocab.txt"), out = At("worded");
  fs::create_directories(moving), fs::create_directories(At("own"));
  const std::string texts = "a b\tx\nc a\ty\nb c\tx\na a\ty\n";
  const std::string words = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\n";
  Spill(moving + "/train.tsv", texts), Spill(vocab, words);
  const Outcome made =
      Graft({"train", "--model", kNanoBert, "--tokenizer", vocab, "--data", moving, "--val-split",
             "none", "--method", "lora", "--epochs", "1", "--max-length", "8", "--out", out});
  ASSERT_EQ(made.code, 0) << made.err;
  const std::string fused = At("worded-fused");
  ASSERT_EQ(Graft({"fuse", "--run", out, "--out", fused}).code, 0);
  fs::remove(out + "/state.safetensors");
  const auto says = [](const Words& args, int code, const char* text) {
    const Outcome o = Graft(args);
    EXPECT_EQ(o.code, code) << o.err;
    EXPECT_NE((o.err + o.out).find(text), std::string::npos) << o.err;
  };
  const Words predict{"predict", "--run", out, "--text", "a b"};
  const Words of_fused{"predict", "--model", fused, "--tokenizer", vocab, "--text", "a b"};
  Spill(moving + "/train.tsv", "b b" + texts.substr(3));
  says({"train", "--resume", out}, 1, "have changed since");
  Spill(moving + "/train.tsv", texts);
  Spill(vocab, words.substr(0, words.size() - 4) + "c\nb\n");
  for (const Words& args : {Words{"train", "--resume", out}, predict, of_fused,
                            Words{"eval", "--run", out, "--data", moving, "--split", "train"}})
    says(args, 1, "another tokenizer than the one that was learnt with");
  Spill(vocab, words);
  says(predict, 0, "class");
  says(of_fused, 0, "class");
  says({"train", "--resume", out}, 0, "done");
}

}  // namespace
}  // namespace graft::cli::cli_learnt_texts_test
