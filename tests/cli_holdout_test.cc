// A part of the training examples that is held out to validate on: the default, its options, eval,
// resume, and the lists that `graft data split` writes.
#include "tests/cli_data_testing.h"

namespace graft::cli::cli_holdout_test {
namespace {

class Holdout : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    Files files;
    for (int i = 0; i < 30; ++i) files.emplace_back(fmt::format("{}/{}.png", i % 3, i), "");
    Fill(*dir_, "photos", files);
    const Outcome o = Graft(TrainArgs(*dir_ / "photos", *dir_ / "run"));
    ASSERT_EQ(o.code, 0) << o.err;
    EXPECT_NE(o.out.find("note: there is no validation split: 6 of the 30 examples of 'train' are "
                         "held out to validate on (split 'holdout'); --holdout says how many, "
                         "--val-split none trains on all"),
              std::string::npos)
        << o.out;
  }
  static void TearDownTestSuite() { delete dir_; }
  static TempDir* dir_;
};
TempDir* Holdout::dir_ = nullptr;

TEST_F(Holdout, IsTheDefaultWithoutAValidationSplit) {
  const nlohmann::json config = Config(*dir_ / "run");
  EXPECT_EQ(config["holdout"], 0.2);
  EXPECT_EQ(config["val_split"], "holdout");
  const nlohmann::json measured =
      GraftJson({"eval", "--run", *dir_ / "run", "--data", *dir_ / "photos"});
  EXPECT_EQ(measured["split"], "holdout");
  EXPECT_EQ(measured["n"], 6);
  const std::string last = Slurp(*dir_ / "run/metrics.jsonl");
  const size_t line = last.rfind('\n', last.size() - 2);
  const nlohmann::json metrics =
      nlohmann::json::parse(last.substr(line == std::string::npos ? 0 : line + 1));
  EXPECT_EQ(metrics["step"], 4);  // two epochs of 24 examples in batches of 16
}

TEST_F(Holdout, CanBeNamedElsewhere) {
  const std::string run = *dir_ / "run", data = *dir_ / "photos";
  EXPECT_EQ(GraftJson({"eval", "--run", run, "--data", data, "--split", "train"})["n"], 24);
  // The data at another place have the same parts, if they are asked for.
  fs::create_directory_symlink(data, *dir_ / "link");
  EXPECT_EQ(GraftJson({"eval", "--run", run, "--data", *dir_ / "link"})["n"], 6);
  fs::copy(data, *dir_ / "copy", fs::copy_options::recursive);
  ExpectRefused({"eval", "--run", run, "--data", *dir_ / "copy"}, 1,
                "no test split; hint: --split train measures all of it, --holdout 0.2 what");
  const nlohmann::json there =
      GraftJson({"eval", "--run", run, "--data", *dir_ / "copy", "--split", "holdout"});
  const nlohmann::json here = GraftJson({"eval", "--run", run, "--data", data});
  EXPECT_EQ(there["loss"], here["loss"]);
  // A merged model holds out the same examples, by share and seed.
  ASSERT_EQ(Graft({"fuse", "--run", run, "--out", *dir_ / "fused.safetensors"}).code, 0);
  const nlohmann::json merged = GraftJson(
      {"eval", "--model", *dir_ / "fused.safetensors", "--data", data, "--holdout", "0.2"});
  EXPECT_EQ(merged["split"], "holdout");
  EXPECT_EQ(merged["n"], 6);
  EXPECT_NEAR(merged["loss"].get<double>(), here["loss"].get<double>(), 1e-4);
  ExpectRefused(
      {"eval", "--model", *dir_ / "fused.safetensors", "--data", data, "--split", "holdout"}, 1,
      "no split 'holdout'");
}

TEST_F(Holdout, Options) {
  const auto train = [&](const std::string& run, const Words& more) {
    const Outcome o = Graft(TrainArgs(*dir_ / "photos", *dir_ / run, more));
    EXPECT_EQ(o.code, 0) << o.err;
    return Config(*dir_ / run);
  };
  EXPECT_EQ(train("all", {"--val-split", "none"})["val_split"], "");
  EXPECT_EQ(train("zero", {"--holdout", "0"})["val_split"], "");
  EXPECT_EQ(train("half", {"--holdout", "0.5"})["holdout"], 0.5);
  EXPECT_EQ(GraftJson({"eval", "--run", *dir_ / "half", "--data", *dir_ / "photos"})["n"], 15);
  // eval holds out what the run has held out, by the run's seed.
  const nlohmann::json sown = train("sown", {"--seed", "7"});
  const nlohmann::json held = GraftJson(
      {"eval", "--run", *dir_ / "sown", "--data", *dir_ / "photos", "--checkpoint", "last"});
  std::ifstream lines(*dir_ / "sown/metrics.jsonl");
  nlohmann::json last;
  for (std::string line; std::getline(lines, line);) last = nlohmann::json::parse(line);
  EXPECT_NEAR(held["loss"].get<double>(), last["val_loss"].get<double>(), 1e-6);
  ExpectMistakes(
      {
          {"both",
           Train({"--holdout", "0.2", "--val-split", "val"}),
           2,
           {"--holdout 0.2", "--val"}},
          {"too much", Train({"--holdout", "0.95"}), 2, {"--holdout", "0 to 0.9", "0.95"}},
          {"negative", Train({"--holdout", "-0.1"}), 2, {"--holdout", "-0.1"}},
          {"as the default", Train({"--holdout", "-1"}), 2, {"--holdout", "0 to 0.9"}},
          {"no number", Train({"--holdout", "some"}), 2, {"--holdout"}},
      },
      *dir_);
}

// The same weights as those of the lists that data split writes, and after a resume.
TEST_F(Holdout, IsWhatDataSplitWrites) {
  const nlohmann::json json =
      GraftJson({"data", "split", *dir_ / "photos", "--holdout", "0.2", "--out", *dir_ / "lists"});
  ASSERT_EQ(json["parts"].size(), 1u);
  EXPECT_EQ(json["parts"][0]["train"], 24);
  EXPECT_EQ(json["parts"][0]["val"], 6);
  ASSERT_EQ(Graft(TrainArgs(*dir_ / "lists", *dir_ / "of_lists")).code, 0);
  EXPECT_EQ(Slurp(*dir_ / "of_lists/last.safetensors"), Slurp(*dir_ / "run/last.safetensors"));
  EXPECT_EQ(Config(*dir_ / "of_lists")["examples_sha256"],
            Config(*dir_ / "run")["examples_sha256"]);
}

// A path that is in a list twice, as of a class that is rare, is in one fold.
TEST_F(Holdout, FoldsKeepAPathTogether) {
  GraftJson({"data", "split", *dir_ / "photos", "--holdout", "0.2", "--out", *dir_ / "twice"});
  std::string list = Slurp(*dir_ / "twice/train.txt");
  Spill(*dir_ / "twice/train.txt", list + list);
  for (const char* other : {"val.txt", "test.txt"}) fs::remove(fs::path(*dir_ / "twice") / other);
  GraftJson({"data", "split", *dir_ / "twice", "--folds", "3", "--out", *dir_ / "folds"});
  const auto paths = [](const std::string& file) {
    std::set<std::string> all;
    std::istringstream lines(Slurp(file));
    for (std::string line; std::getline(lines, line);)
      all.insert(fs::path(line.substr(0, line.rfind(' '))).filename());
    return all;
  };
  for (const char* fold : {"fold1", "fold2", "fold3"}) {
    const std::string folder = fs::path(*dir_ / "folds") / fold;
    const std::set<std::string> train = paths(folder + "/train.txt"),
                                val = paths(folder + "/val.txt");
    EXPECT_EQ(train.size() + val.size(), 24u) << fold;
    EXPECT_EQ(val.size(), 8u) << fold;
  }
}

TEST_F(Holdout, ResumeHasTheSameParts) {
  const std::string part = *dir_ / "part";
  const auto args = [&](const std::string& out) {
    return WithOptions(TrainArgs(*dir_ / "photos", out), {"--epochs", "12", "--save-every", "1"});
  };
  ASSERT_EQ(Graft(args(*dir_ / "whole")).code, 0);
  ASSERT_EQ(SignalAt(args(part), part + "/state.safetensors", SIGINT).code, 130);
  const Outcome o = Graft({"train", "--resume", part});
  ASSERT_EQ(o.code, 0) << o.err;
  EXPECT_EQ(Slurp(part + "/last.safetensors"), Slurp(*dir_ / "whole/last.safetensors"));
  EXPECT_EQ(Slurp(part + "/best.safetensors"), Slurp(*dir_ / "whole/best.safetensors"));
}

// A configuration of an earlier version has neither key.
TEST_F(Holdout, OldConfigurationsAreRead) {
  const std::string run = *dir_ / "old";
  ASSERT_EQ(Graft(TrainArgs(*dir_ / "photos", run, {"--val-split", "none"})).code, 0);
  nlohmann::json config = Config(run);
  for (const char* key : {"holdout", "skip_bad"}) ASSERT_EQ(config.erase(key), 1u);
  Spill(run + "/config.json", config.dump());
  EXPECT_EQ(Graft({"train", "--resume", run}).code, 0);
  const Outcome o =
      Graft({"eval", "--run", run, "--data", *dir_ / "photos", "--split", "train", "--json"});
  EXPECT_EQ(o.json()["n"], 30) << o.err;
  config.erase("epochs");
  Spill(run + "/config.json", config.dump());
  ExpectRefused({"train", "--resume", run}, 1, "no 'epochs'");
}

TEST_F(Holdout, OfATable) {
  const TempDir dir;
  const std::string bert = MakeBert(dir);
  Spill(dir / "reviews.csv", Rows(20, ",", "review,sentiment\n"));
  const Outcome o = Graft({"train", "--model", bert, "--data", dir / "reviews.csv", "--method",
                           "lora(r=2)", "--epochs", "1", "--out", dir / "run"});
  ASSERT_EQ(o.code, 0) << o.err;
  EXPECT_NE(o.out.find("4 of the 20 examples of 'reviews' are held out"), std::string::npos);
  const nlohmann::json json =
      GraftJson({"eval", "--run", dir / "run", "--data", dir / "reviews.csv"});
  EXPECT_EQ(json["split"], "holdout");
  EXPECT_EQ(json["n"], 4);
}

}  // namespace
}  // namespace graft::cli::cli_holdout_test
