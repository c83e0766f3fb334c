// graft runs: what it says of runs, new and old, whole and damaged.
#include "tests/cli_mistakes_testing.h"

namespace graft::cli::cli_compare_test {
namespace {

class Compare : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(At("data"));
    fs::create_directories(At("runs"));
    const std::vector<std::pair<std::string, Words>> runs{
        {"a", {"--lr", "1e-3"}},
        {"b", {"--lr", "5e-3", "--epochs", "4"}},
        {"deep/c", {"--method", "linear", "--best-metric", "loss"}},
        {"d", {"--val-split", "none"}}};
    for (const auto& [name, more] : runs)
      ASSERT_EQ(Graft(WithOptions(TrainArgs(At("data"), At("runs/" + name)), more)).code, 0);
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static std::map<std::string, nlohmann::json> Runs(const std::string& directory) {
    std::map<std::string, nlohmann::json> runs;
    const nlohmann::json json = GraftJson({"runs", directory});
    for (const nlohmann::json& run : json["runs"])
      runs[fs::path(run["run"].get<std::string>()).lexically_relative(directory)] = run;
    return runs;
  }
  static Words Order(Words args) {
    args.insert(args.begin(), {"runs", At("runs")});
    Words names;
    const nlohmann::json json = GraftJson(args);
    for (const nlohmann::json& run : json["runs"])
      names.push_back(fs::path(run["run"].get<std::string>()).filename());
    return names;
  }
  static TempDir* dir_;
};
TempDir* Compare::dir_ = nullptr;

TEST_F(Compare, SaysWhatTrainingSaid) {
  auto runs = Runs(At("runs"));
  ASSERT_EQ(runs.size(), 4u);
  const nlohmann::json train = GraftJson({"train", "--resume", At("runs/b")});
  const nlohmann::json& b = runs["b"];
  ExpectKeys(b, {"run", "method", "model", "data", "lr", "epochs", "trainable_parameters", "best",
                 "last", "seconds", "peak_memory_bytes"});
  EXPECT_EQ(b["method"], "lora(r=2)");
  EXPECT_EQ(b["model"], kNano);
  EXPECT_EQ(b["data"], At("data"));
  EXPECT_EQ(b["lr"], 5e-3);
  EXPECT_EQ(b["epochs"], 4);
  EXPECT_EQ(b["status"], "finished");
  for (const char* key : {"trainable_parameters", "seconds", "best", "best_epoch"})
    EXPECT_EQ(b[key], train[key]) << key;
  EXPECT_EQ(b["last"], train["val_accuracy"]);
  EXPECT_EQ(b["metric"], "val_accuracy");
  EXPECT_GT(b["peak_memory_bytes"], 1 << 20);
  EXPECT_EQ(runs["deep/c"]["metric"], "val_loss");
  EXPECT_LE(runs["deep/c"]["best"], runs["deep/c"]["last"]);
  for (const char* key : {"metric", "best", "last"}) EXPECT_TRUE(runs["d"][key].is_null()) << key;
  EXPECT_FALSE(runs["d"]["trainable_parameters"].is_null());
}

TEST_F(Compare, SortsWithTheBestFirst) {
  EXPECT_EQ(Order({}), (Words{"a", "b", "d", "c"}));  // by path
  EXPECT_EQ(Order({"--sort", "lr"})[0], "a");
  EXPECT_EQ(Order({"--sort", "lr", "--reverse"})[0], "c");
  EXPECT_EQ(Order({"--sort", "epochs"}).back(), "b");
  EXPECT_EQ(Order({"--sort", "best"}).back(), "d");                          // it has none
  EXPECT_EQ(Order({"--sort", "epochs_done"}), Order({"--sort", "epochs"}));  // of --json alone
  EXPECT_EQ(Order({"--sort", "best", "--reverse"}).back(), "d");
  auto runs = Runs(At("runs"));
  const bool b_first = runs["b"]["best"] > runs["a"]["best"];
  const Words best = Order({"--sort", "best"});
  EXPECT_EQ(std::ranges::find(best, "b") < std::ranges::find(best, "a"), b_first);
}

TEST_F(Compare, TableAndCsv) {
  const Outcome table = Graft({"runs", At("runs")});
  EXPECT_EQ(table.code, 0) << table.err;
  EXPECT_EQ(std::count(table.out.begin(), table.out.end(), '\n'), 5) << table.out;
  EXPECT_NE(table.out.find("deep/c"), std::string::npos);
  EXPECT_NE(table.out.find(" - "), std::string::npos) << "what d does not know";
  const Outcome csv = Graft({"runs", At("runs"), "--csv"});
  EXPECT_TRUE(
      csv.out.starts_with("run,method,model,data,lr,epochs,trainable_parameters,metric,best,"
                          "last,seconds,peak_memory_bytes,status\n"))
      << csv.out;
  EXPECT_EQ(std::count(csv.out.begin(), csv.out.end(), '\n'), 5);
  EXPECT_NE(csv.out.find(At("runs/b") + ",lora(r=2)," + kNano + "," + At("data") + ",0.005,4,"),
            std::string::npos)
      << csv.out;
}

// A run of before summary.json, one that was interrupted, and one that is damaged.
TEST_F(Compare, OldAndDamagedRuns) {
  fs::create_directories(At("old"));
  for (const char* name : {"b", "torn", "broken"}) {
    fs::remove_all(At("old/") + name);
    fs::copy(At("runs/b"), At("old/") + name, fs::copy_options::recursive);
    fs::remove(At("old/") + name + "/summary.json");
  }
  const std::string metrics = Slurp(At("old/torn/metrics.jsonl"));
  Spill(At("old/torn/metrics.jsonl"), metrics.substr(0, metrics.find('\n') + 20));
  Spill(At("old/broken/config.json"), "{\"mod");
  nlohmann::json config = nlohmann::json::parse(Slurp(At("old/b/config.json")));
  for (const char* key : {"early_stopping", "best_metric", "class_weights", "schedule_epochs"})
    config.erase(key);
  Spill(At("old/b/config.json"), config.dump());
  auto runs = Runs(At("old")), whole = Runs(At("runs"));
  ASSERT_EQ(runs.size(), 3u);
  EXPECT_TRUE(runs["b"]["trainable_parameters"].is_null());
  EXPECT_TRUE(runs["b"]["peak_memory_bytes"].is_null());
  for (const char* key : {"best", "last", "seconds", "lr", "metric", "status"})
    EXPECT_EQ(runs["b"][key], whole["b"][key]) << key;
  EXPECT_EQ(runs["torn"]["status"], "not finished");
  EXPECT_EQ(runs["torn"]["epochs_done"], 1);
  EXPECT_NE(runs["broken"]["error"].get<std::string>().find("config.json"), std::string::npos);
  EXPECT_TRUE(runs["broken"]["method"].is_null());
  const Outcome table = Graft({"runs", At("old")});
  EXPECT_EQ(table.code, 0);
  EXPECT_NE(table.out.find("1/4"), std::string::npos) << table.out;
  // A run of before is read by everything else, too.
  EXPECT_EQ(Graft({"eval", "--run", At("old/b"), "--data", At("data")}).code, 0);
  EXPECT_EQ(Graft({"train", "--resume", At("old/b")}).code, 0);
}

TEST_F(Compare, Mistakes) {
  fs::create_directories(At("empty"));
  ExpectMistakes(
      {{"no directory", {"runs"}, 2, {"dir"}},
       {"none there", {"runs", "@none"}, 1, {"no such directory"}},
       {"no runs", {"runs", "@empty"}, 1, {"no runs below"}},
       {"column", {"runs", "@runs", "--sort", "besst"}, 2, {"no column 'besst'", "'best'"}},
       {"order of nothing", {"runs", "@runs", "--reverse"}, 2, {"--reverse goes with --sort"}},
       {"two forms", {"runs", "@runs", "--csv", "--json"}, 2, {"--csv and --json"}}},
      *dir_);
}

}  // namespace
}  // namespace graft::cli::cli_compare_test
