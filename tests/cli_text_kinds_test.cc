// A BERT whose tokenizer has files of every kind, on the command line: logits are those of
// transformers (tests/fixtures/text_kinds.json), and the files go where the model goes.
#include <cmath>

#include "tests/cli_testing.h"

namespace graft::cli::cli_text_kinds_test {
namespace {

class TextKindsStory : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    kinds_ =
        new nlohmann::json(nlohmann::json::parse(Slurp(kFixtures + "text_kinds.json")).at("model"));
    fs::create_directory(tokenizer());
    for (const auto& [name, content] : kinds_->at("files").items()) {
      std::string text = content.dump();
      if (name == "vocab.txt") {
        text.clear();
        for (const std::string token : content) text += token + "\n";
      }
      Spill(tokenizer() + "/" + name, text);
    }
    fs::copy(kFixtures + "tiny_bert_hf", bare());
    fs::copy(bare(), model());
    fs::copy(tokenizer(), model());
    fs::create_directory(data());
    std::string rows;
    for (const nlohmann::json& c : cases())
      if (c.contains("second") && !c.contains("max_length"))
        rows += c["text"].get<std::string>() + "\t" + c["second"].get<std::string>() + "\t1\n";
    Spill(data() + "/train.tsv", rows + rows + "not a film\t\t0\nbad\tgood\t2\n");
    Spill(data() + "/dev.tsv", rows);
    Spill(data() + "/labels.txt", "0\n1\n2\n");
  }
  static void TearDownTestSuite() { delete dir_, delete kinds_; }
  static std::string tokenizer() { return *dir_ / "tokenizer"; }
  static std::string bare() { return *dir_ / "bare"; }    // the model without its tokenizer
  static std::string model() { return *dir_ / "model"; }  // with it
  static std::string data() { return *dir_ / "data"; }
  static const nlohmann::json& cases() { return kinds_->at("cases"); }

  static std::vector<double> Logits(std::vector<std::string> args, const nlohmann::json& c) {
    std::string text = c.at("text");
    if (c.contains("second")) text += "\t" + c["second"].get<std::string>();
    args.insert(args.begin(), "predict");
    args.insert(args.end(), {"--text", text, "--top", "3"});
    if (c.contains("max_length")) args.insert(args.end(), {"--max-length", c["max_length"].dump()});
    std::vector<double> logits(3);
    const nlohmann::json json = GraftJson(args);
    for (const nlohmann::json& one : json.at("predictions").at(0).at("top"))
      logits.at(one.at("class").get<size_t>()) = one.at("logit");
    return logits;
  }
  static void ExpectLogits(const std::vector<std::string>& args) {
    for (const nlohmann::json& c : cases()) {
      const std::vector<double> expected = c.at("logits"), found = Logits(args, c);
      for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(found[i], expected[i], 1e-4) << args[1] << c;
    }
  }
  static void ExpectFiles(const std::string& directory) {
    for (const auto& [name, content] : kinds_->at("files").items())
      EXPECT_EQ(Slurp(directory + "/" + name), Slurp(tokenizer() + "/" + name)) << name;
  }
  static std::vector<std::string> Train(const std::string& of, const std::string& out,
                                        const std::vector<std::string>& more) {
    std::vector<std::string> args{"train",    "--model",   of,         "--data",      data(),
                                  "--method", "lora(r=2)", "--epochs", "1",           "--out",
                                  out,        "--lr",      "1e-3",     "--val-split", "none"};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }

  static TempDir* dir_;
  static nlohmann::json* kinds_;
};
TempDir* TextKindsStory::dir_ = nullptr;
nlohmann::json* TextKindsStory::kinds_ = nullptr;

TEST_F(TextKindsStory, LogitsAreThoseOfTransformers) {
  ExpectLogits({"--model", model()});
  ExpectLogits({"--model", bare(), "--tokenizer", tokenizer()});
  ExpectLogits({"--model", bare(), "--tokenizer", tokenizer() + "/vocab.txt"});
}

// A data set of pairs stays one where a second text is empty, and where all of them are.
TEST_F(TextKindsStory, PairsOfADataSet) {
  double loss = 0;
  int64_t pairs = 0;
  const auto loss_of = [](const nlohmann::json& c) {
    const std::vector<double> y = c.at("logits");
    return std::log(std::exp(y[0]) + std::exp(y[1]) + std::exp(y[2])) - y[1];
  };
  for (const nlohmann::json& c : cases()) {
    if (!c.contains("second") || c.contains("max_length")) continue;
    loss += loss_of(c), ++pairs;
  }
  EXPECT_EQ(pairs, 2);
  const std::vector<std::string> eval{"eval", "--model", model(), "--data", data()};
  EXPECT_NEAR(GraftJson(eval)["loss"], loss / 2, 1e-4);
  const std::string all = Slurp(data() + "/dev.tsv");
  Spill(data() + "/dev.tsv", "a film\t\t1\n");
  const nlohmann::json json = GraftJson(eval);
  Spill(data() + "/dev.tsv", all);
  for (const nlohmann::json& c : cases()) {
    if (c.value("second", "none").empty()) {
      EXPECT_NEAR(json["loss"], loss_of(c), 1e-4);
    }
  }
}

TEST_F(TextKindsStory, FilesGoWithExportedAndFusedModels) {
  const std::string exported = *dir_ / "exported", run = *dir_ / "run", fused = *dir_ / "fused";
  const std::string base = *dir_ / "base", given = *dir_ / "given", other = *dir_ / "other";
  GraftJson({"export", "--model", model(), "--format", "hf", "--out", exported});
  ExpectFiles(exported);
  ExpectLogits({"--model", exported});
  GraftJson(Train(model(), run, {}));
  GraftJson({"fuse", "--run", run, "--out", fused, "--keep-base"});
  ExpectFiles(fused);
  for (const nlohmann::json& c : cases()) {
    if (!c.contains("second")) continue;  // pairs were learnt
    const auto a = Logits({"--model", fused}, c), b = Logits({"--run", run}, c);
    for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(a[i], b[i], 1e-4) << c;
  }
  GraftJson({"fuse", "--undo", fused, "--out", base});
  ExpectFiles(base);
  ExpectLogits({"--model", base});
  GraftJson(Train(bare(), given, {"--tokenizer", tokenizer()}));
  GraftJson({"export", "--run", given, "--format", "hf", "--merged", "--out", other});
  ExpectFiles(other);
}

// transformers lets these texts fail in the embedding; all others are read.
TEST_F(TextKindsStory, ATokenBeyondTheEmbeddings) {
  const std::string words = *dir_ / "many";
  fs::copy(tokenizer(), words);
  Spill(words + "/added_tokens.json", R"({"covid19": 38, "<e>": 39, "<f>": 40, "<g>": 41})");
  const std::vector<std::string> predict{"predict",     "--model", bare(),
                                         "--tokenizer", words,     "--text"};
  const auto run = [&](const char* text) {
    std::vector<std::string> args = predict;
    args.emplace_back(text);
    return Graft(args);
  };
  EXPECT_EQ(run("a covid19 <f>").code, 0);
  const Outcome o = run("a <g> film");
  EXPECT_EQ(o.code, 1);
  EXPECT_NE(o.err.find("the token '<g>' has id 41, but"), std::string::npos) << o.err;
  EXPECT_NE(o.err.find("embeddings for 41; found in 'a <g> film'"), std::string::npos) << o.err;
}

}  // namespace
}  // namespace graft::cli::cli_text_kinds_test
