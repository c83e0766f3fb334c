// Prompts on the command line: found by a search (bbt), pre-trained on sentences of plain texts
// (--objective nsp, nss), begun with words or with another run's.
#include <algorithm>
#include <cmath>

#include "runtime/io/safetensors.h"
#include "tests/cli_mistakes_testing.h"

namespace graft::cli::cli_search_test {
namespace {

constexpr const char* kModel = "init:bert(vocab=260,width=16,depth=2,heads=2,mlp=32,positions=64)";

class Search : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    std::string train, dev, corpus, held;
    for (int i = 0; i < 32; ++i)
      (i < 24 ? train : dev) += fmt::format("{} {} film {}\t{}\n", static_cast<char>('a' + i % 9),
                                            i, i % 2 ? "x y" : "p", i % 2);
    dir_->Write("texts/labels.txt", "odd\neven\n");
    dir_->Write("texts/train.tsv", train), dir_->Write("texts/dev.tsv", dev);
    for (int d = 0; d < 20; ++d) {
      for (int s = 0; s < 4; ++s) {
        corpus += fmt::format("{} the film {}\n", static_cast<char>('a' + d), s);
        held += fmt::format("{} of the {}\n", static_cast<char>('a' + d), s);
      }
      corpus += '\n', held += '\n';
    }
    dir_->Write("corpus/a.txt", corpus), dir_->Write("corpus/val.txt", held);
    GraftJson(Bbt("run"));
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static std::string Weights(const std::string& run, const char* which = "last") {
    return Slurp(At(run) + "/" + which + ".safetensors");
  }
  static Words Args(const std::string& out, const std::string& method, const Words& more = {}) {
    return WithOptions({"train", "--model", kModel, "--tokenizer", kVocabulary, "--data",
                        At("texts"), "--out", At(out), "--method", method, "--head", "mlm",
                        "--template", "{text} a [MASK].", "--words", "no|film"},
                       more);
  }
  static Words Bbt(const std::string& out, const Words& more = {},
                   const std::string& method = "bbt(tokens=3,d=6,population=6,budget=240)") {
    return Args(out, method, more);
  }
  static Words Sentences(const std::string& out, const std::string& objective,
                         const Words& more = {}) {
    return WithOptions(
        {"train", "--model", kModel, "--tokenizer", kVocabulary, "--data", At("corpus"), "--out",
         At(out), "--objective", objective, "--words",
         objective == "nsp" ? "no|film|the" : "a|b|c|d|e|f", "--epochs", "2", "--batch-size", "8"},
        more);
  }
  static double Loss(const std::string& run, const std::string& checkpoint = "last") {
    return GraftJson({"eval", "--run", At(run), "--data", At("texts"), "--split", "train",
                      "--checkpoint", checkpoint})["loss"];
  }
  static TempDir* dir_;
};
TempDir* Search::dir_ = nullptr;

// The loss of the best candidate is that of the model which is kept, and less than that of z = 0.
TEST_F(Search, TheLossFallsAndIsThatOfTheModel) {
  std::string lines = Slurp(At("run") + "/metrics.jsonl");
  double before = 1e9;
  int rounds = 0;
  nlohmann::json line;
  for (size_t at = 0; at < lines.size(); at = lines.find('\n', at) + 1, ++rounds) {
    line = nlohmann::json::parse(lines.substr(at, lines.find('\n', at) - at));
    EXPECT_LE(line["train_loss"], before);
    before = line["train_loss"];
    EXPECT_TRUE(line.contains("val_accuracy"));
  }
  EXPECT_EQ(rounds, 3);  // of 17 generations, 102 candidates; the last has 6
  EXPECT_EQ(line["candidates"], 240);
  EXPECT_EQ(line["step"], 40);
  EXPECT_NEAR(Loss("run"), before, 2e-8);  // of float losses the mean in double
  GraftJson(Bbt("short", {}, "bbt(tokens=3,d=6,population=6,budget=6)"));
  EXPECT_LT(before, Loss("short"));
}

TEST_F(Search, KeepsAFewNumbers) {
  const SafetensorsFile file = SafetensorsFile::Open(At("run") + "/last.safetensors");
  ASSERT_EQ(file.tensors().size(), 1u);
  EXPECT_EQ(file.tensors()[0].name, "bbt.z");
  EXPECT_EQ(file.tensors()[0].shape, (std::vector<int64_t>{1, 6}));
  const nlohmann::json again = GraftJson({"train", "--resume", At("run")});
  EXPECT_EQ(again["trainable_parameters"], 6);
  EXPECT_EQ(again["steps"], 40);
  EXPECT_EQ(nlohmann::json::parse(Slurp(At("run") + "/config.json"))["epochs"], 3);  // of metrics
}

TEST_F(Search, SameBitsOnAnyThreadsAndResumed) {
  for (const char* threads : {"1", "3"}) {
    const std::string out = std::string("threads") + threads;
    GraftJson(Bbt(out, {"--threads", threads}));
    EXPECT_EQ(Weights(out), Weights("run")) << threads;
    EXPECT_EQ(Weights(out, "best"), Weights("run", "best")) << threads;
  }
  SignalAt(Bbt("killed", {"--save-every", "1"}), At("killed") + "/state.safetensors", SIGKILL);
  GraftJson({"train", "--resume", At("killed")});
  EXPECT_EQ(Weights("killed"), Weights("run"));
  EXPECT_EQ(Weights("killed", "best"), Weights("run", "best"));
}

TEST_F(Search, WithinABudgetThePlanBinds) {
  GraftJson(Bbt("small", {"--memory-budget", "40MiB", "--save-every", "1"}));
  EXPECT_NEAR(Loss("small"), Loss("run"), 0.05);
  // This is what a process leaves that is killed before its first checkpoint: the capacity stays.
  fs::create_directory(At("bound"));
  fs::copy_file(At("small") + "/config.json", At("bound") + "/config.json");
  nlohmann::json plan = nlohmann::json::parse(Slurp(At("small") + "/plan.json"));
  EXPECT_GT(plan["sequences"], 1);
  plan["sequences"] = 1;
  Spill(At("bound") + "/plan.json", plan.dump());
  GraftJson({"train", "--resume", At("bound"), "--threads", "3"});
  EXPECT_EQ(nlohmann::json::parse(Slurp(At("bound") + "/plan.json")), plan);
}

// The projection goes and the rows stay, which gives the same logits.
TEST_F(Search, ThePromptIsStoredInPart) {
  for (const char* mode : {"add", "cat"}) {
    const std::string run = std::string("mode_") + mode, part = At(run) + "_part";
    GraftJson(Bbt(run, {}, fmt::format("bbt(tokens=3,d=6,population=6,budget=60,mode={})", mode)));
    EXPECT_EQ(Graft({"fuse", "--run", At(run), "--out", part}).code, 4);
    GraftJson({"export", "--run", At(run), "--format", "graft", "--out", part});
    const std::string adapter = part + "/adapter.safetensors";
    const Words text{"--text", "x y film", "--top", "2"};
    Words whole{"predict", "--run", At(run), "--checkpoint", "best"};
    whole.insert(whole.end(), text.begin(), text.end());
    const nlohmann::json a = GraftJson(whole)["predictions"][0]["top"];
    const SafetensorsFile file = SafetensorsFile::Open(adapter);
    ASSERT_EQ(file.tensors().size(), 1u);
    EXPECT_EQ(file.tensors()[0].name, "bbt.prompt");
    Words stored{"predict", "--model", kModel, "--adapter", adapter, "--tokenizer", kVocabulary};
    stored.insert(stored.end(), text.begin(), text.end());
    const nlohmann::json b = GraftJson(stored)["predictions"][0]["top"];
    for (int k = 0; k < 2; ++k)
      EXPECT_NEAR(a[k]["logit"].get<double>(), b[k]["logit"].get<double>(), 1e-5) << mode;
  }
}

TEST_F(Search, SentencesPreTrainAPrompt) {
  for (const char* objective : {"nsp", "nss"}) {
    const std::string run = objective;
    const nlohmann::json json = GraftJson(Sentences(run, objective));
    EXPECT_EQ(json["method"], "prompt(head=frozen)");
    EXPECT_EQ(json["trainable_parameters"], 20 * 16);
    const nlohmann::json eval =
        GraftJson({"eval", "--run", At(run), "--data", At("corpus"), "--split", "val"});
    EXPECT_EQ(eval["accuracy"], json["val_accuracy"]);
    EXPECT_GT(eval["n"], 30);
    GraftJson(Args(run + "_tuned", fmt::format("prompt(init={},head=frozen)", At(run)),
                   {"--lr", "1e-12"}));
    const ParamStore before = SafetensorsFile::Open(At(run) + "/best.safetensors").LoadAll();
    const ParamStore after = SafetensorsFile::Open(At(run) + "_tuned/last.safetensors").LoadAll();
    const auto a = before.values("prompt.tokens"), b = after.values("prompt.tokens");
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-6);
    // What was tuned needs the run no more.
    fs::rename(At(run), At(run) + "_moved");
    GraftJson({"eval", "--run", At(run) + "_tuned", "--data", At("texts"), "--split", "dev"});
  }
}

TEST_F(Search, PromptsBeginWithWords) {
  GraftJson(Args("words", "prompt(tokens=5,init=text,text=the film)",
                 {"--lr", "1e-12", "--epochs", "1"}));
  const ParamStore tuned = SafetensorsFile::Open(At("words") + "/last.safetensors").LoadAll();
  const auto rows = tuned.values("prompt.tokens");
  ASSERT_EQ(rows.size(), 5u * 16);
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_NEAR(rows[i], rows[2 * 16 + i], 1e-6);
    EXPECT_NEAR(rows[16 + i], rows[3 * 16 + i], 1e-6);
  }
  EXPECT_NE(rows[0], rows[16]);
  const nlohmann::json config = nlohmann::json::parse(Slurp(At("words") + "/config.json"));
  EXPECT_NE(config["method"].get<std::string>().find("ids="), std::string::npos);
}

TEST_F(Search, Mistakes) {
  const auto refused = [&](const Words& args, int code, const Words& parts) {
    const Outcome o = Graft(args);
    EXPECT_EQ(o.code, code) << o.err;
    for (const std::string& part : parts) EXPECT_NE(o.err.find(part), std::string::npos) << o.err;
    EXPECT_FALSE(fs::exists(At("none")));
  };
  refused(Bbt("none", {"--weight-decay", "0.1"}), 2, {"--weight-decay", "without gradients"});
  refused(Bbt("none", {"--lr", "1e-3"}), 2, {"--lr", "without gradients", "sigma"});
  refused(Bbt("none", {"--epochs", "3"}), 2, {"--epochs", "budget"});
  refused(Bbt("none", {"--batch-size", "8"}), 2, {"--batch-size", "--limit"});
  refused(Bbt("none", {}, "bbt(budget=10)"), 2, {"'budget'", "20"});
  refused(Bbt("none", {}, "bbt(d=0)"), 2, {"d=0"});
  refused(Bbt("none", {}, "bbt(tokens=3)+lora(r=2)"), 2, {"'lora'", "beside"});
  refused(Bbt("none", {}, "bbt(head=trained)"), 2, {"'head'", "frozen"});
  refused(Bbt("none", {}, "bbt(tokens=300)"), 1, {"positions"});
  refused(Args("none", "prompt(init=text)"), 2, {"init=text", "'text'"});
  refused(Args("none", "prompt(init=nowhere)"), 1, {"nowhere"});
  refused(Args("none", fmt::format("prompt(init={})", At("run"))), 1, {"trained no prompt"});
  refused(Sentences("none", "nxp"), 2, {"--objective", "nsp"});
  fs::create_directory(At("nothing"));
  refused(Sentences("none", "nsp", {"--data", At("nothing")}), 1, {".txt"});
  refused(Sentences("none", "nsp", {"--data", At("texts")}), 1, {"as a data set with classes"});
  fs::create_directory(At("lines")), Spill(At("lines/a.txt"), "one text\nanother one\n");
  refused(Sentences("none", "nsp", {"--data", At("lines")}), 1, {"two documents"});
}

}  // namespace
}  // namespace graft::cli::cli_search_test
