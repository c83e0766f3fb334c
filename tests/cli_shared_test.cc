// Runs the commands on real data and weights (GRAFT_DATA), with a few examples each.
#include <cmath>
#include <cstdlib>

#include "tests/cli_testing.h"
#include "tests/image_test_util.h"

namespace graft::cli::cli_shared_test {
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

// A BERT pre-trained on these texts by the script of docs/cli.md, from far fewer of them, takes
// prompts, a search without gradients, and a soft prompt that was pre-trained on it.
TEST(SharedStory, ABertMadeHereTakesPrompts) {
  GRAFT_NEED_SHARED_DATA();
  const TempDir dir;
  const std::string texts = Shared("data/text/sst2"), bert = dir / "bert_tiny";
  fs::create_directory(dir / "data");
  fs::create_directory_symlink(texts, dir / "data/sst2");
  const std::string command = fmt::format(
      "GRAFT='{}' '{}/scripts/make_bert_tiny.sh' '{}' '{}' '{}' --limit 64 --val-split none "
      "--quiet > '{}' 2>&1",
      Binary(), GRAFT_SOURCE_DIR, dir / "data", Shared("weights/bert-base-uncased-vocab.txt"), bert,
      dir / "log");
  ASSERT_EQ(std::system(command.c_str()), 0) << Slurp(dir / "log");
  for (const char* method : {"bitfit", "bbt(tokens=3,d=10,budget=40)"}) {
    const std::string run = dir / method;
    const nlohmann::json json = GraftJson({"train",
                                           "--model",
                                           bert,
                                           "--data",
                                           texts,
                                           "--head",
                                           "mlm",
                                           "--template",
                                           "{text} It was [MASK].",
                                           "--words",
                                           "terrible|great",
                                           "--method",
                                           method,
                                           "--limit",
                                           "32",
                                           "--val-split",
                                           "none",
                                           "--max-length",
                                           "48",
                                           "--out",
                                           run});
    EXPECT_TRUE(std::isfinite(json["final_train_loss"].get<double>())) << method;
    EXPECT_EQ(GraftJson({"eval", "--run", run, "--data", texts, "--limit", "16"})["n"], 16);
  }
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
}  // namespace graft::cli::cli_shared_test
