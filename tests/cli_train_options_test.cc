// Options of training: from a file, when to stop, which epoch is the best, more epochs, what is
// printed at the start.
#include <fcntl.h>
#include <pty.h>
#include <sys/ioctl.h>

#include "peft/method.h"
#include "tests/cli_mistakes_testing.h"

namespace graft::cli::cli_train_options_test {
namespace {

class TrainOptions : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(At("data"));
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static Words Args(const std::string& out, const Words& more = {}) {
    return WithOptions(TrainArgs(At("data"), At(out)), more);
  }
  static std::vector<nlohmann::json> Metrics(const std::string& run) {
    std::vector<nlohmann::json> lines;
    std::istringstream text(Slurp(At(run) + "/metrics.jsonl"));
    for (std::string line; std::getline(text, line);) lines.push_back(nlohmann::json::parse(line));
    return lines;
  }
  static nlohmann::json Config(const std::string& run) {
    return nlohmann::json::parse(Slurp(At(run) + "/config.json"));
  }
  static TempDir* dir_;
};
TempDir* TrainOptions::dir_ = nullptr;

TEST_F(TrainOptions, DefaultRatesAreOfWhatTheModelReads) {
  const LearningRates& rates = FindMethod("full").learning_rate;
  ASSERT_NE(rates.images, rates.texts);
  const Words quick{"--method", "full", "--epochs", "1", "--limit", "8", "--val-split", "none"};
  Words images{"train", "--model", kNano, "--data", At("data"), "--out", At("images")};
  images.insert(images.end(), quick.begin(), quick.end());
  ASSERT_EQ(Graft(images).code, 0);
  EXPECT_EQ(Config("images")["lr"], rates.images);
  Spill(At("texts.tsv"), "sentence\tlabel\na fine film\tgood\na dull film\tbad\n");
  Words texts{"train",       "--model",   kNanoBert, "--data",   At("texts.tsv"),
              "--tokenizer", kVocabulary, "--out",   At("texts")};
  texts.insert(texts.end(), quick.begin(), quick.end());
  const Outcome o = Graft(texts);
  ASSERT_EQ(o.code, 0) << o.err;
  EXPECT_EQ(Config("texts")["lr"], rates.texts);
  // Of several terms the smallest.
  texts = WithOptions(texts, {"--method", "full+lora", "--out", At("both")});
  ASSERT_EQ(Graft(texts).code, 0);
  EXPECT_EQ(Config("both")["lr"], std::min(rates.texts, FindMethod("lora").learning_rate.texts));
}

TEST_F(TrainOptions, FromAFileAsFromTheCommandLine) {
  ASSERT_EQ(
      Graft(Args("line", {"--lr", "0.003", "--seed", "7", "--disable-pass", "recompute"})).code, 0);
  const nlohmann::json options{{"model", kNano},
                               {"data", At("data")},
                               {"method", "lora(r=2)"},
                               {"epochs", 2},
                               {"batch-size", 16},
                               {"lr", 0.003},
                               {"seed", 7},
                               {"new_head", false},
                               {"trace", nullptr},
                               {"val_split", ""},
                               {"disable_pass", {"recompute"}}};
  Spill(At("run.json"), options.dump());
  Spill(At("run.toml"),
        fmt::format("# options\nmodel = \"{}\"\ndata = '{}'\nmethod = \"lora(r=2)\"\n"
                    "epochs = 2 # two\nbatch_size = 16\nlr = 3e-3\nseed = 7\n"
                    "new-head = false\ndisable-pass = [\"recompute\"]\n",
                    kNano, At("data")));
  fs::copy_file(At("line/config.json"), At("own.json"));
  for (const std::string name : {"run.json", "run.toml", "own.json"}) {
    const std::string out = "of_" + name;
    const Outcome o = Graft({"train", "--config", At(name), "--out", At(out)});
    ASSERT_EQ(o.code, 0) << name << o.err;
    EXPECT_EQ(Slurp(At(out + "/last.safetensors")), Slurp(At("line/last.safetensors"))) << name;
    EXPECT_EQ(Config(out), Config("line")) << name;
    const Outcome wins =
        Graft({"train", "--config", At(name), "--epochs", "1", "--out", At("wins_" + name)});
    EXPECT_EQ(wins.code, 0) << wins.err;
    EXPECT_EQ(Config("wins_" + name)["epochs"], 1);
    EXPECT_EQ(Config("wins_" + name)["lr"], 0.003);
  }
}

// A run's own config says what was held out once, whatever the command line puts in its place.
TEST_F(TrainOptions, ARunThatHeldOutIsRepeated) {
  const Words held{"train",  "--model",  kNano, "--data",    At("data"), "--method",
                   "linear", "--epochs", "1",   "--holdout", "0.25"};
  ASSERT_EQ(Graft(WithOptions(held, {"--out", At("held")})).code, 0);
  const auto again = [&](const std::string& out, const Words& more) {
    const Outcome o =
        Graft(WithOptions({"train", "--config", At("held/config.json"), "--out", At(out)}, more));
    EXPECT_EQ(o.code, 0) << out << o.err;
    return Config(out);
  };
  EXPECT_EQ(again("held_again", {}), Config("held"));
  EXPECT_EQ(again("held_less", {"--holdout", "0.1"})["holdout"], 0.1);
  const nlohmann::json none = again("held_none", {"--val-split", "none"});
  EXPECT_EQ(none["holdout"], 0);
  EXPECT_EQ(none["val_split"], "");
}

TEST_F(TrainOptions, MistakesInAFile) {
  const std::vector<std::tuple<std::string, std::string, std::string, Words>> rows{
      {"unknown", "json", R"({"epoch": 3})", {"no option 'epoch'", "'epochs'"}},
      {"both",
       "json",
       R"({"holdout": 0.2, "val-split": "val"})",
       {"--holdout 0.2: with --val-split"}},
      {"config", "json", R"({"config": "x"})", {"no option 'config'"}},
      {"no json", "json", R"({"epochs": )", {"unknown.json"}},
      {"list", "json", R"([1])", {"expected an object, found array"}},
      {"word", "json", R"({"epochs": "three"})", {"--epochs", "three"}},
      {"flag", "json", R"({"new-head": "yes"})", {"'new-head'", "true or false"}},
      {"number", "json", R"({"epochs": true})", {"'epochs'", "a string or a number"}},
      {"two values", "json", R"({"epochs": [1, 2]})", {"'epochs'", "one value"}},
      {"section", "toml", "[train]\nepochs = 3\n", {"[train]", "section"}},
      {"no toml", "toml", "epochs = 3\nlr == 4\n", {".toml:2: "}},
      {"date", "toml", "epochs = 2020-01-01\n", {"'epochs'", "a string, a number"}},
      {"range", "json", R"({"max-length": 1})", {"--max-length"}},
      {"budget", "json", R"({"memory-budget": "x"})", {"--memory-budget 'x'"}}};
  std::vector<Mistake> mistakes;
  for (const auto& [name, ending, text, says] : rows) {
    const std::string file = fmt::format("wrong {}.{}", name, ending);
    Spill(At(file), text);
    Words words = says;
    if (name == "no json") words = {"wrong no json.json"};
    mistakes.push_back(
        {name,
         {"train", "--config", "@" + file, "--model", kNano, "--data", "@data", "--out", "@fresh"},
         name == "budget" || name == "both" ? 2 : 1,
         words});
  }
  Spill(At("run.yaml"), "epochs: 3\n");
  mistakes.push_back({"ending", Train({"--config", "@run.yaml"}), 2, {".json or .toml"}});
  mistakes.push_back({"missing", Train({"--config", "@none.json"}), 1, {"none.json"}});
  ExpectMistakes(mistakes, *dir_);
}

// The best epoch is that of the metric, best.safetensors are its weights, and a run ends where it
// promised to, also if it was killed there.
TEST_F(TrainOptions, EarlyStoppingAndTheBestMetric) {
  for (const std::string metric :
       {"accuracy", "loss", "macro_f1", "mean_class_accuracy", "matthews"}) {
    const std::string run = "stop_" + metric;
    const nlohmann::json json =
        GraftJson(Args(run, {"--method", "full", "--lr", "0.02", "--epochs", "60", "--schedule",
                             "constant", "--early-stopping", "3", "--best-metric", metric}));
    const std::vector<nlohmann::json> lines = Metrics(run);
    ASSERT_LT(lines.size(), 60u) << metric;
    EXPECT_EQ(json["stopped_early"], true);
    size_t best = 0;
    const auto value = [&](size_t i) {
      return (metric == "loss" ? -1 : 1) * lines[i]["val_" + metric].get<double>();
    };
    for (size_t i = 1; i < lines.size(); ++i)
      if (value(i) > value(best)) best = i;
    EXPECT_EQ(lines.size(), best + 1 + 3) << metric;
    EXPECT_EQ(json["best_epoch"], best + 1) << metric;
    EXPECT_EQ(json["best"], lines[best]["val_" + metric]) << metric;
    const nlohmann::json eval =
        GraftJson({"eval", "--run", At(run), "--data", At("data"), "--split", "val200"});
    EXPECT_EQ(eval["checkpoint"], "best");
    EXPECT_EQ(eval["accuracy"], lines[best]["val_accuracy"]) << metric;
    EXPECT_NEAR(eval["loss"].get<double>(), lines[best]["val_loss"].get<double>(), 1e-6) << metric;
    // It has nothing left to do.
    const std::string last = Slurp(At(run + "/last.safetensors"));
    EXPECT_EQ(GraftJson({"train", "--resume", At(run)})["stopped_early"], true);
    EXPECT_EQ(Slurp(At(run + "/last.safetensors")), last);
    EXPECT_EQ(Metrics(run).size(), lines.size());
  }
}

TEST_F(TrainOptions, ClassWeightsChangeWhatIsLearnt) {
  const nlohmann::json plain = GraftJson(Args("plain"));
  for (const auto& [words, same] : std::vector<std::pair<std::string, bool>>{
           {"balanced", true}, {"1|1|1|1|1|1|1|1", true}, {"9|1|1|1|1|1|1|1", false}}) {
    // Each class has six examples.
    const std::string run = "weights_" + words.substr(0, 1);
    const nlohmann::json json = GraftJson(Args(run, {"--class-weights", words}));
    EXPECT_EQ(json["trainable_parameters"], plain["trainable_parameters"]);
    if (same) {
      EXPECT_NEAR(json["final_train_loss"], plain["final_train_loss"].get<double>(), 1e-5);
    } else {
      EXPECT_GT(std::abs(json["final_train_loss"].get<double>() -
                         plain["final_train_loss"].get<double>()),
                1e-3);
    }
    EXPECT_EQ(Config(run)["class_weights"], words);
    EXPECT_EQ(Graft({"fuse", "--run", At(run), "--out", At(run + ".safetensors")}).code, 0);
  }
  // Features of frozen layers, smoothing and texts of unequal micro-batches as well.
  EXPECT_EQ(Graft(Args("smooth", {"--class-weights", "balanced", "--label-smoothing", "0.1",
                                  "--method", "linear"}))
                .code,
            0);
}

// A run with a constant rate that gets more epochs is the run that had them from the beginning.
// Without a budget validation examples are computed once up to what trains, too.
TEST_F(TrainOptions, ValidationFromKeptFeaturesIsTheSame) {
  GraftJson(Args("kept", {"--method", "linear"}));
  GraftJson(Args("anew", {"--method", "linear", "--memory-budget", "4GiB"}));
  const auto kept = Metrics("kept"), anew = Metrics("anew");
  ASSERT_EQ(kept.size(), anew.size());
  for (size_t i = 0; i < kept.size(); ++i) {
    EXPECT_EQ(kept[i]["val_accuracy"], anew[i]["val_accuracy"]);
    EXPECT_NEAR(kept[i]["val_loss"], anew[i]["val_loss"], 1e-5);
  }
  const nlohmann::json eval = GraftJson({"eval", "--run", At("kept"), "--data", At("data"),
                                         "--split", "val200", "--checkpoint", "last"});
  EXPECT_EQ(eval["accuracy"], kept.back()["val_accuracy"]);
  EXPECT_NEAR(eval["loss"], kept.back()["val_loss"], 1e-5);
}

TEST_F(TrainOptions, MoreEpochs) {
  const Words constant{"--schedule", "constant", "--warmup", "0"};
  const auto args = [&](const std::string& out, const char* epochs) {
    Words more = constant;
    more.insert(more.end(), {"--epochs", epochs});
    return Args(out, more);
  };
  ASSERT_EQ(Graft(args("long", "5")).code, 0);
  ASSERT_EQ(Graft(args("grown", "2")).code, 0);
  EXPECT_EQ(GraftJson({"train", "--resume", At("grown"), "--epochs", "4"})["epochs"], 4);
  EXPECT_EQ(GraftJson({"train", "--resume", At("grown"), "--epochs", "5"})["steps"], 15);
  for (const char* file : {"last.safetensors", "best.safetensors"})
    EXPECT_EQ(Slurp(At("grown/") + file), Slurp(At("long/") + file)) << file;
  EXPECT_EQ(Metrics("grown").size(), 5u);
  EXPECT_EQ(Config("grown")["epochs"], 5);
  // Giving the same number changes nothing, and the warm-up stays what it was.
  EXPECT_EQ(Graft({"train", "--resume", At("grown"), "--epochs", "5"}).code, 0);
  ASSERT_EQ(Graft(Args("warm", {"--schedule", "constant", "--warmup", "0.5"})).code, 0);
  ASSERT_EQ(Graft({"train", "--resume", At("warm"), "--epochs", "20"}).code, 0);
  for (const nlohmann::json& line : Metrics("warm"))
    EXPECT_EQ(line["lr"], Config("warm")["lr"]) << line;
  ASSERT_EQ(Graft(Args("cosine")).code, 0);
  ASSERT_EQ(
      Graft(Args("calibrated", {"--schedule", "constant", "--method", "linear+calibration"})).code,
      0);
  ASSERT_EQ(Graft(Args("early", {"--schedule", "constant", "--early-stopping", "1", "--lr", "1e-9",
                                 "--epochs", "9"}))
                .code,
            0);
  const auto before = Listing(dir_->path());
  ExpectMistakes(
      {{"cosine",
        {"train", "--resume", "@cosine", "--epochs", "9"},
        2,
        {"--epochs 9", "cosine schedule", "ends at a rate of 0", "--schedule constant"}},
       {"fewer",
        {"train", "--resume", "@grown", "--epochs", "4"},
        2,
        {"has begun epoch 5 already"}},
       {"calibrated", {"train", "--resume", "@calibrated", "--epochs", "9"}, 2, {"was calibrated"}},
       {"early", {"train", "--resume", "@early", "--epochs", "20"}, 2, {"was stopped early"}},
       {"rate", {"train", "--resume", "@grown", "--lr", "1"}, 2, {"--lr", "leave it out"}}},
      *dir_);
}

TEST_F(TrainOptions, Mistakes) {
  ExpectMistakes(
      {{"patience of nothing",
        Train({"--val-split", "none", "--early-stopping", "2"}),
        2,
        {"--early-stopping 2", "no validation split"}},
       {"metric of nothing",
        Train({"--val-split", "none", "--best-metric", "loss"}),
        2,
        {"--best-metric loss", "no validation split"}},
       {"metric", Train({"--best-metric", "f1"}), 2, {"--best-metric", "'f1'", "macro_f1"}},
       {"patience", Train({"--early-stopping", "-1"}), 2, {"--early-stopping", "-1"}},
       {"weights", Train({"--class-weights", "balance"}), 2, {"--class-weights 'balance'"}},
       {"two weights", Train({"--class-weights", "1|2"}), 2, {"2 numbers", "8 classes"}}},
      *dir_);
}

TEST_F(TrainOptions, TheBannerIsForPeople) {
  const Outcome o = Graft(Args("banner", {"--early-stopping", "5"}));
  ASSERT_EQ(o.code, 0) << o.err;
  std::istringstream text(o.out);
  size_t lines = 0;
  for (std::string line; std::getline(text, line) && !line.starts_with("epoch");) ++lines;
  EXPECT_LE(lines, 12u) << o.out;
  for (const char* words :
       {"vit_nano_patch8_32", "48 images to learn from", "16 to validate on", "8 classes",
        "lora(r=2), 2,568 of ", "6 = 2 epochs of 3, batches of 16 images", "cosine", "MiB planned",
        "by validation accuracy, ends 5 epochs after it"})
    EXPECT_NE(o.out.find(words), std::string::npos) << words << " in\n" << o.out;
  EXPECT_EQ(o.out.find("weight_decay="), std::string::npos);
  const Outcome verbose = Graft(Args("verbose", {"--verbose", ""}));
  EXPECT_NE(verbose.out.find("weight_decay=0.0001"), std::string::npos) << verbose.out;
  EXPECT_EQ(Graft(Args("quiet", {"--quiet", ""})).out, "");
}

TEST_F(TrainOptions, ForceReplacesARunAndNothingElse) {
  ASSERT_EQ(Graft(Args("forced")).code, 0);
  ExpectRefused(Args("forced"), 1, "--force to replace the run");
  const Outcome o = Graft(Args("forced", {"--force", "", "--epochs", "1"}));
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_EQ(Metrics("forced").size(), 1u);
  EXPECT_EQ(Config("forced")["epochs"], 1);
  // What could not begin leaves the run that is there.
  EXPECT_EQ(Graft(Args("forced", {"--force", "", "--best-metric", "f1"})).code, 2);
  EXPECT_EQ(Metrics("forced").size(), 1u);
  // Nor does what ends before it has saved anything, for whatever reason, or was killed.
  const std::string weights = Slurp(At("forced/last.safetensors"));
  const Words mistakes[] = {{"--memory-budget", "1KiB"},
                            {"--lr-scale", "zz=3"},
                            {"--lr", "1e30", "--optimizer", "sgd", "--clip", "0"}};
  for (const Words& mistake : mistakes) {
    Words args = Args("forced", {"--force", ""});
    args = WithOptions(args, mistake);
    EXPECT_NE(Graft(args).code, 0);
    EXPECT_EQ(Slurp(At("forced/last.safetensors")), weights) << mistake[0];
    EXPECT_FALSE(fs::exists(At(".forced.replaced.graft-tmp")));
  }
  fs::rename(At("forced"), At(".forced.replaced.graft-tmp"));
  EXPECT_NE(Graft(Args("forced", {"--force", "", "--memory-budget", "1KiB"})).code, 0);
  EXPECT_EQ(Slurp(At("forced/last.safetensors")), weights);
  // What is read is not replaced.
  ExpectRefused(Args("forced", {"--force", "", "--config", At("forced/config.json")}), 2,
                "would overwrite");
  EXPECT_EQ(Slurp(At("forced/last.safetensors")), weights);
  Spill(At("forced/notes.txt"), "mine");
  ExpectRefused(Args("forced", {"--force", ""}), 1, "notes.txt, which is not a run's");
  EXPECT_TRUE(fs::exists(At("forced/last.safetensors")));
  ExpectRefused(Args("data", {"--force", ""}), 1, "--force replaces runs only");
  EXPECT_TRUE(fs::exists(At("data/train800.txt")));
}

// On a terminal of any width the line that is written over fits it, and is gone before a message.
TEST_F(TrainOptions, TheBarFitsTheTerminal) {
  for (const unsigned short columns : {20, 40, 200}) {
    const winsize size{24, columns, 0, 0};
    int terminal = -1;
    Words args = Args(fmt::format("bar{}", columns),
                      {"--epochs", "100000", "--method", "full", "--lr", "1e-4"});
    args.insert(args.begin(), "graft");
    const std::string binary = Binary();
    std::vector<char*> argv;
    for (std::string& arg : args) argv.push_back(arg.data());
    argv.push_back(nullptr);
    const pid_t child = forkpty(&terminal, nullptr, nullptr, &size);
    if (child == 0) {
      setenv("TERM", "xterm", 1);
      execv(binary.c_str(), argv.data());
      _exit(127);
    }
    std::string text;
    size_t bars = 0;
    bool stopped = false;
    char buffer[4096];
    for (ssize_t n; (n = read(terminal, buffer, sizeof(buffer))) > 0;) {
      text.append(buffer, static_cast<size_t>(n));
      bars = 0;
      for (size_t at = 0; (at = text.find("\r\033[Kepoch", at)) != text.npos; ++at) ++bars;
      if (bars >= 10 && !std::exchange(stopped, true)) kill(child, SIGINT);
    }
    int status = 0;
    waitpid(child, &status, 0);
    close(terminal);
    EXPECT_EQ(WEXITSTATUS(status), 130) << text.substr(0, 500);
    EXPECT_GE(bars, 10u);
    for (size_t at = 0; (at = text.find("\r\033[Kepoch", at)) != text.npos; ++at) {
      const size_t begin = at + 4, end = text.find_first_of("\r\n", begin);
      const bool message = text.substr(end, 2) == "\r\n";  // behind a bar that is gone
      if (!message) {
        EXPECT_LT(end - begin, columns) << text.substr(begin, end - begin);
      }
    }
    const size_t end = text.find("graft: interrupted");
    ASSERT_NE(end, text.npos);
    EXPECT_TRUE(text[end - 1] == '\n' || text[end - 1] == 'K') << text.substr(end - 20, 40);
  }
}

}  // namespace
}  // namespace graft::cli::cli_train_options_test
