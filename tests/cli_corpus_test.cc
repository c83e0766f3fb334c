// Tests --objective mlm on the command line: a BERT learns from plain texts, is killed and resumed,
// measured, and written as a checkpoint; and what goes wrong is said.
#include <algorithm>
#include <cmath>

#include "tests/cli_mistakes_testing.h"

namespace graft::cli::cli_corpus_test {
namespace {

constexpr const char* kModel = "init:bert(vocab=260,width=64,depth=2,heads=2,mlp=128,positions=32)";

// Texts of three letters each, in any order: the letters around a gap tell which may be missing.
std::string Texts(int n, uint32_t seed) {
  std::string text;
  const auto draw = [&](uint32_t most) {
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 16) % most;
  };
  for (int i = 0; i < n; ++i) {
    const uint32_t letters[] = {draw(26), draw(26), draw(26)}, length = 10 + draw(10);
    for (uint32_t k = 0; k < length; ++k)
      text += fmt::format("{} ", static_cast<char>('a' + letters[draw(3)]));
    text += '\n';
  }
  return text;
}

class Pretraining : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    fs::create_directory(At("corpus"));
    Spill(At("corpus") + "/a.txt", Texts(300, 1));
    Spill(At("corpus") + "/val.txt", Texts(60, 2));
    trained_ = new nlohmann::json(GraftJson(Args("run", {"--threads", "2"})));
  }
  static void TearDownTestSuite() { delete dir_, delete trained_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static Words Args(const std::string& out, const Words& more = {}) {
    Words args{"train",      "--model",  kModel,  "--tokenizer",  kVocabulary, "--data",
               At("corpus"), "--out",    At(out), "--objective",  "mlm",       "--lr",
               "3e-3",       "--clip",   "1",     "--schedule",   "constant",  "--batch-size",
               "16",         "--epochs", "18",    "--max-length", "24"};
    return WithOptions(std::move(args), more);
  }
  static nlohmann::json Eval(const std::string& run, const Words& more = {}) {
    Words args{"eval", "--run", At(run), "--data", At("corpus")};
    args.insert(args.end(), more.begin(), more.end());
    return GraftJson(args);
  }
  static TempDir* dir_;
  static nlohmann::json* trained_;
};
TempDir* Pretraining::dir_ = nullptr;
nlohmann::json* Pretraining::trained_ = nullptr;

TEST_F(Pretraining, LearnsToGuess) {
  EXPECT_EQ((*trained_)["method"], "full");
  const nlohmann::json json = Eval("run", {"--checkpoint", "last"});
  EXPECT_EQ(json["split"], "val");
  EXPECT_GT(json["accuracy"], 0.12);  // 1/26 without a look at the text
  EXPECT_NEAR(json["perplexity"], std::exp(json["loss"].get<double>()), 1e-9);
  EXPECT_LT(json["perplexity"], 20);
  // About 15 % of the letters are masked.
  const double letters = static_cast<double>(std::ranges::count_if(
      Slurp(At("corpus") + "/val.txt"), [](char c) { return c >= 'a' && c <= 'z'; }));
  EXPECT_NEAR(json["n"].get<double>(), 0.15 * letters, 0.02 * letters);
  EXPECT_EQ((*trained_)["val_accuracy"], json["accuracy"]);  // fixed masks: the same ones
  std::string metrics = Slurp(At("run") + "/metrics.jsonl");
  metrics.pop_back();
  const nlohmann::json last = nlohmann::json::parse(metrics.substr(metrics.find_last_of('\n') + 1));
  EXPECT_NEAR(last["val_perplexity"], json["perplexity"], 1e-9);
  EXPECT_EQ(Eval("run", {"--checkpoint", "last", "--threads", "1"})["loss"], json["loss"]);
}

// Masks are those of the epoch: otherwise the second one would go on with those of the first.
TEST_F(Pretraining, ResumedTheWeightsAreTheSame) {
  const std::string weights = Slurp(At("run") + "/last.safetensors");
  GraftJson(Args("one", {"--threads", "1"}));
  EXPECT_EQ(Slurp(At("one") + "/last.safetensors"), weights);
  SignalAt(Args("killed", {"--threads", "2", "--save-every", "7"}), At("killed/state.safetensors"),
           SIGKILL);
  GraftJson({"train", "--resume", At("killed"), "--threads", "2"});
  EXPECT_EQ(Slurp(At("killed") + "/last.safetensors"), weights);
}

// The loss is that of a masked word, whatever the parts of a batch: without learning it is what
// validation measures, as that knows as little of as many words.
TEST_F(Pretraining, TheLossIsTheMeanOfMaskedWords) {
  const auto last = [&](const char* out, const char* micro) {
    GraftJson(Args(out, {"--micro-batch", micro, "--epochs", "1", "--lr", "1e-12"}));
    return nlohmann::json::parse(Slurp(At(out) + "/metrics.jsonl"));
  };
  const nlohmann::json three = last("micro3", "3"), all = last("micro16", "16");
  EXPECT_NEAR(three["train_loss"], all["train_loss"], 1e-5);
  EXPECT_NEAR(three["train_loss"], all["val_loss"], 0.1);
  EXPECT_NEAR(all["val_loss"], std::log(260), 0.3);
}

// What a text's masks are made of, no kept features stand for.
TEST_F(Pretraining, AHeadAloneHasOtherMasksInEveryEpoch) {
  const Outcome o = Graft(Args("head", {"--method", "linear", "--epochs", "2"}));
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_EQ((o.out + o.err).find("features of the frozen layers"), std::string::npos);
}

TEST_F(Pretraining, WholeWordsAreAnOption) {
  GraftJson(Args("whole", {"--whole-words", "", "--epochs", "1"}));
  const nlohmann::json config = nlohmann::json::parse(Slurp(At("whole") + "/config.json"));
  EXPECT_EQ(config["whole_words"], true);
  GraftJson({"eval", "--run", At("whole"), "--data", At("corpus")});
}

// The result is a base like any other: it goes on, and a classifier or a prompt stands on it.
TEST_F(Pretraining, TheResultIsACheckpoint) {
  GraftJson({"fuse", "--run", At("run"), "--out", At("bert")});
  const nlohmann::json config = nlohmann::json::parse(Slurp(At("bert") + "/config.json"));
  EXPECT_EQ(config["architectures"], nlohmann::json({"BertForMaskedLM"}));
  EXPECT_TRUE(fs::exists(At("bert") + "/vocab.txt"));
  const double loss = Eval("run")["loss"];
  Words on = Args("on", {"--lr", "1e-12", "--epochs", "1", "--weight-decay", "0"});
  *std::ranges::find(on, kModel) = At("bert");
  GraftJson(on);
  EXPECT_NEAR(Eval("on")["loss"], loss, 1e-4);
  fs::create_directory(At("labelled"));
  Spill(At("labelled") + "/train.tsv", "a b c\t0\nx y z\t1\nb c d\t0\nw x y\t1\n");
  GraftJson({"train", "--model", At("bert"), "--data", At("labelled"), "--method", "lora",
             "--epochs", "1", "--out", At("classes")});
  GraftJson({"train", "--model", At("bert"), "--data", At("labelled"), "--method", "lora",
             "--epochs", "1", "--out", At("prompt"), "--head", "mlm", "--template", "{text} [MASK]",
             "--words", "a|z"});
  GraftJson({"export", "--run", At("run"), "--format", "hf", "--merged", "--out", At("hf")});
  EXPECT_EQ(Slurp(At("hf") + "/model.safetensors"), Slurp(At("bert") + "/model.safetensors"));
}

// Rows in front of the words leave inputs that no node reads.
TEST_F(Pretraining, APromptIsMeasured) {
  GraftJson(Args("prompted", {"--method", "prompt(tokens=2)", "--epochs", "1"}));
  const nlohmann::json line = nlohmann::json::parse(Slurp(At("prompted") + "/metrics.jsonl"));
  EXPECT_NEAR(Eval("prompted")["loss"].get<double>(), line["val_loss"].get<double>(), 1e-4);
}

TEST_F(Pretraining, Mistakes) {
  fs::create_directory(At("empty"));
  const auto with = [](const Words& more) { return Args("fresh", more); };
  const auto instead = [&](const char* of, const std::string& value) {
    Words args = with({});
    *(std::ranges::find(args, of) + 1) = value;
    return args;
  };
  const std::string none = kFixtures + "tiny_vit_hf";
  ExpectMistakes(
      {{"other objective", instead("--objective", "lm"), 2, {"--objective: 'lm'; known: mlm"}},
       {"no texts", instead("--data", At("empty")), 1, {"expected texts as .txt files"}},
       {"no directory", instead("--data", At("nowhere")), 1, {"does not exist"}},
       {"a vit", instead("--model", kNano), 2, {"--tokenizer"}},
       {"columns", with({"--columns", "a,b"}), 2, {"--objective mlm reads plain ones"}},
       {"calibration", with({"--method", "calibration+lora"}), 2, {"calibration is of classes"}},
       {"a layer of calibration",
        with({"--method", "calibration-layer+lora"}),
        2,
        {"calibration is of classes"}},
       {"trace", with({"--trace", At("trace")}), 2, {"--trace: not supported"}},
       {"pool", with({"--pool", "cls"}), 2, {"--pool cls: of a classifier"}},
       {"new head", with({"--new-head", ""}), 2, {"--new-head: of a classifier"}},
       {"words", with({"--words", "a|b"}), 2, {"--words a|b: goes with --head mlm"}},
       {"split", with({"--val-split", "dev"}), 1, {"dev"}},
       {"whole words of labels",
        {"train", "--model", kModel, "--data", At("corpus"), "--method", "full", "--out",
         At("fresh"), "--whole-words"},
        2,
        {"--whole-words: goes with --objective mlm"}},
       {"predict", {"predict", "--run", At("run"), "--text", "a"}, 1, {"has no classes"}},
       {"adapter",
        {"export", "--run", At("run"), "--format", "graft", "--out", At("fresh")},
        2,
        {"not of a masked-LM head"}},
       {"proof",
        {"fuse", "--run", At("run"), "--data", At("corpus"), "--out", At("fresh")},
        2,
        {"proved on random inputs"}}},
      *dir_);
}

}  // namespace
}  // namespace graft::cli::cli_corpus_test
