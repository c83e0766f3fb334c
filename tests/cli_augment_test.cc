// Tests train --augment: it makes other images, which are the same ones whatever the threads and
// after a kill; the mixed loss; and what it cannot be used with.
#include <cmath>

#include "models/model.h"
#include "ops/ops.h"
#include "runtime/interpret.h"
#include "tests/cli_mistakes_testing.h"

namespace graft::cli::cli_augment_test {
namespace {

class Augmented : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(At("images"));
    GraftJson(Args("strong", "strong"));
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static Words Args(const std::string& out, const std::string& augment, const Words& more = {}) {
    Words args{"train",    "--model",   kNano,      "--data", At("images"),
               "--method", "lora(r=2)", "--epochs", "3",      "--batch-size",
               "8",        "--out",     At(out)};
    if (!augment.empty()) args.insert(args.end(), {"--augment", augment});
    return WithOptions(std::move(args), more);
  }
  static std::string Weights(const std::string& run) {
    return Slurp(At(run) + "/last.safetensors");
  }
  static TempDir* dir_;
};
TempDir* Augmented::dir_ = nullptr;

TEST_F(Augmented, SameBitsOnAnyThreadsInAnyPartsAndAfterAKill) {
  for (const char* threads : {"1", "3"}) {
    GraftJson(Args(threads, "strong", {"--threads", threads}));
    EXPECT_EQ(Weights(threads), Weights("strong")) << threads;
  }
  SignalAt(Args("killed", "strong", {"--save-every", "1"}), At("killed/state.safetensors"),
           SIGKILL);
  GraftJson({"train", "--resume", At("killed")});
  EXPECT_EQ(Weights("killed"), Weights("strong"));
}

// The images of a batch are mixed in pairs, whatever parts it is computed in.
TEST_F(Augmented, PartsOfABatchAreMixedWithAllOfIt) {
  const auto loss = [&](const char* out, const char* micro) {
    return GraftJson(Args(out, "mixup=1,cutmix=1",
                          {"--micro-batch", micro, "--epochs", "1"}))["final_train_loss"]
        .get<double>();
  };
  const double whole = loss("micro8", "8");
  EXPECT_NEAR(loss("micro3", "3"), whole, 1e-5 * whole);
}

TEST_F(Augmented, EveryPartChangesWhatIsLearnt) {
  GraftJson(Args("plain", ""));
  std::set<std::string> weights{Weights("plain")};
  int i = 0;
  for (const char* part :
       {"flip", "crop=0.5", "randaugment=1x9", "erase=1", "mixup=0.5", "cutmix=1"}) {
    const std::string out = fmt::format("part{}", i++);
    GraftJson(Args(out, part));
    EXPECT_TRUE(weights.insert(Weights(out)).second) << part;
  }
  GraftJson(Args("none", "none"));
  EXPECT_EQ(Weights("none"), Weights("plain"));
}

// A linear probe would keep features of the images as they are.
TEST_F(Augmented, FeaturesAreNotKept) {
  const Outcome o = Graft(Args("probe", "flip", {"--method", "linear"}));
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_NE((o.out + o.err).find("--augment makes other images"), std::string::npos) << o.err;
  const nlohmann::json plan = nlohmann::json::parse(Slurp(At("probe") + "/plan.json"));
  EXPECT_EQ(plan["features_kept"], 0);
}

TEST_F(Augmented, Mistakes) {
  Spill(At("t.tsv"), "");
  dir_->Write("texts/train.tsv", "a\t0\nb\t1\nc\t0\n");
  const auto refused = [&](const Words& args, int code, const char* says) {
    const Outcome o = Graft(args);
    EXPECT_EQ(o.code, code) << o.err;
    EXPECT_NE(o.err.find(says), std::string::npos) << o.err;
    EXPECT_FALSE(fs::exists(At("none2")));
  };
  refused(Args("none2", "flop"), 2, "did you mean 'flip'");
  refused(Args("none2", "flip", {"--trace", At("trace")}), 2, "--trace");
  refused(
      Args("none2", "flip", {"--data", At("texts"), "--model", kNanoBert, "--val-split", "none"}),
      2, "texts");
  const Outcome list = Graft({"train", "--augment", "list"});
  EXPECT_EQ(list.code, 0);
  EXPECT_NE((list.out + list.err).find("strong"), std::string::npos);
}

TEST(MixedLoss, IsTheShareOfBothLabels) {
  const VitConfig tiny{.image_size = 8,
                       .patch_size = 4,
                       .width = 8,
                       .depth = 1,
                       .heads = 2,
                       .mlp_width = 16,
                       .classes = 3};
  ParamStore params;
  InitModel(tiny, params, 1);
  InterpretOptions o{.counts = {2, 0}, .leaves = {}, .params = &params};
  for (int i = 0; i < 2 * 3 * 64; ++i) o.leaves["image"].push_back(std::sin(0.3 * i));
  o.leaves["labels"] = {0, 2}, o.leaves["labels_other"] = {2, 1}, o.leaves["share"] = {0.7, 0.7};
  const auto losses = [&](const ModelBuild& build) {
    const Graph g = BuildModel(tiny, build);
    return Interpret(g, o)[g.output("losses").i];
  };
  const std::vector<double> mixed = losses({.loss = true, .label_smoothing = 0.1, .mixed = true});
  const std::vector<double> own = losses({.loss = true, .label_smoothing = 0.1});
  o.leaves["labels"] = {2, 1};
  const std::vector<double> other = losses({.loss = true, .label_smoothing = 0.1});
  for (size_t i = 0; i < 2; ++i) EXPECT_NEAR(mixed[i], 0.7 * own[i] + 0.3 * other[i], 1e-12);
}

}  // namespace
}  // namespace graft::cli::cli_augment_test
