// The transform of a checkpoint reaches the pixels of every command, which say where it is from.
#include "data/preprocess.h"
#include "runtime/io/npy.h"
#include "tests/cli_testing.h"

namespace graft::cli::cli_preprocess_test {
namespace {

const std::string kVit = kFixtures + "tiny_vit_hf";
constexpr const char* kSource = "preprocessor_config.json";
// This is Google's form, which goes straight to the size and gives values in -1..1.
constexpr const char* kProcessor =
    R"({"image_processor_type": "ViTImageProcessor", "size": 16, "resample": 2,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]})";
constexpr const char* kHalf = "resize=16,filter=bilinear,mean=0.5|0.5|0.5,std=0.5|0.5|0.5";

class CliPreprocess : public ::testing::Test {
 protected:
  CliPreprocess() {
    fs::copy(kVit, model_);
    Spill(model_ + "/preprocessor_config.json", kProcessor);
    picture_.rgb.resize(3 * 40 * 25);
    for (size_t i = 0; i < picture_.rgb.size(); ++i)
      picture_.rgb[i] = static_cast<uint8_t>(i * 37 % 251);
    WritePng(image_, picture_);
  }
  std::vector<float> LogitsOf(std::vector<std::string> args) const {
    args.insert(args.begin(), "predict");
    args.insert(args.end(), {"--logits", dir_ / "logits.npy", "--force", "--quiet"});
    const Outcome o = Graft(args);
    EXPECT_EQ(o.code, 0) << o.err;
    return ReadNpy(dir_ / "logits.npy").values;
  }
  // A 16 x 16 input that is normalised already.
  std::string Normalised(const std::string& preprocess) const {
    const std::vector<float> values = Apply(picture_, ParsePreprocess(preprocess));
    WriteNpy(dir_ / "x.npy", ToWrite<float>("x", {1, 3, 16, 16}, values));
    return dir_ / "x.npy";
  }
  TempDir dir_;
  const std::string model_ = dir_ / "model", image_ = dir_ / "image.png";
  Image picture_{40, 25, {}};
};

TEST_F(CliPreprocess, PredictUsesIt) {
  const std::vector<float> expected = LogitsOf({"--model", model_, Normalised(kHalf)});
  EXPECT_EQ(LogitsOf({"--model", model_, image_}), expected);
  EXPECT_NE(LogitsOf({"--model", model_, image_, "--preprocess", "imagenet,resize=16,crop=16"}),
            expected);
  const auto json = GraftJson({"predict", "--model", model_, image_});
  EXPECT_EQ(json["preprocess"], kHalf);
  EXPECT_EQ(json["preprocess_source"], kSource);
  const Outcome said = Graft({"predict", "--model", model_, image_});
  EXPECT_NE(said.out.find(std::string("preprocess: ") + kHalf + " (" + kSource + ")\n"),
            std::string::npos)
      << said.out;
  // What is normalised already is not transformed.
  EXPECT_TRUE(GraftJson({"predict", "--model", model_, dir_ / "x.npy"})["preprocess"].is_null());
}

TEST_F(CliPreprocess, EvalTrainInspectAndFuseUseIt) {
  MakeData(dir_ / "data");
  const std::string run = dir_ / "run", fused = dir_ / "fused";
  auto args = TrainArgs(dir_ / "data", run);
  args[2] = model_;
  const auto trained = GraftJson(args);
  EXPECT_EQ(trained["preprocess"], kHalf);
  EXPECT_EQ(trained["preprocess_source"], kSource);
  const auto inspected = GraftJson({"inspect", model_});
  EXPECT_EQ(inspected["preprocess"], kHalf);
  EXPECT_EQ(inspected["preprocess_source"], kSource);
  const auto of_run = GraftJson({"inspect", run});
  EXPECT_EQ(of_run["preprocess"], kHalf);
  EXPECT_EQ(of_run["preprocess_source"], "the run");
  const auto eval = GraftJson({"eval", "--run", run, "--data", dir_ / "data"});
  EXPECT_EQ(eval["preprocess"], kHalf);

  GraftJson({"fuse", "--run", run, "--out", fused});
  EXPECT_EQ(GraftJson({"inspect", fused})["preprocess_source"], "metadata graft.preprocess");
  const std::vector<float> logits = LogitsOf({"--run", run, image_});
  const std::vector<float> merged = LogitsOf({"--model", fused, image_});
  ASSERT_EQ(logits.size(), merged.size());
  for (size_t i = 0; i < logits.size(); ++i) EXPECT_NEAR(logits[i], merged[i], 1e-4);
  // The file alone says the same as the metadata of the tensors.
  const auto json = nlohmann::json::parse(Slurp(fused + "/preprocessor_config.json"));
  EXPECT_EQ(json["image_processor_type"], "ViTImageProcessor");
  GraftJson({"export", "--run", run, "--format", "timm", "--merged", "--out", dir_ / "timm"});
  EXPECT_EQ(GraftJson({"inspect", dir_ / "timm/model.safetensors"})["preprocess"], kHalf);
}

// A squashing transform before a crop has a class of its own, and comes back as it was.
TEST_F(CliPreprocess, WrittenProcessorsAreReadAgain) {
  for (const char* text :
       {"resize=20,crop=16,fit=both,filter=bicubic,mean=0.1|0.2|0.3,std=1|1|1",
        "resize=20,crop=16,center=floor,filter=bilinear,mean=0.5|0.5|0.5,std=1|1|1",
        "resize=16,filter=bicubic,mean=0|0|0,std=1|1|1"}) {
    SCOPED_TRACE(text);
    fs::remove_all(dir_ / "out");
    GraftJson({"export", "--model", model_, "--format", "hf", "--preprocess", text, "--out",
               dir_ / "out"});
    fs::copy(dir_ / "out/preprocessor_config.json", model_ + "/preprocessor_config.json",
             fs::copy_options::overwrite_existing);
    EXPECT_EQ(GraftJson({"predict", "--model", model_, image_})["preprocess"], text);
  }
}

TEST_F(CliPreprocess, WhatCannotBeExpressedIsSaid) {
  Spill(model_ + "/preprocessor_config.json", R"({"resample": 1})");
  ExpectRefused({"predict", "--model", model_, image_}, 1, "resample = 1 (Lanczos)");
  EXPECT_TRUE(GraftJson({"inspect", model_})["preprocess"].is_null());
  EXPECT_NE(Graft({"inspect", model_}).out.find("preprocess: " + model_), std::string::npos);
  EXPECT_EQ(
      GraftJson({"predict", "--model", model_, image_, "--preprocess", kHalf})["preprocess_source"],
      "--preprocess");
  // A snapshot that was copied without its files has links to nothing.
  fs::remove(model_ + "/preprocessor_config.json");
  fs::create_symlink("../blobs/gone", model_ + "/preprocessor_config.json");
  ExpectRefused({"predict", "--model", model_, image_}, 1, "a link to a file that is not there");
}

}  // namespace
}  // namespace graft::cli::cli_preprocess_test
