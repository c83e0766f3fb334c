// Tests runs that end early: by Ctrl-C, by kill -9, by a loss that is no number. Equal runs give
// equal bytes.
#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/io/safetensors.h"
#include "tests/cli_testing.h"
#include "tests/event_file_testing.h"
#include "train/event_file.h"

namespace graft::cli::cli_resume_test {
namespace {

constexpr const char* kEpochs = "12";

class Resume : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    const Outcome o = Graft({"data", "make", "shapes", "--out", data(), "--size", "32", "--train",
                             "128", "--val", "16", "--test", "16"});
    ASSERT_EQ(o.code, 0) << o.err;
    ASSERT_EQ(Graft(Args("whole", kEpochs)).code, 0);
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string data() { return *dir_ / "data"; }
  static std::vector<std::string> Args(const std::string& run, const std::string& epochs) {
    return {"train",
            "--model",
            kNano,
            "--data",
            data(),
            "--method",
            "lora(r=2,dropout=0.1)",
            "--epochs",
            epochs,
            "--batch-size",
            "16",
            "--save-every",
            "3",
            "--out",
            *dir_ / run};
  }
  static std::string Weights(const std::string& run) {
    return Slurp(*dir_ / run + "/last.safetensors");
  }

  // A run that this signal ends at its first checkpoint.
  static Outcome SignalRun(const std::vector<std::string>& args, const std::string& run,
                           int signal) {
    return SignalAt(args, *dir_ / run + "/state.safetensors", signal);
  }
  static void Interrupt(const std::string& run) {
    ASSERT_EQ(SignalRun(Args(run, kEpochs), run, SIGINT).code, 130);
  }
  static void EditConfig(const std::string& run, const char* key, const nlohmann::json& value) {
    const std::string path = *dir_ / run + "/config.json";
    nlohmann::json config = nlohmann::json::parse(Slurp(path));
    config[key] = value;
    Spill(path, config.dump());
  }
  static TempDir* dir_;
};
TempDir* Resume::dir_ = nullptr;

TEST_F(Resume, EqualRunsGiveEqualBytes) {
  std::vector<std::string> one_thread = Args("again", kEpochs);
  one_thread.insert(one_thread.end(), {"--threads", "1"});
  ASSERT_EQ(Graft(one_thread).code, 0);
  EXPECT_EQ(Weights("whole"), Weights("again"));
  // A finished run has nothing to do, and needs nothing for it.
  EditConfig("again", "data", "moved"), EditConfig("again", "model", "moved.safetensors");
  const nlohmann::json done = GraftJson({"train", "--resume", *dir_ / "again"});
  EXPECT_EQ(done["steps"], 96);
  EXPECT_GT(done["trainable_parameters"], 0);
  EXPECT_GT(done["planned_bytes"], 0);  // as of the session that trained
  EXPECT_GT(done["examples_per_second"], 0);
  EXPECT_EQ(Weights("whole"), Weights("again"));
}

TEST_F(Resume, AfterKill) {
  SignalRun(Args("killed", kEpochs), "killed", SIGKILL);
  const Outcome o = Graft({"train", "--resume", *dir_ / "killed"});
  ASSERT_EQ(o.code, 0) << o.err;
  EXPECT_EQ(Weights("killed"), Weights("whole"));
  EXPECT_EQ(Slurp(*dir_ / "killed/best.safetensors"), Slurp(*dir_ / "whole/best.safetensors"));
  ExpectEventsOf(Slurp(*dir_ / "killed/metrics.jsonl"), Slurp(*dir_ / "killed/" + kEventFile));
}

TEST_F(Resume, BeforeTheFirstCheckpoint) {
  fs::create_directory(*dir_ / "unborn");
  fs::copy_file(*dir_ / "whole/config.json", *dir_ / "unborn/config.json");
  ASSERT_EQ(Graft({"train", "--resume", *dir_ / "unborn"}).code, 0);
  EXPECT_EQ(Weights("unborn"), Weights("whole"));
}

TEST_F(Resume, AfterInterrupt) {
  const Outcome stopped = SignalRun(Args("interrupted", kEpochs), "interrupted", SIGINT);
  EXPECT_EQ(stopped.code, 130) << stopped.err;
  EXPECT_NE(stopped.err.find("graft train --resume"), std::string::npos) << stopped.err;
  ASSERT_EQ(Graft({"train", "--resume", *dir_ / "interrupted"}).code, 0);
  EXPECT_EQ(Weights("interrupted"), Weights("whole"));
}

// What the run said of its epochs, without their times.
std::vector<nlohmann::json> Epochs(const std::string& run) {
  std::vector<nlohmann::json> lines;
  std::ifstream file(run + "/metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    lines.push_back(nlohmann::json::parse(line));
    lines.back().erase("seconds");
  }
  return lines;
}

// The last batch of an epoch has 8 of 104 examples; the mean is over examples, in a run that was
// interrupted, too.
TEST_F(Resume, TrainLossIsTheMeanOverExamples) {
  const auto args = [&](const std::string& run) {
    std::vector<std::string> all = Args(run, kEpochs);
    all.insert(all.end(), {"--limit", "104"});
    *(std::ranges::find(all, "--save-every") + 1) = "2";
    return all;
  };
  std::vector<std::string> traced = args("uneven");
  traced.insert(traced.end(), {"--trace", *dir_ / "uneven_trace"});
  ASSERT_EQ(Graft(traced).code, 0);
  std::vector<double> losses;
  std::ifstream file(*dir_ / "uneven_trace/loss.jsonl");
  for (std::string line; std::getline(file, line);)
    losses.push_back(nlohmann::json::parse(line)["loss"]);
  const std::vector<nlohmann::json> epochs = Epochs(*dir_ / "uneven");
  ASSERT_EQ(losses.size(), 7 * epochs.size());
  for (size_t e = 0; e < epochs.size(); ++e) {
    double sum = 0;
    for (size_t i = 0; i < 7; ++i) sum += losses[7 * e + i] * (i < 6 ? 16 : 8);
    const double mean = sum / 104;
    EXPECT_NEAR(epochs[e].at("train_loss").get<double>(), mean, 1e-7 * mean) << e;
  }
  SignalRun(args("uneven_killed"), "uneven_killed", SIGKILL);
  ASSERT_EQ(Graft({"train", "--resume", *dir_ / "uneven_killed"}).code, 0);
  EXPECT_EQ(Epochs(*dir_ / "uneven_killed"), epochs);
  EXPECT_EQ(Weights("uneven_killed"), Weights("uneven"));
}

// A trace covers whole runs: one that goes on after a checkpoint goes on without, one that had none
// begins anew.
TEST_F(Resume, ATracedRun) {
  std::vector<std::string> args = Args("traced", kEpochs);
  args.insert(args.end(), {"--trace", *dir_ / "trace"});
  ASSERT_EQ(SignalRun(args, "traced", SIGINT).code, 130);
  const Outcome o = Graft({"train", "--resume", *dir_ / "traced"});
  ASSERT_EQ(o.code, 0) << o.err;
  EXPECT_NE(o.out.find("a trace covers whole runs only"), std::string::npos) << o.out;
  EXPECT_EQ(Weights("traced"), Weights("whole"));
  EXPECT_FALSE(fs::exists(*dir_ / "trace/final.safetensors"));
  fs::remove(*dir_ / "traced/state.safetensors");
  ASSERT_EQ(Graft({"train", "--resume", *dir_ / "traced"}).code, 0);
  EXPECT_TRUE(fs::exists(*dir_ / "trace/final.safetensors"));
}

// The one line of an error, which must have these words.
void ExpectError(const Outcome& o, int code, const std::vector<std::string>& words) {
  EXPECT_EQ(o.code, code) << o.err;
  const std::string line = o.err.substr(std::min(o.err.rfind("graft: "), o.err.size()));
  EXPECT_EQ(line.find('\n'), line.size() - 1) << o.err;
  for (const std::string& word : words)
    EXPECT_NE(line.find(word), std::string::npos) << word << " in:\n" << o.err;
}

// The resumed run plans again, and keeps to the order of sums with other threads.
TEST_F(Resume, UnderAMemoryBudget) {
  const nlohmann::json plain = nlohmann::json::parse(Slurp(*dir_ / "whole/plan.json"));
  const auto number = [&](const char* key) { return plain.at(key).get<size_t>(); };
  const size_t budget = number("needed_bytes") - (number("lanes") - 1) * number("lane_bytes") -
                        number("arena_bytes") / 40;
  const auto args = [&](const std::string& run) {
    std::vector<std::string> all = Args(run, kEpochs);
    all.insert(all.end(), {"--memory-budget", fmt::format("{}B", budget)});
    return all;
  };
  const Outcome tight = Graft(args("tight"));
  ASSERT_EQ(tight.code, 0) << tight.err;
  EXPECT_NE(tight.out.find("nodes recomputed: -"), std::string::npos) << tight.out;
  const std::string plan = Slurp(*dir_ / "tight/plan.json");
  EXPECT_GT(nlohmann::json::parse(plan).at("recomputed_nodes"), 0);
  EXPECT_LE(nlohmann::json::parse(plan).at("needed_bytes"), budget);

  SignalRun(args("tight_killed"), "tight_killed", SIGKILL);
  ASSERT_EQ(Graft({"train", "--resume", *dir_ / "tight_killed", "--threads", "1"}).code, 0);
  EXPECT_EQ(Weights("tight_killed"), Weights("tight"));
}

TEST_F(Resume, NonFiniteLossFromTheStart) {
  std::vector<std::string> args = Args("exploding", "30");
  args.insert(args.end(), {"--method", "full", "--lr", "1e6", "--optimizer", "sgd"});
  args.erase(args.begin() + 5, args.begin() + 7);  // the other --method
  *(std::ranges::find(args, "--save-every") + 1) = "1000";
  ExpectError(
      Graft(args), 5,
      {"the loss is nan at step ", "of 240", "no checkpoint had been saved", "smaller --lr"});
  EXPECT_FALSE(fs::exists(*dir_ / "exploding"));  // the smaller rate may use the same name
}

// Weights may overflow before the loss does: then no checkpoint has them.
TEST_F(Resume, NonFiniteWeightsAreNotSaved) {
  std::vector<std::string> args = Args("overflowing", "5");
  args.insert(args.end(), {"--lr", "1e6"});
  *(std::ranges::find(args, "--save-every") + 1) = "1";
  ExpectError(Graft(args), 5,
              {"' is no longer finite after step ", "of 40; the checkpoint before it is kept in"});
  const nlohmann::json json = GraftJson({"eval", "--run", *dir_ / "overflowing", "--data", data()});
  EXPECT_TRUE(json["loss"].is_number()) << json.dump();
}

// A run goes on with another rate, and its finite weights stay.
TEST_F(Resume, NonFiniteLossKeepsTheCheckpoint) {
  Interrupt("later");
  EditConfig("later", "lr", 1e6), EditConfig("later", "weight_decay", 1e6);
  ExpectError(Graft({"train", "--resume", *dir_ / "later"}), 5,
              {" step ", "the checkpoint before it is kept in ", "smaller --lr"});
  const ParamStore kept = SafetensorsFile::Open(*dir_ / "later/last.safetensors").LoadAll();
  for (const std::string& name : kept.names())
    for (const float x : kept.values(name)) ASSERT_TRUE(std::isfinite(x)) << name;
}

TEST_F(Resume, OptionsThatTheRunHasAreRefused) {
  ExpectError(Graft({"train", "--resume", *dir_ / "whole", "--lr", "1"}), 2,
              {"--lr: --resume takes everything from the run"});
  ExpectError(Graft({"train", "--resume", *dir_ / "whole", "--seed", "1"}), 2, {"--seed: "});
}

TEST_F(Resume, TwoProcessesDoNotTrainInOneDirectory) {
  Interrupt("shared");
  const int fd = open((*dir_ / "shared").c_str(), O_RDONLY | O_DIRECTORY);
  ASSERT_EQ(flock(fd, LOCK_EX), 0);
  ExpectError(Graft({"train", "--resume", *dir_ / "shared"}), 1,
              {"another process is training in this run directory"});
  close(fd);
  EXPECT_EQ(Graft({"train", "--resume", *dir_ / "shared"}).code, 0);
}

TEST_F(Resume, FullDiskKeepsTheCheckpoint) {
  Interrupt("full");
  const std::string weights = Weights("full"), state = Slurp(*dir_ / "full/state.safetensors");
  const Outcome o =
      Graft({"train", "--resume", *dir_ / "full"}, {.most_file_bytes = weights.size() - 1});
  ExpectError(o, 1, {"cannot write", "File too large", "unchanged"});
  EXPECT_EQ(Weights("full"), weights);
  EXPECT_EQ(Slurp(*dir_ / "full/state.safetensors"), state);
  ASSERT_EQ(Graft({"train", "--resume", *dir_ / "full"}).code, 0);
  EXPECT_EQ(Weights("full"), Weights("whole"));
}

TEST_F(Resume, DamagedRunsAreRefused) {
  const auto damaged = [](const std::string& file, const std::string& text) {
    const std::string run = *dir_ / "damaged";
    fs::remove_all(run);
    fs::copy(*dir_ / "whole", run);
    Spill(run + "/" + file, text);
    return Graft({"train", "--resume", run});
  };
  const std::string state = Slurp(*dir_ / "whole/state.safetensors");
  const std::string config = Slurp(*dir_ / "whole/config.json");
  ExpectError(damaged("state.safetensors", ""), 1, {"state.safetensors", "found only 0 bytes"});
  ExpectError(damaged("state.safetensors", state.substr(0, state.size() - 1)), 1, {"cut short"});
  ExpectError(damaged("config.json", config.substr(0, 99)), 1, {"config.json"});
  ExpectError(damaged("config.json", "[]"), 1, {"config.json: expected an object"});
  const SafetensorsFile file = SafetensorsFile::Open(*dir_ / "whole/state.safetensors");
  for (const auto& [step, message] : std::vector<std::pair<std::string, std::string>>{
           {"-1", "'graft.step' is -1, expected a whole number"},
           {"1e300", "expected a whole number"},
           {"0.5", "expected a whole number"},
           {"many", "'graft.step' is 'many', no number"},
           {"97", "the state is of step 97, but the run has 96"}}) {
    StringMap metadata = file.metadata();
    metadata["graft.step"] = step, metadata["graft.finished"] = "0";
    WriteSafetensors(*dir_ / "other", file.LoadAll(), metadata);
    ExpectError(damaged("state.safetensors", Slurp(*dir_ / "other")), 1, {message});
  }
  ParamStore shapes = file.LoadAll();
  shapes.Set("head.bias", {3}, std::vector<float>(3));
  StringMap running = file.metadata();
  running["graft.step"] = "90", running["graft.finished"] = "0";
  WriteSafetensors(*dir_ / "other", shapes, running);
  ExpectError(damaged("state.safetensors", Slurp(*dir_ / "other")), 1, {"head.bias"});
}

}  // namespace
}  // namespace graft::cli::cli_resume_test
