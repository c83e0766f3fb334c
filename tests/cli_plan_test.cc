// Plans under --memory-budget: the same at any number of threads, and what a run began with binds.
#include <nlohmann/json.hpp>

#include "tests/cli_testing.h"

namespace graft::cli::cli_plan_test {
namespace {

class Plans : public ::testing::TestWithParam<const char*> {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(data());
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string data() { return *dir_ / "data"; }
  static std::string run(const std::string& name) { return *dir_ / name; }

  static Outcome Train(const std::string& name, size_t budget, int threads) {
    std::vector<std::string> args =
        TrainArgs(data(), run(name), {"--threads", std::to_string(threads)});
    *(std::ranges::find(args, "--method") + 1) = GetParam();
    *(std::ranges::find(args, "--batch-size") + 1) = "48";
    if (budget) args.insert(args.end(), {"--memory-budget", fmt::format("{}B", budget + Room())});
    return Graft(args);
  }
  // Features are made of decoded images, which want room beside the plan; they leave one plan only.
  static bool Features() { return std::string_view(GetParam()) == "linear"; }
  // Without a budget validation keeps features as well, and its plan is a smaller one.
  static size_t Ample() { return Features() ? size_t{4} << 30 : 0; }
  static size_t Room() { return Features() ? size_t{3} << 19 : 0; }
  static nlohmann::json Plan(const std::string& name) {
    return nlohmann::json::parse(Slurp(run(name) + "/plan.json"));
  }
  // What a process leaves that is killed before its first checkpoint.
  static void KilledAtOnce(const std::string& of, const std::string& name) {
    fs::create_directory(run(name));
    for (const char* file : {"/config.json", "/plan.json"})
      fs::copy_file(run(of) + file, run(name) + file);
  }
  static TempDir* dir_;
};
TempDir* Plans::dir_ = nullptr;

TEST_P(Plans, FollowNoThreads) {
  const std::string base = fmt::format("of_{}_", GetParam());
  ASSERT_EQ(Train(base + "free", Ample(), 2).code, 0);
  const nlohmann::json free = Plan(base + "free");
  const auto number = [&](const char* key) { return free.at(key).get<size_t>(); };
  // The budgets are for the plan as it is, for one without the copies of the gradients, and for
  // those with few and with many values computed twice.
  const size_t one_lane = number("needed_bytes") - (number("lanes") - 1) * number("lane_bytes");
  const size_t arena = number("arena_bytes");
  int budgets = 0, plans = 0;
  std::string before;
  for (const size_t budget : {number("needed_bytes"), one_lane + arena / 8, one_lane,
                              one_lane - arena / 40, one_lane - arena / 5}) {
    std::string plan, weights;
    for (const int threads : {1, 3, 8}) {
      const std::string name = fmt::format("{}{}_{}", base, budgets, threads);
      const Outcome o = Train(name, budget, threads);
      ASSERT_EQ(o.code, 0) << o.err;
      if (threads == 1) plan = Slurp(run(name) + "/plan.json");
      if (threads == 1) weights = Slurp(run(name) + "/last.safetensors");
      EXPECT_EQ(Slurp(run(name) + "/plan.json"), plan) << budget << ", " << threads << " threads";
      EXPECT_EQ(Slurp(run(name) + "/last.safetensors"), weights) << budget << ", " << threads;
    }
    EXPECT_LE(nlohmann::json::parse(plan).at("needed_bytes"), budget + Room());
    plans += plan != before, before = plan;
    ++budgets;
  }
  EXPECT_GE(plans, Features() ? 1 : 3);
}

TEST_P(Plans, BindARunThatWasKilledBeforeItsFirstCheckpoint) {
  const std::string base = fmt::format("killed_{}_", GetParam());
  ASSERT_EQ(Train(base + "free", Ample(), 2).code, 0);
  const nlohmann::json free = Plan(base + "free");
  const size_t budget = free.at("needed_bytes").get<size_t>() -
                        (free.at("lanes").get<size_t>() - 1) * free.at("lane_bytes").get<size_t>();
  ASSERT_EQ(Train(base + "whole", budget, 8).code, 0);
  KilledAtOnce(base + "whole", base + "again");
  const Outcome o = Graft({"train", "--resume", run(base + "again"), "--threads", "3"});
  ASSERT_EQ(o.code, 0) << o.err;
  EXPECT_EQ(Slurp(run(base + "again") + "/last.safetensors"),
            Slurp(run(base + "whole") + "/last.safetensors"));
  // A plan that another version would not choose.
  KilledAtOnce(base + "free", base + "other");
  nlohmann::json other = free;
  other["micro_batch"] = 1, other["lanes"] = 1;
  Spill(run(base + "other") + "/plan.json", other.dump());
  ASSERT_EQ(Graft({"train", "--resume", run(base + "other")}).code, 0);
  EXPECT_EQ(Plan(base + "other").at("micro_batch"), 1);
  EXPECT_EQ(Plan(base + "other").at("lanes"), 1);
}

TEST_P(Plans, OfAnotherGraphAreRefused) {
  const std::string base = fmt::format("refused_{}_", GetParam());
  ASSERT_EQ(Train(base + "free", Ample(), 2).code, 0);
  KilledAtOnce(base + "free", base + "again");
  nlohmann::json config = nlohmann::json::parse(Slurp(run(base + "again") + "/config.json"));
  config["label_smoothing"] = 0.25;
  Spill(run(base + "again") + "/config.json", config.dump());
  ExpectRefused({"train", "--resume", run(base + "again")}, 1,
                "plan.json: the plan of another graph than this run's; hint: ");
}

INSTANTIATE_TEST_SUITE_P(Methods, Plans,
                         ::testing::Values("lora(r=2,dropout=0.1)", "full", "linear"),
                         [](const auto& info) { return fmt::format("{}", info.index); });

}  // namespace
}  // namespace graft::cli::cli_plan_test
