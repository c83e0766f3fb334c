// Runs that end early: Ctrl-C, kill -9, a loss that leaves the numbers. Equal runs give equal
// bytes.
#include <chrono>
#include <thread>

#include "tests/cli_testing.h"

namespace graft::cli {
namespace {

constexpr const char* kEpochs = "12";

class Resume : public testing::Test {
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

  // Waits until the run has saved at least once, but has not ended.
  static bool WaitForCheckpoint(const Process& process, const std::string& run) {
    for (int i = 0; i < 6000 && process.Running(); ++i) {
      if (fs::exists(*dir_ / run + "/state.safetensors")) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }
  static TempDir* dir_;
};
TempDir* Resume::dir_ = nullptr;

TEST_F(Resume, EqualRunsGiveEqualBytes) {
  std::vector<std::string> one_thread = Args("again", kEpochs);
  one_thread.insert(one_thread.end(), {"--threads", "1"});
  ASSERT_EQ(Graft(one_thread).code, 0);
  EXPECT_EQ(Weights("whole"), Weights("again"));
  // A finished run has nothing to do.
  EXPECT_EQ(Graft({"train", "--resume", *dir_ / "whole"}).code, 0);
  EXPECT_EQ(Weights("whole"), Weights("again"));
}

TEST_F(Resume, AfterKill) {
  Process process(Args("killed", kEpochs));
  ASSERT_TRUE(WaitForCheckpoint(process, "killed"));
  process.Signal(SIGKILL);
  process.Wait();
  const Outcome o = Graft({"train", "--resume", *dir_ / "killed"});
  ASSERT_EQ(o.code, 0) << o.err;
  EXPECT_EQ(Weights("killed"), Weights("whole"));
  EXPECT_EQ(Slurp(*dir_ / "killed/best.safetensors"), Slurp(*dir_ / "whole/best.safetensors"));
}

TEST_F(Resume, BeforeTheFirstCheckpoint) {
  fs::create_directory(*dir_ / "unborn");
  fs::copy_file(*dir_ / "whole/config.json", *dir_ / "unborn/config.json");
  ASSERT_EQ(Graft({"train", "--resume", *dir_ / "unborn"}).code, 0);
  EXPECT_EQ(Weights("unborn"), Weights("whole"));
}

TEST_F(Resume, AfterInterrupt) {
  Process process(Args("interrupted", kEpochs));
  ASSERT_TRUE(WaitForCheckpoint(process, "interrupted"));
  process.Signal(SIGINT);
  const Outcome stopped = process.Wait();
  EXPECT_EQ(stopped.code, 130) << stopped.err;
  EXPECT_NE(stopped.err.find("graft train --resume"), std::string::npos) << stopped.err;
  ASSERT_EQ(Graft({"train", "--resume", *dir_ / "interrupted"}).code, 0);
  EXPECT_EQ(Weights("interrupted"), Weights("whole"));
}

TEST_F(Resume, NonFiniteLossKeepsTheCheckpoint) {
  std::vector<std::string> args = Args("exploding", "30");
  args[6] = "full";
  args.insert(args.end(), {"--lr", "1e6", "--optimizer", "sgd"});
  const Outcome o = Graft(args);
  EXPECT_EQ(o.code, 5) << o.err;
  EXPECT_NE(o.err.find("smaller --lr"), std::string::npos) << o.err;
  EXPECT_EQ(o.err.find("\n"), o.err.size() - 1) << o.err;
}

}  // namespace
}  // namespace graft::cli
