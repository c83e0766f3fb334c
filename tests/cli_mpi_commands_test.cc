// Tests the other commands under mpirun: a search that processes share, and what the first of them
// does alone.
#include <algorithm>

#include "tests/cli_mistakes_testing.h"
#include "tests/cli_mpi_testing.h"

namespace graft::cli::cli_mpi_commands_test {
namespace {

class MpiCommands : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(At("data"));
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static Words Search(const std::string& out, const Words& more = {}) {
    return WithOptions(
        {"search", "--model",       kNano, "--data",       At("data"), "--space",
         "glora",  "--ranks",       "4,2", "--epochs",     "2",        "--batch-size",
         "16",     "--micro-batch", "4",   "--population", "4",        "--generations",
         "2",      "--mutations",   "2",   "--crossovers", "1",        "--top",
         "2",      "--threads",     "1",   "--out",        At(out)},
        more);
  }
  static void ExpectSameSearch(const std::string& run, const std::string& other) {
    for (const char* file :
         {"METHOD", "candidates.jsonl", "candidates.json", "supernet.safetensors", "supernet.jsonl",
          "best.safetensors", "last.safetensors"})
      EXPECT_EQ(Slurp(At(run) + "/" + file), Slurp(At(other) + "/" + file)) << run << " " << file;
  }
  static TempDir* dir_;
};
TempDir* MpiCommands::dir_ = nullptr;

TEST_F(MpiCommands, ASearchIsSharedAndGivesTheSameBytes) {
  const nlohmann::json one = GraftJson(Search("one"));
  EXPECT_EQ(one["processes"], 1);
  for (const int processes : {2, 3}) {
    const UnderMpi mpi(processes);
    const std::string run = fmt::format("search{}", processes);
    const nlohmann::json json = GraftJson(Search(run));
    EXPECT_EQ(json["processes"], processes);
    EXPECT_EQ(json["shared_work"], one["shared_work"]);
    ExpectSameSearch(run, "one");
  }
  {  // killed while it measures, and gone on with by another number
    const UnderMpi mpi(2);
    const Outcome o = SignalSecondAt(Search("killed", {"--save-every", "1"}), At("killed"),
                                     "candidates.jsonl", SIGKILL);
    EXPECT_NE(o.code, 0);
    EXPECT_FALSE(fs::exists(At("killed") + "/METHOD"));
  }
  const UnderMpi mpi(3);
  const nlohmann::json json = GraftJson({"search", "--resume", At("killed"), "--threads", "1"});
  EXPECT_EQ(json["method"], one["method"]);
  ExpectSameSearch("killed", "one");
  // One that has ended says the same again.
  EXPECT_EQ(GraftJson({"search", "--resume", At("killed")})["val_loss"], one["val_loss"]);
}

TEST_F(MpiCommands, AnInterruptedSearchIsSaved) {
  {
    const UnderMpi mpi(2);
    // Any of them stops all.
    const Outcome o = SignalSecondAt(Search("stopped", {"--save-every", "1", "--epochs", "40"}),
                                     At("stopped"), "supernet.safetensors", SIGTERM);
    EXPECT_EQ(o.code, 130);
    EXPECT_NE(o.err.find("graft search --resume"), o.err.npos) << o.err;
  }
  EXPECT_EQ(GraftJson({"search", "--resume", At("stopped")})["evaluated"], 12);
}

TEST_F(MpiCommands, AMistakeOfASearchIsToldOnceAndLeavesNothing) {
  const UnderMpi mpi(2);
  struct {
    Words more;
    int code;
    const char* words;
  } const kCases[] = {{{"--ranks", "x"}, 2, "--ranks 'x'"},
                      {{"--max-params", "x"}, 2, "--max-params"},
                      {{"--data", At("none")}, 1, "none"}};
  for (const auto& [more, code, words] : kCases) {
    const Outcome o = Graft(Search("mistake", more));
    EXPECT_EQ(o.code, code) << o.err;
    const size_t told = o.err.find("graft: ");
    ASSERT_NE(told, o.err.npos) << o.err;
    EXPECT_EQ(o.err.find("graft: ", told + 1), o.err.npos) << o.err;
    EXPECT_NE(o.err.find(words), o.err.npos) << o.err;
    EXPECT_FALSE(fs::exists(At("mistake")));
  }
}

// What each process would do again, and write to the same place, the first does alone.
TEST_F(MpiCommands, OtherCommandsAreOfTheFirstProcess) {
  ASSERT_EQ(Graft(WithOptions(TrainArgs(At("data"), At("run")), {"--epochs", "1"})).code, 0);
  const UnderMpi mpi(3);
  const Words kCommands[] = {
      {"data", "make", "shapes", "--out", At("shapes"), "--size", "16", "--train", "8", "--val",
       "8", "--test", "8"},
      {"data", "split", At("data"), "--holdout", "0.2", "--out", At("lists")},
      {"data", "check", At("data")},
      {"eval", "--run", At("run"), "--data", At("data")},
      {"fuse", "--run", At("run"), "--out", At("fused.safetensors")},
      {"export", "--run", At("run"), "--format", "hf-peft", "--out", At("peft")},
      {"inspect", At("run")},
      {"runs", dir_->path()},
      {"models"}};
  for (Words words : kCommands) {
    SCOPED_TRACE(words[0]);
    words.push_back("--json");
    const Outcome o = Graft(words);
    EXPECT_EQ(o.code, 0) << o.err;
    EXPECT_TRUE(nlohmann::json::accept(o.out)) << o.out;
    const std::string note = "note: 3 processes were started; the first alone runs " + words[0];
    EXPECT_NE(o.err.find(note), o.err.npos) << o.err;
    EXPECT_EQ(o.err.find(note), o.err.rfind(note)) << o.err;
  }
  // What fails, fails once.
  const Outcome again =
      Graft({"data", "split", At("data"), "--holdout", "0.2", "--out", At("lists")});
  EXPECT_EQ(again.code, 1);
  const size_t told = again.err.find("graft: ");
  ASSERT_NE(told, again.err.npos) << again.err;
  EXPECT_EQ(again.err.find("graft: ", told + 1), again.err.npos) << again.err;
}

// Processes that a script starts may have words of their own.
TEST_F(MpiCommands, AScriptStartsEachForItself) {
  dir_->Write("each.sh", fmt::format("#!/bin/sh\nexec '{}' data make shapes --out {}/$1-"
                                     "$OMPI_COMM_WORLD_RANK --size 16 --train 8 --val 8 --test 8\n",
                                     Binary(), dir_->path().string()));
  fs::permissions(At("each.sh"), fs::perms::owner_all);
  const UnderMpi mpi(2, At("each.sh"));
  const Outcome o = Graft({"part"});
  EXPECT_EQ(o.code, 0) << o.err;
  for (const char* part : {"part-0", "part-1"}) EXPECT_TRUE(fs::exists(At(part))) << part;
}

}  // namespace
}  // namespace graft::cli::cli_mpi_commands_test
