// A BERT on the command line: train, eval, predict, fuse and resume on texts whose class a word
// decides.
#include <algorithm>

#include "tests/cli_testing.h"

namespace graft::cli {
namespace {

const std::string kVocabulary =
    std::string(GRAFT_SOURCE_DIR) + "/tests/fixtures/tokenizer/vocab.txt";

// Texts of 3 to 10 letters; the class is whether 'x' or 'y' stands among them.
void WriteSplit(const fs::path& path, int n, uint32_t seed) {
  std::string text;
  const auto draw = [&](uint32_t most) {
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 16) % most;
  };
  for (int i = 0; i < n; ++i) {
    const uint32_t length = 3 + draw(8), place = draw(length), label = draw(2);
    for (uint32_t k = 0; k < length; ++k) {
      const char other = static_cast<char>('a' + draw(20));
      text += k == place ? (label ? 'y' : 'x') : other;
      text += k + 1 < length ? ' ' : '\t';
    }
    text += std::to_string(label) + "\n";
  }
  Spill(path, text);
}

class TextStory : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    fs::create_directory(data());
    Spill(data() + "/labels.txt", "crossed\nforked\n");
    WriteSplit(data() + "/train.tsv", 240, 1);
    WriteSplit(data() + "/dev.tsv", 80, 2);
    trained_ = new nlohmann::json(GraftJson(Args(run(), {"--threads", "2"})));
  }
  static void TearDownTestSuite() { delete dir_, delete trained_; }
  static std::string data() { return *dir_ / "data"; }
  static std::string run() { return *dir_ / "run"; }
  static std::vector<std::string> Args(const std::string& out,
                                       const std::vector<std::string>& more) {
    std::vector<std::string> args{"train",       "--model",   "init:bert_tiny",
                                  "--tokenizer", kVocabulary, "--data",
                                  data(),        "--method",  "full",
                                  "--lr",        "2e-3",      "--epochs",
                                  "6",           "--out",     out,
                                  "--clip",      "1",         "--batch-size",
                                  "16"};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }

  static TempDir* dir_;
  static nlohmann::json* trained_;
};
TempDir* TextStory::dir_ = nullptr;
nlohmann::json* TextStory::trained_ = nullptr;

TEST_F(TextStory, EvalAgreesWithTraining) {
  EXPECT_GT((*trained_)["val_accuracy"], 0.9);
  const nlohmann::json json = GraftJson({"eval", "--run", run(), "--data", data()});
  EXPECT_EQ(json["split"], "dev");
  EXPECT_EQ(json["n"], 80);
  EXPECT_EQ(json["accuracy"], (*trained_)["val_accuracy"]);
  EXPECT_GT(json["macro_f1"], 0.9);
  EXPECT_GT(json["matthews_correlation"], 0.8);
  EXPECT_GT(json["f1"], 0.9);
  int64_t total = 0, right = 0;
  for (const nlohmann::json& cell : json["confusion"]) {
    total += cell[2].get<int64_t>();
    if (cell[0] == cell[1]) right += cell[2].get<int64_t>();
  }
  EXPECT_EQ(total, 80);
  EXPECT_DOUBLE_EQ(static_cast<double>(right) / 80, json["accuracy"]);
}

TEST_F(TextStory, PredictNamesTheClass) {
  Spill(*dir_ / "lines.txt", "c d e f y\nb x\n");
  const nlohmann::json json = GraftJson(
      {"predict", "--run", run(), "--text", "a x b c", "--text", "a b y", *dir_ / "lines.txt"});
  std::vector<std::string> names;
  for (const nlohmann::json& p : json["predictions"]) names.push_back(p["top"][0]["name"]);
  EXPECT_EQ(names, (std::vector<std::string>{"crossed", "forked", "forked", "crossed"}));
  EXPECT_EQ(json["predictions"][3]["input"], "b x");
}

TEST_F(TextStory, ColumnsByName) {
  const std::string named = *dir_ / "named";
  fs::create_directory(named);
  Spill(named + "/dev.csv", "id,review,verdict\n1,a b x,crossed\n2,y b,forked\n3,x d,0\n");
  fs::copy(data() + "/labels.txt", named + "/labels.txt");
  const nlohmann::json json =
      GraftJson({"eval", "--run", run(), "--data", named, "--columns", "review,verdict"});
  EXPECT_EQ(json["n"], 3);
  EXPECT_EQ(json["accuracy"], 1.0);
  EXPECT_EQ(Graft({"eval", "--run", run(), "--data", named, "--columns", "review"}).code, 1);
}

// What the head reads belongs to the run, and transformers knows the pooler only.
TEST_F(TextStory, PoolingIsChosen) {
  const std::string mean = *dir_ / "mean", fused = *dir_ / "mean_fused";
  GraftJson(Args(mean, {"--pool", "mean", "--limit", "64"}));
  const auto evaluate = [&](const char* flag, const std::string& model) {
    return GraftJson({"eval", flag, model, "--data", data()})["loss"];
  };
  const double loss = evaluate("--run", mean);
  std::vector<std::string> pooled = Args(*dir_ / "pooled", {"--limit", "64"});
  GraftJson(pooled);
  EXPECT_NE(loss, evaluate("--run", *dir_ / "pooled"));
  GraftJson({"fuse", "--run", mean, "--out", fused});
  EXPECT_NEAR(evaluate("--model", fused), loss, 1e-5);
  const Outcome o =
      Graft({"export", "--run", mean, "--format", "hf", "--merged", "--out", *dir_ / "mean_hf"});
  EXPECT_EQ(o.code, 1);
  EXPECT_NE(o.err.find("pools by 'mean'"), std::string::npos) << o.err;
}

TEST_F(TextStory, SameBitsAtOneThread) {
  const std::string one = *dir_ / "one";
  GraftJson(Args(one, {"--threads", "1"}));
  EXPECT_EQ(Slurp(one + "/last.safetensors"), Slurp(run() + "/last.safetensors"));
}

TEST_F(TextStory, ResumeGivesTheSameWeights) {
  const std::string out = *dir_ / "killed";
  Process process(Args(out, {"--threads", "2", "--save-every", "5"}));
  while (process.Running() && !fs::exists(out + "/state.safetensors")) usleep(2000);
  process.Signal(SIGKILL);
  process.Wait();
  GraftJson({"train", "--resume", out, "--threads", "2"});
  EXPECT_EQ(Slurp(out + "/last.safetensors"), Slurp(run() + "/last.safetensors"));
}

TEST_F(TextStory, FusedModelPredictsAlike) {
  const std::string lora = *dir_ / "lora", fused = *dir_ / "fused";
  std::vector<std::string> args = Args(lora, {"--limit", "32"});
  *std::find(args.begin(), args.end(), "full") = "lora(r=2)";
  GraftJson(args);
  const nlohmann::json proof = GraftJson({"fuse", "--run", lora, "--out", fused});
  EXPECT_EQ(proof["n"], 64);
  EXPECT_LE(proof["relative_error"], 1e-5);
  const auto evaluate = [&](const char* flag, const std::string& model) {
    return GraftJson({"eval", flag, model, "--data", data()})["accuracy"];
  };
  EXPECT_EQ(evaluate("--model", fused), evaluate("--run", lora));
}

// The encoder runs once for each text, whatever the epochs; a killed run makes the same features.
TEST_F(TextStory, LinearProbeKeepsFeatures) {
  const auto probe = [&](const char* out, const std::vector<std::string>& more) {
    std::vector<std::string> args = Args(*dir_ / out, more);
    *std::find(args.begin(), args.end(), "full") = "linear";
    return Graft(args);
  };
  const Outcome o = probe("linear", {"--threads", "2"});
  EXPECT_EQ(o.code, 0);
  EXPECT_NE((o.out + o.err).find("features of the frozen layers kept for 240 texts"),
            std::string::npos)
      << o.out << o.err;
  probe("linear_one", {"--threads", "1"});
  EXPECT_EQ(Slurp(*dir_ / "linear/last.safetensors"), Slurp(*dir_ / "linear_one/last.safetensors"));
}

TEST_F(TextStory, MistakesAreNamed) {
  const auto error = [&](std::vector<std::string> args) {
    const Outcome o = Graft(std::move(args));
    EXPECT_EQ(o.code, 1);
    return o.err;
  };
  EXPECT_NE(error({"eval", "--model", "init:bert_tiny", "--data", data()}).find("--tokenizer"),
            std::string::npos);
  EXPECT_NE(error({"eval", "--model", kNano, "--data", data()}).find("holds texts"),
            std::string::npos);
  EXPECT_NE(error({"predict", "--model", kNano, "--text", "a"}).find("reads images"),
            std::string::npos);
  EXPECT_NE(error({"eval", "--run", run(), "--data", data(), "--max-length", "600"})
                .find("512 positions"),
            std::string::npos);
}

}  // namespace
}  // namespace graft::cli
