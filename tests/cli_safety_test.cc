// Nothing that is read is overwritten, nothing half-made stays, and nothing broken is reported as a
// result.
#include <sys/stat.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "runtime/io/npz.h"
#include "runtime/io/safetensors.h"
#include "tests/cli_testing.h"

namespace graft::cli::cli_safety_test {
namespace {

class Safety : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(data());
    ASSERT_EQ(Graft(Train(kNano, "run")).code, 0);
    // The largest name that `--keep-base` could hit: a base called as what is kept of it.
    ASSERT_EQ(Graft({"fuse", "--run", At("run"), "--out", At("x.base.safetensors")}).code, 0);
    ASSERT_EQ(Graft(Train(At("x.base.safetensors"), "second")).code, 0);
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static std::string data() { return At("data"); }
  static std::vector<std::string> Train(const std::string& model, const std::string& out) {
    return {"train",    "--model",      model,      "--data", data(),
            "--method", "lora(r=2)",    "--epochs", "1",      "--batch-size",
            "16",       "--save-every", "1",        "--out",  At(out)};
  }
  static TempDir* dir_;
};
TempDir* Safety::dir_ = nullptr;

TEST_F(Safety, WhatIsReadIsNotOverwritten) {
  const std::string last = Slurp(At("run/last.safetensors")),
                    base = Slurp(At("x.base.safetensors"));
  const std::string words = "this would overwrite ";
  ExpectRefused({"fuse", "--run", At("run"), "--out", At("run/last.safetensors")}, 2, words);
  ExpectRefused({"predict", "--run", At("run"), At("data/images/train800/000000.png"), "--logits",
                 At("run/last.safetensors")},
                2, words);
  ExpectRefused({"fuse", "--run", At("second"), "--out", At("x.safetensors"), "--keep-base"}, 2,
                words);
  EXPECT_EQ(Slurp(At("run/last.safetensors")), last);
  EXPECT_EQ(Slurp(At("x.base.safetensors")), base);
}

TEST_F(Safety, AStateThatLacksTensorsIsRefused) {
  fs::copy(At("run"), At("thin"));
  const SafetensorsFile state = SafetensorsFile::Open(At("run/state.safetensors"));
  StringMap metadata = state.metadata();
  metadata["graft.finished"] = "0", metadata["graft.step"] = "1";
  for (const char* gone : {"opt.", "head.weight"}) {
    std::vector<TensorToWrite> kept;
    for (const FileTensor& t : state.tensors())
      if (!t.name.starts_with(gone)) kept.push_back({t.name, t.dtype, t.shape, state.bytes(t)});
    WriteSafetensors(At("thin/state.safetensors"), kept, metadata);
    ExpectRefused({"train", "--resume", At("thin")}, 1, "no tensor '");
  }
}

// Also not on pictures that changed while their number and classes stayed.
TEST_F(Safety, OtherPicturesAreNotResumedOn) {
  fs::copy(data(), At("pictures"), fs::copy_options::recursive);
  std::vector<std::string> args = Train(kNano, "pictured");
  args[4] = At("pictures");
  ASSERT_EQ(Graft(args).code, 0);
  fs::remove(At("pictured/state.safetensors"));
  std::istringstream list(Slurp(At("pictures/train800.txt")));
  std::string first, label, second;
  list >> first >> label >> second;
  const std::string a = At("pictures/" + first), b = At("pictures/" + second);
  ASSERT_NE(fs::file_size(a), fs::file_size(b));
  const auto swap = [&] { fs::rename(a, a + ".png"), fs::rename(b, a), fs::rename(a + ".png", b); };
  swap();
  ExpectRefused({"train", "--resume", At("pictured")}, 1, "have changed since");
  swap();
  // What lies elsewhere as a whole is the same.
  fs::rename(At("pictures"), At("elsewhere"));
  nlohmann::json config = nlohmann::json::parse(Slurp(At("pictured/config.json")));
  config["data"] = At("elsewhere");
  Spill(At("pictured/config.json"), config.dump());
  EXPECT_EQ(Graft({"train", "--resume", At("pictured")}).code, 0);
}

TEST_F(Safety, OtherExamplesAreNotResumedOn) {
  fs::copy(data(), At("moving"), fs::copy_options::recursive);
  std::vector<std::string> args = Train(kNano, "moved");
  args[4] = At("moving");
  ASSERT_EQ(Graft(args).code, 0);
  fs::remove(At("moved/state.safetensors"));  // as of a run that was killed early
  const std::string list = Slurp(At("moving/train800.txt"));
  Spill(At("moving/train800.txt"), list.substr(0, list.size() / 2));
  ExpectRefused({"train", "--resume", At("moved")}, 1, "have changed since");
  Spill(At("moving/train800.txt"), list);
  EXPECT_EQ(Graft({"train", "--resume", At("moved")}).code, 0);
  // There is one line of metrics for the epoch, although the first attempt left one.
  const std::string metrics = Slurp(At("moved/metrics.jsonl"));
  EXPECT_EQ(std::ranges::count(metrics, '\n'), 1) << metrics;
  EXPECT_EQ(Slurp(At("moved/last.safetensors")), Slurp(At("run/last.safetensors")));
}

TEST_F(Safety, AFirstEpochWithoutNumbersLeavesNothing) {
  std::vector<std::string> args = Train(kNano, "exploded");
  args.insert(args.end(),
              {"--lr", "1e6", "--weight-decay", "1e6", "--schedule", "constant", "--warmup", "0"});
  *(std::ranges::find(args, "--save-every") + 1) = "0";
  EXPECT_EQ(Graft(args).code, 5);
  EXPECT_FALSE(fs::exists(At("exploded")));
}

TEST_F(Safety, LogitsThatAreNotNumbersAreNoResult) {
  const SafetensorsFile good = SafetensorsFile::Open(At("x.base.safetensors"));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<TensorToWrite> tensors;
  std::string bias;
  for (const FileTensor& t : good.tensors()) {
    tensors.push_back({t.name, t.dtype, t.shape, good.bytes(t)});
    if (t.name != "head.bias") continue;
    bias.assign(reinterpret_cast<const char*>(good.bytes(t).data()), good.bytes(t).size());
    std::memcpy(bias.data(), &nan, sizeof(nan));
    tensors.back().bytes = std::as_bytes(std::span(bias));
  }
  ASSERT_FALSE(bias.empty());
  WriteSafetensors(At("nan.safetensors"), tensors, good.metadata());
  ExpectRefused({"eval", "--model", At("nan.safetensors"), "--data", data()}, 1, "not finite");
}

TEST_F(Safety, ARateOfZeroIsNotTheUsualOne) {
  std::vector<std::string> args = Train(kNano, "zero");
  args.insert(args.end(), {"--lr", "0"});
  ExpectRefused(args, 2, "--lr 0: expected more than 0");
}

TEST_F(Safety, APipeAmongTheListsDoesNotHang) {
  fs::copy(data(), At("piped"), fs::copy_options::recursive);
  ASSERT_EQ(mkfifo(At("piped/extra.txt").c_str(), 0600), 0);
  EXPECT_EQ(Graft({"data", "check", At("piped")}).code, 0);
}

TEST_F(Safety, AFailedExportLeavesNoDirectory) {
  const Outcome o =
      Graft({"export", "--run", At("run"), "--format", "hf", "--merged", "--out", At("half")},
            {.most_file_bytes = 100000});
  EXPECT_EQ(o.code, 1) << o.err;
  EXPECT_FALSE(fs::exists(At("half")));
}

// Labels and preprocessing go with the weights into every form.
TEST_F(Safety, FusedFormsAreWhole) {
  ASSERT_EQ(
      Graft({"export", "--model", At("x.base.safetensors"), "--format", "hf", "--out", At("hf")})
          .code,
      0);
  ASSERT_EQ(Graft(Train(At("hf"), "of_hf")).code, 0);
  ASSERT_EQ(Graft({"fuse", "--run", At("of_hf"), "--out", At("hf_fused")}).code, 0);
  EXPECT_TRUE(fs::exists(At("hf_fused/preprocessor_config.json")));

  const std::string npz = kFixtures + "tiny_vit.npz";
  fs::copy(data(), At("named"), fs::copy_options::recursive);
  const std::string names = Slurp(At("named/classes.txt"));
  Spill(At("named/classes.txt"), "gr\xc3\xb6\xc3\x9f" + names.substr(names.find('\n')));
  std::vector<std::string> args = Train(npz, "of_npz");
  *std::ranges::find(args, data()) = At("named");
  args.insert(args.end(), {"--preprocess",
                           "resize=24,crop=16,filter=bilinear,mean=0.5|0.5|0.5,std=0.5|0.5|0.5"});
  ASSERT_EQ(Graft(args).code, 0);
  ExpectRefused({"fuse", "--run", At("of_npz"), "--out", At("n.safetensors")}, 2,
                "expected a name that ends with .npz");
  ASSERT_EQ(Graft({"fuse", "--run", At("of_npz"), "--out", At("n.npz")}).code, 0);
  const nlohmann::json run = GraftJson({"eval", "--run", At("of_npz"), "--data", At("named")});
  const nlohmann::json fused = GraftJson({"eval", "--model", At("n.npz"), "--data", At("named")});
  EXPECT_EQ(fused["accuracy"], run["accuracy"]);
  EXPECT_NEAR(fused["loss"].get<double>(), run["loss"].get<double>(), 1e-5);
  const nlohmann::json predicted = GraftJson(
      {"predict", "--model", At("n.npz"), At("named/images/train800/000000.png"), "--top", "8"});
  EXPECT_NE(predicted.dump().find("gr\xc3\xb6\xc3\x9f"), std::string::npos) << predicted.dump();
}

// A decoded image has three channels; a model of one would read beyond it.
TEST_F(Safety, ModelsOfOtherChannelsTakeNoImages) {
  const SafetensorsFile good = SafetensorsFile::Open(At("x.base.safetensors"));
  StringMap metadata = good.metadata();
  nlohmann::json config = nlohmann::json::parse(metadata.at("graft.config"));
  config["channels"] = 1;
  metadata["graft.config"] = config.dump();
  std::vector<TensorToWrite> tensors;
  for (const FileTensor& t : good.tensors()) {
    tensors.push_back({t.name, t.dtype, t.shape, good.bytes(t)});
    if (t.name != "patch_embed.proj.weight") continue;
    tensors.back().shape[1] = 1;
    tensors.back().bytes = tensors.back().bytes.first(tensors.back().bytes.size() / 3);
  }
  WriteSafetensors(At("grey.safetensors"), tensors, metadata);
  const std::string words = "reads images of 1 channels, decoded images have 3";
  ExpectRefused({"eval", "--model", At("grey.safetensors"), "--data", data()}, 1, words);
  ExpectRefused(Train(At("grey.safetensors"), "grey"), 1, words);
}

}  // namespace
}  // namespace graft::cli::cli_safety_test
