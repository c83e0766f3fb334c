// Features of frozen layers between runs: kept, found again, and never where anything differs.
#include <thread>

#include "runtime/io/sha256.h"
#include "suites/ledger.h"
#include "tests/cli_mistakes_testing.h"
#include "train/complete_config.h"
#include "train/trainer.h"

namespace graft::cli::cli_features_test {
namespace {

class KeptFeatures : public ::testing::Test {
 protected:
  void SetUp() override {
    setenv("XDG_CACHE_HOME", At("cache").c_str(), 1);
    unsetenv("GRAFT_FEATURE_CACHE");
    MakeData(At("images"));
    // A file this young may change without a trace, so nothing is kept of it.
    std::this_thread::sleep_for(std::chrono::milliseconds(2100));
  }
  void TearDown() override { unsetenv("XDG_CACHE_HOME"), unsetenv("GRAFT_FEATURE_CACHE"); }
  std::string At(const std::string& name) { return dir_ / name; }
  // Whether the run took its features from the cache.
  bool Train(const std::string& out, const Words& more = {}) {
    const Outcome o = Graft(WithOptions({"train", "--model", kNano, "--data", At("images"),
                                         "--method", "linear", "--epochs", "2", "--out", At(out)},
                                        more));
    EXPECT_EQ(o.code, 0) << o.err;
    const std::string text = o.out + o.err;
    const bool kept = text.find("kept since an earlier run") != std::string::npos;
    EXPECT_EQ(text.find("s, once)") == std::string::npos, kept) << text;
    return kept;
  }
  std::string Weights(const std::string& run) { return Slurp(At(run) + "/last.safetensors"); }
  std::vector<fs::path> Files() {
    std::vector<fs::path> files;
    std::error_code none;
    for (const auto& file : fs::directory_iterator(At("cache") + "/graft/features", none))
      files.push_back(file.path());
    return files;
  }
  TempDir dir_;
};

TEST_F(KeptFeatures, AreThoseOfTheNextRun) {
  EXPECT_FALSE(Train("a"));
  EXPECT_FALSE(Files().empty());
  EXPECT_TRUE(Train("b"));
  EXPECT_EQ(Weights("a"), Weights("b"));
  EXPECT_TRUE(Train("other", {"--lr", "0.5"}));
  EXPECT_NE(Weights("a"), Weights("other"));
  setenv("GRAFT_FEATURE_CACHE", "0", 1);
  EXPECT_FALSE(Train("none", {"--lr", "0.5"}));
  EXPECT_EQ(Weights("other"), Weights("none"));
}

// Features take longer than the steps behind them, and say nothing of how long these will take.
TEST_F(KeptFeatures, TheTimeLeftIsThatOfSteps) {
  RunConfig c;
  c.model = kNano, c.data = At("images"), c.method = "linear", c.epochs = 2, c.batch_size = 8;
  std::vector<std::string> notes;
  RunDir run = RunDir::Create(At("timed"), CompleteRunConfig(c, &notes));
  StepReport first{};
  TrainHooks hooks;
  hooks.on_step = [&](const StepReport& r) {
    if (r.step == 1) first = r;
  };
  graft::Train(run, hooks);
  ASSERT_GT(first.steps, 2);
  const auto examples = static_cast<double>(8 * (first.steps - 1));
  EXPECT_NEAR(first.seconds_left * first.examples_per_second, examples, 1e-6 * examples);
}

TEST_F(KeptFeatures, AreNotThoseOfOtherWeightsPixelsOrKernels) {
  EXPECT_FALSE(Train("a"));
  EXPECT_FALSE(Train("seed", {"--seed", "7"}));  // of the base's weights, too
  EXPECT_FALSE(Train("pixels", {"--preprocess", "resize=64,filter=bilinear,mean=0.5,std=0.5"}));
  EXPECT_FALSE(Train("isa", {"--isa", "sse4"}));
  EXPECT_FALSE(Train("limit", {"--limit", "9"}));
  EXPECT_TRUE(Train("again"));
}

TEST_F(KeptFeatures, AreForgottenWhenAnImageChanges) {
  EXPECT_FALSE(Train("a"));
  fs::path image;
  for (const auto& file : fs::recursive_directory_iterator(At("images")))
    if (file.path().extension() == ".png" &&
        file.path().string().find("train") != std::string::npos)
      image = file.path();
  ASSERT_FALSE(image.empty());
  const std::string before = Slurp(image);
  Spill(image, before);  // the same bytes, but the file may have others
  EXPECT_FALSE(Train("b"));
  EXPECT_EQ(Weights("a"), Weights("b"));
}

TEST_F(KeptFeatures, ADamagedFileIsNone) {
  EXPECT_FALSE(Train("a"));
  for (const fs::path& file : Files()) {
    std::string bytes = Slurp(file);
    bytes[bytes.size() - 2] ^= 0x40;  // another number, in a file that is whole
    Spill(file, bytes);
  }
  EXPECT_FALSE(Train("b"));
  EXPECT_EQ(Weights("a"), Weights("b"));
  for (const fs::path& file : Files()) fs::resize_file(file, fs::file_size(file) / 2);
  EXPECT_FALSE(Train("c"));
  EXPECT_EQ(Weights("a"), Weights("c"));
}

TEST_F(KeptFeatures, StayWithinTheBound) {
  setenv("GRAFT_FEATURE_CACHE", "1KiB", 1);
  EXPECT_FALSE(Train("a"));
  EXPECT_TRUE(Files().empty());
  setenv("GRAFT_FEATURE_CACHE", "200KiB", 1);
  for (const char* seed : {"1", "2", "3", "4", "5", "6"})
    EXPECT_FALSE(Train(std::string("s") + seed, {"--seed", seed}));
  uintmax_t bytes = 0;
  for (const fs::path& file : Files()) bytes += fs::file_size(file);
  EXPECT_GT(bytes, 0u);
  EXPECT_LT(bytes, 210u << 10);
  EXPECT_TRUE(Train("last", {"--seed", "6"}));
}

// --- images after resize and crop, which all runs share

class KeptImages : public KeptFeatures {
 protected:
  void SetUp() override {
    KeptFeatures::SetUp();
    setenv("GRAFT_FEATURE_CACHE", "0", 1);
    unsetenv("GRAFT_IMAGE_CACHE");
  }
  void TearDown() override { KeptFeatures::TearDown(), unsetenv("GRAFT_IMAGE_CACHE"); }
  std::string TrainOn(const std::string& out, const Words& more = {}) {
    GraftJson(WithOptions({"train", "--model", kNano, "--data", At("images"), "--method", "ssf",
                           "--epochs", "2", "--out", At(out)},
                          more));
    return Weights(out);
  }
  std::vector<fs::path> Images() {
    std::vector<fs::path> files;
    std::error_code none;
    for (const auto& file : fs::directory_iterator(At("cache") + "/graft/images", none))
      files.push_back(file.path());
    return files;
  }
  // Gives every image inverted pixels, in entries that are whole.
  void Invert() {
    for (const fs::path& file : Images()) {
      std::string rest = Slurp(file).substr(64);
      for (size_t i = 1; i < rest.size(); ++i) rest[i] = static_cast<char>(~rest[i]);
      const std::string text = file.filename().string() + rest;
      Spill(file, Sha256Hex(std::as_bytes(std::span(text))) + rest);
    }
  }
};

TEST_F(KeptImages, AreThoseOfAllRuns) {
  setenv("GRAFT_IMAGE_CACHE", "0", 1);
  const std::string plain = TrainOn("none"), other = TrainOn("none-other", {"--lr", "0.05"});
  EXPECT_TRUE(Images().empty());
  unsetenv("GRAFT_IMAGE_CACHE");
  EXPECT_EQ(TrainOn("a"), plain);
  const size_t images = Images().size();
  EXPECT_GT(images, 10u);
  EXPECT_EQ(TrainOn("b", {"--lr", "0.05"}), other);
  // Mean and std come behind.
  const std::string pixels = "resize=64,filter=bilinear,mean=";
  const std::string half = TrainOn("half", {"--preprocess", pixels + "0.5,std=0.5"});
  const size_t both = Images().size();
  EXPECT_NE(TrainOn("third", {"--preprocess", pixels + "0.3,std=0.5"}), half);
  EXPECT_EQ(Images().size(), both);
  Invert();
  EXPECT_NE(TrainOn("inverted"), plain) << "they were not read";
  for (const fs::path& file : Images()) fs::resize_file(file, fs::file_size(file) / 2);
  EXPECT_EQ(TrainOn("damaged"), plain);
}

TEST_F(KeptImages, SuitesTestOnThemToo) {
  MakeData(At("tasks/cifar"), "shapes");
  const auto bench = [&](const std::string& out) {
    GraftJson({"bench", "vtab", "--model", kNano, "--data", At("tasks"), "--methods", "lora(r=2)",
               "--epochs", "1", "--out", At(out)});
    return Ledger::Read(At(out)).Units().at(0).metrics["loss"].get<double>();
  };
  TrainOn("trained", {"--data", At("tasks/cifar"), "--train-split", "train800val200"});
  const size_t trained = Images().size();
  const double first = bench("first");
  EXPECT_GT(Images().size(), trained) << "those of the test split";
  EXPECT_EQ(bench("second"), first);
  Invert();
  EXPECT_NE(bench("inverted"), first);
}

}  // namespace
}  // namespace graft::cli::cli_features_test
