// train --seeds: as many runs, their mean and spread; what is finished is kept.
#include <cmath>

#include "tests/cli_mistakes_testing.h"

namespace graft::cli::cli_seeds_test {
namespace {

class Seeds : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(At("images"));
    json_ = new nlohmann::json(GraftJson(Args("three")));
  }
  static void TearDownTestSuite() { delete dir_, delete json_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static Words Args(const std::string& out, const Words& more = {}) {
    return WithOptions(
        {"train", "--model", kNano, "--data", At("images"), "--method", "lora(r=2)", "--epochs",
         "2", "--batch-size", "8", "--seeds", "3", "--seed", "5", "--out", At(out)},
        more);
  }
  static std::string Weights(const std::string& run) {
    return Slurp(At(run) + "/last.safetensors");
  }
  static TempDir* dir_;
  static nlohmann::json* json_;
};
TempDir* Seeds::dir_ = nullptr;
nlohmann::json* Seeds::json_ = nullptr;

TEST_F(Seeds, MeanAndSpreadAreThoseOfTheRuns) {
  const nlohmann::json& json = *json_;
  ASSERT_EQ(json["runs"].size(), 3u);
  for (const char* key : {"best", "val_accuracy", "final_train_loss"}) {
    double mean = 0, squares = 0;
    for (const auto& run : json["runs"]) mean += run[key].get<double>() / 3;
    for (const auto& run : json["runs"]) squares += std::pow(run[key].get<double>() - mean, 2);
    EXPECT_NEAR(json["mean"][key], mean, 1e-12) << key;
    EXPECT_NEAR(json["spread"][key], std::sqrt(squares / 2), 1e-12) << key;
  }
  EXPECT_EQ(json["runs"][2]["seed"], 7);
  EXPECT_EQ(json["runs"][2]["run"], At("three") + "/seed-7");
  EXPECT_NE(Weights("three/seed-5"), Weights("three/seed-6"));
}

TEST_F(Seeds, EachIsTheRunOfItsSeed) {
  Words one = Args("one", {"--seed", "6"});
  const auto at = std::ranges::find(one, "--seeds");
  one.erase(at, at + 2);
  GraftJson(one);
  EXPECT_EQ(Weights("one"), Weights("three/seed-6"));
}

TEST_F(Seeds, FinishedOnesAreKeptAndOthersGoOn) {
  const auto time = fs::last_write_time(At("three") + "/seed-6/last.safetensors");
  const nlohmann::json again = GraftJson(Args("three"));
  EXPECT_EQ(fs::last_write_time(At("three") + "/seed-6/last.safetensors"), time);
  EXPECT_EQ(again["mean"]["val_accuracy"], (*json_)["mean"]["val_accuracy"]);
  SignalAt(Args("killed", {"--save-every", "1"}), At("killed") + "/seed-6/state.safetensors",
           SIGKILL);
  EXPECT_FALSE(fs::exists(At("killed") + "/seed-7"));
  GraftJson(Args("killed", {"--save-every", "1"}));
  for (const char* seed : {"/seed-5", "/seed-6", "/seed-7"})
    EXPECT_EQ(Weights(std::string("killed") + seed), Weights(std::string("three") + seed)) << seed;
}

// What is the same of all is told once.
TEST_F(Seeds, NotesAreToldOnce) {
  MakeData(At("no_validation"));
  fs::remove(At("no_validation/val200.txt"));
  const Outcome o =
      Graft(Args("told", {"--data", At("no_validation"), "--epochs", "1", "--method", "linear"}));
  ASSERT_EQ(o.code, 0) << o.err;
  std::map<std::string, int> notes;
  int banners = 0;
  std::istringstream text(o.out);
  for (std::string line; std::getline(text, line);) {
    banners += line == "training";
    if (line.starts_with("note: ")) ++notes[line];
  }
  EXPECT_EQ(banners, 1) << o.out;
  for (const auto& [note, count] : notes) EXPECT_EQ(count, 1) << note;
  EXPECT_FALSE(notes.empty()) << o.out;
  for (const char* seed : {"6", "7"})
    EXPECT_NE(o.out.find(fmt::format("seed {}: {}/seed-{}\n", seed, At("told"), seed)),
              std::string::npos)
        << o.out;
}

TEST_F(Seeds, Mistakes) {
  const auto refused = [&](const Words& args, int code, const char* says) {
    const Outcome o = Graft(args);
    EXPECT_EQ(o.code, code) << o.err;
    EXPECT_NE(o.err.find(says), std::string::npos) << o.err;
  };
  refused(Args("three", {"--lr", "1e-4"}), 1, "lr = ");
  refused(Args("none", {"--seeds", "0"}), 2, "--seeds");
  Words resume{"train", "--resume", At("three") + "/seed-5", "--seeds", "2"};
  refused(resume, 2, "--seeds");
}

TEST_F(Seeds, ATableForPeople) {
  const Outcome o = Graft(Args("three"));
  EXPECT_EQ(o.code, 0);
  for (const char* part : {"mean", "spread", "best accuracy", " %", "graft runs"})
    EXPECT_NE((o.out + o.err).find(part), std::string::npos) << part;
}

}  // namespace
}  // namespace graft::cli::cli_seeds_test
