// Runs that cannot begin, that begin twice, or whose surroundings are not what they were.
#include <nlohmann/json.hpp>

#include "runtime/io/npy.h"
#include "runtime/io/safetensors.h"
#include "tests/cli_testing.h"
#include "train/run_dir.h"

namespace graft::cli::cli_runs_test {
namespace {

class Runs : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(data());
    ASSERT_EQ(Graft(Train(At("run"))).code, 0);
    ASSERT_EQ(Graft({"fuse", "--run", At("run"), "--out", At("base.safetensors")}).code, 0);
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static std::string data() { return At("data"); }
  static std::vector<std::string> Train(const std::string& out,
                                        const std::vector<std::string>& more = {}) {
    return With(TrainArgs(data(), out, more), "--epochs", "1");
  }
  static std::vector<std::string> With(std::vector<std::string> args, const std::string& flag,
                                       const std::string& value) {
    *(std::ranges::find(args, flag) + 1) = value;
    return args;
  }
  static TempDir* dir_;
};
TempDir* Runs::dir_ = nullptr;

// The state is larger than the weights, so a disk that fills stops there first.
TEST_F(Runs, AFullDiskAtTheFirstCheckpointKeepsWhatIsWritten) {
  const size_t weights = fs::file_size(At("run/last.safetensors"));
  ASSERT_LT(weights + 100, fs::file_size(At("run/state.safetensors")));
  const Outcome o = Graft(Train(At("full")), {.most_file_bytes = weights + 100});
  EXPECT_EQ(o.code, 1) << o.err;
  EXPECT_TRUE(fs::exists(At("full/last.safetensors")));
  EXPECT_EQ(Graft({"eval", "--run", At("full"), "--data", data()}).code, 0);
  EXPECT_EQ(Graft({"train", "--resume", At("full")}).code, 0);
  EXPECT_EQ(Slurp(At("full/last.safetensors")), Slurp(At("run/last.safetensors")));
}

TEST_F(Runs, OnlyOneProcessBeginsInADirectory) {
  fs::create_directory(At("twice"));
  {
    const auto first = Directory::Open(At("twice"));
    ASSERT_TRUE(first->Lock());
    ExpectRefused(Train(At("twice")), 1, "another process is training in this run directory");
    EXPECT_TRUE(fs::is_empty(At("twice")));
  }
  EXPECT_EQ(Graft(Train(At("twice"))).code, 0);
}

// A run that is moved while it trains ends where it went, and another one of its name is its own.
TEST_F(Runs, AMovedRunWritesIntoNoOtherOfItsName) {
  const auto args = [&](const std::string& out, const std::string& epochs) {
    return With(Train(At(out), {"--save-every", "1"}), "--epochs", epochs);
  };
  Process process(args("here", "100000"), {.stop_at = At("here/state.safetensors")});
  process.WaitUntilStopped();
  fs::rename(At("here"), At("there"));
  ASSERT_EQ(Graft(Train(At("here"))).code, 0);
  const auto contents = [&](const std::string& run) {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::directory_iterator(run))
      files[entry.path().filename()] = Slurp(entry.path());
    return files;
  };
  const auto before = contents(At("here"));
  process.Signal(SIGCONT);
  const Outcome o = process.Wait();
  EXPECT_EQ(o.code, 1);
  EXPECT_NE(o.err.find("here: the run directory was moved while it trained; the run ends, with its "
                       "state in " +
                       fs::canonical(At("there")).string()),
            std::string::npos)
      << o.err;
  EXPECT_EQ(contents(At("here")), before);
  // What was removed is not made again.
  Process removed(args("gone", "100000"), {.stop_at = At("gone/state.safetensors")});
  removed.WaitUntilStopped();
  fs::remove_all(At("gone"));
  removed.Continue();
  const Outcome end = removed.Wait();
  EXPECT_EQ(end.code, 1);
  EXPECT_NE(end.err.find("gone: the run directory was removed while it trained"), std::string::npos)
      << end.err;
  EXPECT_FALSE(fs::exists(At("gone")));
  // So does rm -r where it meets a file that has just been written.
  Process emptied(args("emptied", "300"), {.stop_at = At("emptied/state.safetensors")});
  emptied.WaitUntilStopped();
  for (const auto& entry : fs::directory_iterator(At("emptied"))) fs::remove(entry.path());
  emptied.Continue();
  const Outcome alone = emptied.Wait();
  EXPECT_EQ(alone.code, 1);
  EXPECT_NE(alone.err.find("emptied: config.json was removed while it trained"), std::string::npos)
      << alone.err;
  // A trace goes along.
  std::vector<std::string> traced = args("traced", "100");
  traced.insert(traced.end(), {"--trace", At("trace_here")});
  Process tracing(traced, {.stop_at = At("traced/state.safetensors")});
  tracing.WaitUntilStopped();
  ASSERT_FALSE(fs::exists(At("trace_here/final.safetensors")));
  fs::rename(At("trace_here"), At("trace_there"));
  fs::create_directory(At("trace_here"));
  tracing.Continue();
  EXPECT_EQ(tracing.Wait().code, 0);
  EXPECT_TRUE(fs::is_empty(At("trace_here")));
  for (const char* file : {"init.safetensors", "batches.npz", "loss.jsonl", "final.safetensors"})
    EXPECT_TRUE(fs::exists(At("trace_there/") + file)) << file;
}

TEST_F(Runs, ARunThatCannotBeginBlocksNoName) {
  ExpectRefused(Train(At("late"), {"--trace", At("trace"), "--memory-budget", "1KiB"}), 1,
                "the smallest possible is");
  EXPECT_FALSE(fs::exists(At("late")));
  EXPECT_EQ(Graft(Train(At("late"), {"--trace", At("trace")})).code, 0);
  EXPECT_TRUE(fs::exists(At("trace/final.safetensors")));
  ExpectRefused(Train(At("one"), {"--trace", At("./one")}), 2, "is --out too");
  ExpectRefused(Train(At("in"), {"--trace", At("in/trace"), "--memory-budget", "1KiB"}), 1,
                "the smallest possible is");
  EXPECT_FALSE(fs::exists(At("in")));
}

// Whatever first layers are frozen, whose features are kept only if they fit.
TEST_F(Runs, TheSmallestBudgetSuffices) {
  for (const char* method : {"linear", "last(k=1)", "full"})
    for (const char* split : {"val200", "none"}) {
      const auto train = [&](const std::string& budget) {
        return Graft(With(Train(At("budget"), {"--memory-budget", budget, "--val-split", split,
                                               "--train-split", "train800"}),
                          "--method", method));
      };
      const Outcome o = train("1KiB");
      ASSERT_EQ(o.code, 1) << o.err;
      const std::string words = "the smallest possible is ";
      const size_t at = o.err.find(words) + words.size();
      const std::string smallest = o.err.substr(at, o.err.find(' ', at) - at);
      const Outcome fits = train(smallest);
      EXPECT_EQ(fits.code, 0) << method << " " << smallest << ": " << fits.err;
      fs::remove_all(At("budget"));
    }
}

TEST_F(Runs, LostWeightsAreMadeAgainFromTheState) {
  fs::copy(At("run"), At("lost"));
  fs::remove(At("lost/last.safetensors"));
  EXPECT_EQ(Graft({"train", "--resume", At("lost")}).code, 0);
  EXPECT_EQ(Slurp(At("lost/last.safetensors")), Slurp(At("run/last.safetensors")));
}

TEST_F(Runs, OtherClassesAreNotResumedOn) {
  fs::copy(data(), At("moving"), fs::copy_options::recursive);
  ASSERT_EQ(Graft(With(Train(At("renamed")), "--data", At("moving"))).code, 0);
  fs::remove(At("renamed/state.safetensors"));
  const std::string names = Slurp(At("moving/classes.txt"));
  const size_t line = names.find('\n') + 1, next = names.find('\n', line) + 1;
  Spill(At("moving/classes.txt"),
        names.substr(line, next - line) + names.substr(0, line) + names.substr(next));
  ExpectRefused({"train", "--resume", At("renamed")}, 1, "have changed since");
}

TEST_F(Runs, AnySeedIsReadBack) {
  for (const char* seed : {"-5", "4000000000000000000"}) {
    ASSERT_EQ(Graft(Train(At("seeded"), {"--seed", seed})).code, 0);
    ASSERT_EQ(
        Graft({"export", "--run", At("seeded"), "--format", "graft", "--out", At("adapter")}).code,
        0);
    EXPECT_EQ(
        GraftJson({"eval", "--model", kNano, "--adapter", At("adapter"), "--data", data()})["loss"],
        GraftJson({"eval", "--run", At("seeded"), "--data", data()})["loss"]);
    fs::remove_all(At("seeded"));
    fs::remove_all(At("adapter"));
  }
}

TEST_F(Runs, AConfigThatChangedUnderTheRunIsNoticed) {
  ASSERT_EQ(
      Graft({"export", "--model", At("base.safetensors"), "--format", "hf", "--out", At("hf")})
          .code,
      0);
  ASSERT_EQ(Graft(With(Train(At("of_hf")), "--model", At("hf"))).code, 0);
  ASSERT_EQ(Graft({"eval", "--run", At("of_hf"), "--data", data()}).code, 0);
  nlohmann::json config = nlohmann::json::parse(Slurp(At("hf/config.json")));
  config["layer_norm_eps"] = 1e-3;
  Spill(At("hf/config.json"), config.dump());
  ExpectRefused({"eval", "--run", At("of_hf"), "--data", data()}, 1, "SHA-256");
}

// A head of fewer rows than its names would be trained beyond its end.
TEST_F(Runs, NamesOfOtherClassesThanTheHeadsAreRefused) {
  const SafetensorsFile good = SafetensorsFile::Open(At("base.safetensors"));
  std::vector<TensorToWrite> tensors;
  for (const FileTensor& t : good.tensors()) {
    tensors.push_back({t.name, t.dtype, t.shape, good.bytes(t)});
    if (!t.name.starts_with("head.")) continue;
    const size_t row = good.bytes(t).size() / static_cast<size_t>(t.shape[0]);
    tensors.back().shape[0] -= 1;
    tensors.back().bytes = good.bytes(t).first(good.bytes(t).size() - row);
  }
  StringMap metadata = good.metadata();
  nlohmann::json config = nlohmann::json::parse(metadata.at("graft.config"));
  config["classes"] = config["classes"].get<int>() - 1;
  metadata["graft.config"] = config.dump();
  WriteSafetensors(At("short.safetensors"), tensors, metadata);
  ExpectRefused(With(Train(At("short")), "--model", At("short.safetensors")), 1,
                "graft.labels): 8 names, but the classifier has 7 classes");
}

TEST_F(Runs, MergedModelsHaveNamesThatAreRead) {
  const std::vector<std::string> fuse{"fuse", "--run", At("run"), "--out", "?"};
  ExpectRefused(With(fuse, "--out", At("m.bin")), 2, "is not that of a pickle");
  ASSERT_EQ(
      Graft(With(Train(At("npz_run"),
                       {"--preprocess",
                        "resize=24,crop=16,filter=bilinear,mean=0.5|0.5|0.5,std=0.5|0.5|0.5"}),
                 "--model", kFixtures + "tiny_vit.npz"))
          .code,
      0);
  ExpectRefused({"fuse", "--run", At("npz_run"), "--out", At("m.npz"), "--keep-base"}, 2,
                "--keep-base: expected a safetensors base");
  EXPECT_FALSE(fs::exists(At("m.npz")));
}

// Shell quotes in what is suggested.
TEST_F(Runs, SuggestionsCanBeCopied) {
  const Outcome o = Graft(Train(At("a run's")));
  EXPECT_EQ(o.code, 0);
  EXPECT_NE(o.out.find("--run '" + At("a run'\\''s") + "'"), std::string::npos) << o.out;
}

// Half of a data set must not vanish because of its format.
TEST_F(Runs, ImagesOfOtherFormatsAreNamed) {
  const fs::path root = At("folders");
  for (const char* name : {"a", "b"}) {
    fs::create_directories(root / name);
    for (const char* image : {"000000.png", "000001.png"})
      fs::copy_file(At("data/images/train800/") + image, root / name / (std::string(name) + image));
  }
  Spill(root / "a/photo.heic", "RIFF");
  const std::string words = "1 image of a format that is not read is left out";
  const Outcome o = Graft(With(Train(At("of_folders"), {"--val-split", "none"}), "--data", root));
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_NE(o.out.find(words), std::string::npos) << o.out << o.err;
  const Outcome check = Graft({"data", "check", root, "--json"});
  EXPECT_EQ(check.code, 1);
  EXPECT_EQ(check.json()["left_out"][0], (root / "a/photo.heic").string());
}

}  // namespace
}  // namespace graft::cli::cli_runs_test
