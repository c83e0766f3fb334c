// Runs the commands on real data and weights (GRAFT_DATA), with a few examples each.
#include "tests/cli_testing.h"
#include "tests/image_test_util.h"

namespace graft::cli {
namespace {

std::string Shared(const char* path) { return (SharedData() / path).string(); }

TEST(SharedStory, ImagesFromTrainToFusedFile) {
  GRAFT_NEED_SHARED_DATA();
  const TempDir dir;
  const std::string run = dir / "run", fused = dir / "fused.safetensors";
  const std::string data = Shared("data/vtab-1k/eurosat");
  const nlohmann::json trained =
      GraftJson({"train", "--model", Shared("weights/deit_tiny_patch16_224.safetensors"), "--data",
                 data, "--method", "lora(r=8)", "--train-split", "train800val200", "--limit", "8",
                 "--epochs", "2", "--batch-size", "4", "--out", run});
  EXPECT_EQ(trained["steps"], 4);
  const auto evaluate = [&](const char* flag, const std::string& model) {
    return GraftJson({"eval", flag, model, "--data", data, "--split", "test", "--limit", "8"});
  };
  const nlohmann::json before = evaluate("--run", run);
  EXPECT_EQ(before["n"], 8);
  const nlohmann::json proof = GraftJson({"fuse", "--run", run, "--data", data, "--out", fused});
  EXPECT_LE(proof["relative_error"], 1e-5);
  EXPECT_EQ(evaluate("--model", fused)["accuracy"], before["accuracy"]);
}

// Every data set there is read as what it is: it has other classes than the model's head, or its
// texts want a vocabulary.
TEST(SharedStory, DataSetsAreReadAsWhatTheyAre) {
  GRAFT_NEED_SHARED_DATA();
  int read = 0;
  for (const char* kind : {"vtab-1k", "text"})
    for (const fs::directory_entry& e : fs::directory_iterator(SharedData() / "data" / kind)) {
      if (!e.is_directory()) continue;
      const bool images = std::string_view(kind) == "vtab-1k";
      const Outcome o = Graft({"eval", "--model", images ? kNano : "init:bert_tiny", "--data",
                               e.path().string(), "--limit", "1"});
      EXPECT_EQ(o.code, 1) << o.err;
      const bool classes = o.err.find("classes, the data set") != std::string::npos;
      EXPECT_TRUE(classes || (!images && o.err.find("--tokenizer") != std::string::npos)) << o.err;
      ++read;
    }
  EXPECT_GT(read, 1);
}

}  // namespace
}  // namespace graft::cli
