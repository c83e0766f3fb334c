// Tests a BERT on the command line: train, eval, predict, fuse and resume, on texts whose class a
// word decides.
#include <algorithm>

#include "tests/cli_testing.h"

namespace graft::cli::cli_text_test {
namespace {

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

class TextStory : public ::testing::Test {
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
    std::vector<std::string> args{
        "train",    "--model", kNanoBert, "--tokenizer",  kVocabulary, "--data", data(),
        "--method", "full",    "--lr",    "2e-3",         "--epochs",  "6",      "--out",
        out,        "--clip",  "1",       "--batch-size", "16"};
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
  EXPECT_EQ(Graft({"eval", "--run", run(), "--data", named, "--columns", "review"}).code, 2);
}

// Numbers of classes are the data set's; what a class is, its name tells.
TEST_F(TextStory, ClassesAreMatchedByName) {
  const auto write = [&](const char* name, const char* labels, const char* first) {
    const std::string other = *dir_ / name;
    fs::create_directory(other);
    Spill(other + "/labels.txt", labels);
    Spill(other + "/dev.tsv", fmt::format("a b x\t{}\ny b\tForked\nb y\tForked\n", first));
    return Graft({"eval", "--run", run(), "--data", other, "--json"});
  };
  const Outcome swapped = write("swapped", "Forked\nCrossed\n", "Crossed");
  ASSERT_EQ(swapped.code, 0) << swapped.err;
  const nlohmann::json json = nlohmann::json::parse(swapped.out);
  EXPECT_EQ(json["accuracy"], 1.0);
  EXPECT_EQ(json["confusion"], nlohmann::json::parse("[[0,0,1],[1,1,2]]"));
  const Outcome other = write("other", "Bent\nForked\n", "Bent");
  EXPECT_EQ(other.code, 1);
  EXPECT_NE(other.err.find("'Bent', expected one of crossed, forked"), std::string::npos)
      << other.err;
}

TEST_F(TextStory, DataIsChecked) {
  const std::string glue = *dir_ / "glue";
  fs::copy(data(), glue);
  const nlohmann::json json = GraftJson({"data", "check", glue});
  EXPECT_TRUE(json["ok"]);
  EXPECT_EQ(json["splits"][0]["texts"], 240);
  EXPECT_EQ(json["splits"][1]["split"], "dev");
  EXPECT_EQ(json["class_names"], (std::vector<std::string>{"crossed", "forked"}));
  // A test set without labels is in nobody's way, and no test set.
  Spill(glue + "/test.tsv", "index\tsentence\n0\ta x\n");
  EXPECT_EQ(GraftJson({"eval", "--run", run(), "--data", glue, "--split", "dev"})["n"], 80);
  for (const std::vector<std::string>& args :
       {std::vector<std::string>{"data", "check", glue},
        std::vector<std::string>{"eval", "--run", run(), "--data", glue}}) {
    const Outcome o = Graft(args);
    EXPECT_EQ(o.code, 1);
    EXPECT_NE(o.err.find("test.tsv:1: expected a column 'label'"), std::string::npos) << o.err;
  }
  fs::copy(glue + "/dev.tsv", glue + "/test.tsv", fs::copy_options::overwrite_existing);
  EXPECT_NE(Graft({"data", "check", glue}).err.find("80 texts of test are in dev too"),
            std::string::npos);
}

// A head that does something else is replaced by one that does what is asked; 16 positions are
// enough.
TEST_F(TextStory, HeadsForOtherProblems) {
  const std::string model = *dir_ / "model", out = *dir_ / "problem", fused = *dir_ / "solved";
  fs::copy(kFixtures + "tiny_bert_hf", model);
  nlohmann::json config = nlohmann::json::parse(Slurp(model + "/config.json"));
  config["problem_type"] = "multi_label_classification";
  Spill(model + "/config.json", config.dump());
  std::string words = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
  for (char c = 'a'; c <= 'z'; ++c) words += fmt::format("{}\n", c);
  Spill(model + "/vocab.txt", words);
  const Outcome o = Graft({"predict", "--model", model, "--text", "a"});
  EXPECT_EQ((o.out + o.err).find("no effect of"), std::string::npos) << "of training alone";
  EXPECT_NE(o.out.find("labels: "), std::string::npos) << o.out << o.err;
  const Outcome trained = Graft({"train", "--model", model, "--data", data(), "--method", "linear",
                                 "--epochs", "1", "--limit", "16", "--out", out});
  EXPECT_EQ(trained.code, 0) << trained.err;
  EXPECT_NE((trained.out + trained.err).find("no effect of hidden_dropout_prob = 0.1, attention_"),
            std::string::npos)
      << trained.out << trained.err;
  EXPECT_EQ(nlohmann::json::parse(Slurp(out + "/config.json"))["max_length"], 16);
  GraftJson({"fuse", "--run", out, "--out", fused});
  EXPECT_FALSE(nlohmann::json::parse(Slurp(fused + "/config.json")).contains("problem_type"));
  EXPECT_EQ(Graft({"predict", "--model", fused, "--text", "a"}).code, 0);
}

// A base with one type of rows reads single texts.
TEST_F(TextStory, TypesOfPairsAreForPairs) {
  const std::string tokenizer = *dir_ / "tokenizer.json";
  const nlohmann::json json = nlohmann::json::parse(
      R"({"normalizer": {"type": "BertNormalizer", "clean_text": true, "lowercase": true,
                         "handle_chinese_chars": true, "strip_accents": null},
          "pre_tokenizer": {"type": "BertPreTokenizer"},
          "post_processor": {"type": "TemplateProcessing", "special_tokens": {},
            "single": [{"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}},
                     {"Sequence": {"id": "B", "type_id": 2}}]},
          "model": {"type": "WordPiece", "unk_token": "[UNK]", "max_input_chars_per_word": 100,
                    "continuing_subword_prefix": "##", "vocab": {"[UNK]": 0, "a": 1}}})");
  Spill(tokenizer, json.dump());
  const auto train = [&](const char* name, const char* rows) {
    Spill(*dir_ / name, rows);
    return Graft({"train", "--model", kNanoBert, "--tokenizer", tokenizer, "--data", *dir_ / name,
                  "--val-split", "none", "--method", "linear", "--epochs", "1", "--max-length", "8",
                  "--out", *dir_ / (std::string(name) + ".run")});
  };
  const Outcome single = train("single.tsv", "a\tx\na a\ty\n"),
                pair = train("pair.tsv", "a\ta\tx\na a\ta\ty\n");
  EXPECT_EQ(single.code, 0) << single.err;
  EXPECT_EQ(pair.code, 1);
  EXPECT_NE(pair.err.find("type 2 in the template of two texts"), std::string::npos) << pair.err;
}

TEST_F(TextStory, TextsThatAreNotUtf8) {
  const nlohmann::json json = GraftJson({"predict", "--run", run(), "--text", "a \xff\xfe x"});
  EXPECT_EQ(json["predictions"][0]["input"], "a \xef\xbf\xbd\xef\xbf\xbd x");
  // A run's config.json would name another directory.
  const std::string other = *dir_ / "other\xff", out = *dir_ / "of_other";
  fs::copy(data(), other);
  std::vector<std::string> args = Args(out, {});
  *std::find(args.begin(), args.end(), data()) = other;
  const Outcome o = Graft(args);
  EXPECT_EQ(o.code, 1);
  EXPECT_NE(o.err.find("--data: expected UTF-8"), std::string::npos) << o.err;
  EXPECT_NE(o.err.find("other\xef\xbf\xbd"), std::string::npos) << o.err;
  EXPECT_FALSE(fs::exists(out));
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
  SignalAt(Args(out, {"--threads", "2", "--save-every", "5"}), out + "/state.safetensors", SIGKILL);
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

// The encoder runs once for each text, whatever the epochs; a run that goes on makes the same
// features again.
TEST_F(TextStory, LinearProbeKeepsFeatures) {
  setenv("XDG_CACHE_HOME", (*dir_ / "cache").c_str(),
         1);  // an earlier run of the test has kept none
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
  const std::string weights = Slurp(*dir_ / "linear/last.safetensors");
  EXPECT_EQ(weights, Slurp(*dir_ / "linear_one/last.safetensors"));
  fs::remove(*dir_ / "linear_one/last.safetensors");
  fs::remove(*dir_ / "linear_one/state.safetensors");  // as of a run that was killed early
  EXPECT_EQ(Graft({"train", "--resume", *dir_ / "linear_one"}).code, 0);
  EXPECT_EQ(weights, Slurp(*dir_ / "linear_one/last.safetensors"));
  unsetenv("XDG_CACHE_HOME");
}

// Under any name of its file, the merged model reads texts, and so does the base that undoing
// gives.
TEST_F(TextStory, TheVocabularyGoesWithTheModel) {
  const std::string words = *dir_ / "words", named = *dir_ / "of_words";
  fs::copy_file(kVocabulary, words);
  std::vector<std::string> args = Args(named, {"--limit", "32"});
  *std::find(args.begin(), args.end(), kVocabulary) = words;
  *std::find(args.begin(), args.end(), "full") = "lora(r=2)";
  GraftJson(args);
  const std::string fused = *dir_ / "words_fused", base = *dir_ / "words_base";
  GraftJson({"fuse", "--run", named, "--out", fused});
  const auto predict = [](const std::string& flag, const std::string& model) {
    const nlohmann::json json = GraftJson({"predict", flag, model, "--text", "a b x"});
    return json.at("predictions").at(0).at("top").at(0).at("logit").get<double>();
  };
  EXPECT_NEAR(predict("--model", fused), predict("--run", named), 1e-4);
  args = Args(*dir_ / "of_fused", {"--limit", "32"});
  *std::find(args.begin(), args.end(), kNanoBert) = fused;
  *std::find(args.begin(), args.end(), "full") = "lora(r=2)";
  GraftJson(args);
  const std::string second = *dir_ / "second_fused";
  GraftJson({"fuse", "--run", *dir_ / "of_fused", "--out", second, "--keep-base"});
  GraftJson({"fuse", "--undo", second, "--out", base});
  EXPECT_EQ(predict("--model", base), predict("--model", fused));
  const Outcome file = Graft({"fuse", "--run", named, "--out", *dir_ / "f.safetensors"});
  EXPECT_EQ(file.code, 2);
  EXPECT_NE(file.err.find("fuse writes a directory"), std::string::npos) << file.err;
}

// A BERT's weights alone are no directory with a tokenizer.
TEST_F(TextStory, WeightsAreNoVocabulary) {
  const std::string directory = *dir_ / "plain", out = *dir_ / "of_a_file";
  ASSERT_EQ(
      Graft({"export", "--run", run(), "--format", "hf", "--merged", "--out", directory}).code, 0);
  EXPECT_TRUE(fs::exists(directory + "/vocab.txt"));
  const Outcome o = Graft(
      {"export", "--model", directory + "/model.safetensors", "--format", "hf", "--out", out});
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_FALSE(fs::exists(out + "/vocab.txt"));
}

TEST_F(TextStory, LabelledTextsAreNoPairs) {
  const Outcome o = Graft({"predict", "--run", run(), data() + "/dev.tsv"});
  EXPECT_EQ(o.code, 0);
  EXPECT_NE(o.out.find("the second column holds classes"), std::string::npos) << o.out;
}

// Nor is what stands above them a text, in a table as a spreadsheet writes it.
TEST_F(TextStory, AHeaderAboveClassesIsNoText) {
  std::string table = "Satz;Urteil\r\n", line;
  int64_t rows = 0;
  for (std::istringstream lines(Slurp(data() + "/dev.tsv")); std::getline(lines, line); ++rows)
    table += line.replace(line.find('\t'), 1, ";") + "\r\n";
  Spill(*dir_ / "named.csv", table);
  const Outcome o = Graft({"predict", "--run", run(), *dir_ / "named.csv"});
  EXPECT_NE(o.out.find("named.csv:1: names the columns"), std::string::npos) << o.out << o.err;
  const nlohmann::json json = GraftJson({"predict", "--run", run(), *dir_ / "named.csv"});
  EXPECT_EQ(std::ssize(json["predictions"]), rows);
  EXPECT_EQ(json["predictions"][0]["row"], 1);
}

// The plan of a run has buffers for the texts that it began with.
TEST_F(TextStory, LongerTextsAreNotResumedOn) {
  const std::string moving = *dir_ / "moving", out = *dir_ / "moved";
  fs::copy(data(), moving);
  std::vector<std::string> args =
      Args(out, {"--memory-budget", "1GiB", "--save-every", "1", "--limit", "64"});
  *std::find(args.begin(), args.end(), data()) = moving;
  ASSERT_EQ(SignalAt(args, out + "/state.safetensors", SIGINT).code, 130);
  const std::string texts = Slurp(moving + "/train.tsv"), plan = Slurp(out + "/plan.json");
  Spill(moving + "/train.tsv", "a b c d e f g h i j k l m n o p " + texts);
  const Outcome longer = Graft({"train", "--resume", out});
  EXPECT_EQ(longer.code, 1);
  EXPECT_NE(longer.err.find("have changed since"), std::string::npos) << longer.err;
  Spill(moving + "/train.tsv", texts);
  nlohmann::json small = nlohmann::json::parse(plan);
  small["micro_batch_tokens"] = 1;
  Spill(out + "/plan.json", small.dump());
  const Outcome damaged = Graft({"train", "--resume", out});
  EXPECT_EQ(damaged.code, 1);
  EXPECT_NE(damaged.err.find("micro_batch_tokens"), std::string::npos) << damaged.err;
  Spill(out + "/plan.json", plan);
  EXPECT_EQ(Graft({"train", "--resume", out}).code, 0);
}

TEST_F(TextStory, MistakesAreNamed) {
  const auto error = [&](std::vector<std::string> args) {
    const Outcome o = Graft(std::move(args));
    EXPECT_EQ(o.code, 1);
    return o.err;
  };
  EXPECT_NE(error({"eval", "--model", kNanoBert, "--data", data()}).find("--tokenizer"),
            std::string::npos);
  EXPECT_NE(error({"eval", "--model", kNano, "--data", data()}).find("holds texts"),
            std::string::npos);
  ExpectRefused({"predict", "--model", kNano, "--text", "a"}, 2, "reads images");
  EXPECT_NE(
      error({"eval", "--run", run(), "--data", data(), "--max-length", "600"}).find("32 positions"),
      std::string::npos);
  const Outcome none = Graft({"eval", "--run", run(), "--data", data(), "--max-length", "0"});
  EXPECT_EQ(none.code, 2);
  EXPECT_NE(none.err.find("--max-length"), std::string::npos) << none.err;
  const std::string folder = *dir_ / "json";
  fs::create_directory(folder);
  Spill(folder + "/train.json", "[]");
  EXPECT_NE(error({"data", "check", folder}).find("train.json: expected texts as .tsv, .csv"),
            std::string::npos);
}

}  // namespace
}  // namespace graft::cli::cli_text_test
