// Memory is what is planned, or has a bound; where there is none left, the command ends with a
// message and exit code 1.
#include <algorithm>

#include "data/image.h"
#include "tests/cli_testing.h"

namespace graft::cli::cli_memory_test {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

class Memory : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    const Outcome o = Graft({"data", "make", "shapes", "--out", At("data"), "--size", "32",
                             "--train", "600", "--val", "200", "--test", "24"});
    ASSERT_EQ(o.code, 0) << o.err;
    ASSERT_EQ(Graft(TrainArgs(At("data"), At("small"), {"--limit", "16"})).code, 0);
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  // Trains on images of 224 x 224 that are made of the small ones, with 16 patches each.
  static Outcome Train(const std::string& out, const std::vector<std::string>& more) {
    std::vector<std::string> args{"train",        "--model",  "init:vit_nano_patch56_224",
                                  "--data",       At("data"), "--method",
                                  "lora(r=2)",    "--epochs", "2",
                                  "--batch-size", "16",       "--out",
                                  At(out)};
    args.insert(args.end(), more.begin(), more.end());
    return Graft(args);
  }
  static TempDir* dir_;
};
TempDir* Memory::dir_ = nullptr;

// 800 images are 115 MiB. They are kept as far as the budget goes, and the results are the same.
TEST_F(Memory, ImagesCountAgainstTheBudget) {
  const Outcome tight = Train("tight", {"--memory-budget", "60MiB"});
  ASSERT_EQ(tight.code, 0) << tight.err;
  const Outcome wide = Train("wide", {"--memory-budget", "200MiB"});
  ASSERT_EQ(wide.code, 0) << wide.err;
  EXPECT_EQ(Slurp(At("tight/last.safetensors")), Slurp(At("wide/last.safetensors")));
  EXPECT_NE(wide.out.find("MiB more for images"), std::string::npos) << wide.out;
  if (!kMeasureMemory) return;
  EXPECT_LT(tight.peak_bytes, 60 * kMiB + 40 * kMiB);  // code and threads
  EXPECT_GT(wide.peak_bytes, 115 * kMiB);
  EXPECT_LT(wide.peak_bytes, 200 * kMiB + 40 * kMiB);
}

TEST_F(Memory, EvaluationKeepsNoImages) {
  const Outcome o = Graft({"eval", "--run", At("tight"), "--data", At("data"), "--split",
                           "train800val200", "--memory-budget", "60MiB"});
  ASSERT_EQ(o.code, 0) << o.err;
  if (kMeasureMemory) {
    EXPECT_LT(o.peak_bytes, 100 * kMiB);
  }
}

// A few kilobytes that are 20 million pixels, and as many in a column.
TEST_F(Memory, LongImages) {
  constexpr int kLong = 20'000'000;
  for (const bool wide : {true, false}) {
    Image image{wide ? kLong : 1, wide ? 1 : kLong, {}};
    image.rgb.resize(size_t{3} * kLong, 77);
    WritePng(At("long.png"), image);
    EXPECT_LT(fs::file_size(At("long.png")), 400'000u);
    const Outcome o = Graft({"predict", "--model", kNano, "--preprocess", "vtab,resize=32",
                             At("long.png"), "--top", "1"});
    EXPECT_EQ(o.code, 0) << o.err;
    if (kMeasureMemory) {
      EXPECT_LT(o.peak_bytes, 180 * kMiB);
    }
    const Outcome refused = Graft({"predict", "--model", kNano, "--preprocess", "vtab,resize=32",
                                   At("long.png"), "--memory-budget", "40MiB"});
    EXPECT_EQ(refused.code, 1);
    EXPECT_NE(refused.err.find("long.png: decoding takes "), std::string::npos) << refused.err;
    EXPECT_NE(refused.err.find("MiB, more than the memory budget of 40.0 MiB"), std::string::npos)
        << refused.err;
  }
}

// Bytes that would be four times as many as floats. The file itself is mapped.
TEST_F(Memory, ArraysAreReadAsTheyAreNeeded) {
  constexpr int kImages = 60'000;
  std::string header = "{'descr': '|u1', 'fortran_order': False, 'shape': (60000, 3, 32, 32), }";
  header.resize(117, ' ');
  Spill(At("zeros.npy"), std::string("\x93NUMPY\1\0\x76\0", 10) + header + "\n");
  fs::resize_file(At("zeros.npy"), 128 + uintmax_t{kImages} * 3 * 32 * 32);  // a hole
  const Outcome o = Graft({"predict", "--run", At("small"), At("zeros.npy"), "--top", "1",
                           "--quiet", "--logits", At("logits.npy")});
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_EQ(fs::file_size(At("logits.npy")), 128 + uintmax_t{kImages} * 8 * 4);
  if (kMeasureMemory) {
    EXPECT_LT(o.peak_bytes, 180 * kMiB + 150 * kMiB);  // as floats: 720 MiB
  }
}

TEST_F(Memory, LogitsHaveABound) {
  std::string header = "{'descr': '|u1', 'fortran_order': False, 'shape': (140000, 3, 32, 32), }";
  header.resize(117, ' ');
  Spill(At("many.npy"), std::string("\x93NUMPY\1\0\x76\0", 10) + header + "\n");
  fs::resize_file(At("many.npy"), 128 + uintmax_t{140'000} * 3 * 32 * 32);
  ExpectRefused({"predict", "--model", kNano, "--preprocess", "vtab,resize=32", At("many.npy")}, 1,
                "140000 inputs, of 1000 logits each: expected at most 134217 at once");
}

// Wherever memory ends, the command says so; and with enough it works.
TEST_F(Memory, NoneLeft) {
  if (!kMeasureMemory) GTEST_SKIP() << "sanitizers want more addresses than there are";
  const std::string photo = At("data/images/test/000000.png");
  const std::vector<std::vector<std::string>> commands{
      {"inspect", kNano},
      {"predict", "--model", kNano, "--preprocess", "vtab,resize=32", photo, "--json"},
      {"eval", "--run", At("small"), "--data", At("data")},
      {"train", "--model", kNano, "--data", At("data"), "--epochs", "1", "--out", At("gone")},
      {"fuse", "--run", At("small"), "--out", At("gone.safetensors")},
      {"data", "check", At("data")}};
  for (const std::vector<std::string>& command : commands) {
    int refused = 0;
    for (rlim_t limit = 40 * kMiB;; limit += limit / 14) {
      ASSERT_LT(limit, 8192 * kMiB) << command[0];
      const Outcome o = Graft(command, {.most_memory = limit});
      fs::remove_all(At("gone")), fs::remove(At("gone.safetensors"));
      if (o.code == 0) break;
      // With less, the system cannot even load the program.
      if (o.code == 127 || o.code >= 1000) {
        EXPECT_EQ(refused, 0) << command[0] << " ended by " << o.code << " at " << limit << o.err;
        continue;
      }
      ++refused;
      EXPECT_EQ(o.code, 1) << command[0] << " at " << limit << ": " << o.err;
      EXPECT_TRUE(o.err.find("graft: ") != std::string::npos ||
                  o.err.find("libgomp: ") != std::string::npos)
          << command[0] << " at " << limit << ": " << o.err;
    }
    EXPECT_GT(refused, 0) << command[0];
  }
}

TEST_F(Memory, ThreadsThatTheSystemRefuses) {
  if (!kMeasureMemory) GTEST_SKIP() << "sanitizers want more addresses than there are";
  const Outcome o = Graft({"eval", "--run", At("small"), "--data", At("data"), "--threads", "1000"},
                          {.most_memory = 2048 * kMiB});
  EXPECT_EQ(o.code, 1) << o.err;
  EXPECT_NE(o.err.find("graft: cannot start 1000 threads, the system gives "), std::string::npos)
      << o.err;
  EXPECT_NE(o.err.find("; hint: --threads "), std::string::npos) << o.err;
}

}  // namespace
}  // namespace graft::cli::cli_memory_test
