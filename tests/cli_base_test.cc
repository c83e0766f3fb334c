// A run whose base changes while it trains: nothing is saved that was trained on other weights than
// the run says.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <functional>

#include "runtime/io/safetensors.h"
#include "tests/cli_testing.h"

namespace graft::cli::cli_base_test {
namespace {

class Base : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(At("data"));
    ASSERT_EQ(Graft(TrainArgs(At("data"), At("first"), {"--limit", "16"})).code, 0);
    for (const char* model : {"file", "directory"})
      ASSERT_EQ(
          Graft({"export", "--run", At("first"), "--format",
                 model == std::string("file") ? "timm" : "hf", "--merged", "--out", At(model)})
              .code,
          0);
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static std::vector<std::string> Train(const std::string& model, const std::string& run,
                                        const std::string& method) {
    std::vector<std::string> args = TrainArgs(At("data"), At(run), {"--save-every", "1"});
    *(std::ranges::find(args, "--model") + 1) = model;
    *(std::ranges::find(args, "--method") + 1) = method;
    *(std::ranges::find(args, "--epochs") + 1) = method == "linear" ? "100" : "12";
    return args;
  }
  static TempDir* dir_;
};
TempDir* Base::dir_ = nullptr;

// Changes some of the last tensor's bytes; with `secretly` the time is put back.
void Overwrite(const std::string& file, bool secretly) {
  const auto time = fs::last_write_time(file);
  const int fd = open(file.c_str(), O_WRONLY);
  const std::string bytes(4000, 'x');
  ASSERT_EQ(pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(fs::file_size(file)) / 2),
            std::ssize(bytes));
  close(fd);
  if (secretly) fs::last_write_time(file, time);
}

TEST_F(Base, ThatChangesEndsTheRun) {
  struct Change {
    const char *name, *words;
    std::function<void(const std::string&)> make;
  };
  const Change changes[] = {
      {"overwritten", "the base has changed since the run began",
       [](const std::string& f) { Overwrite(f, false); }},
      {"overwritten_secretly", "the base has changed since the run began",
       [](const std::string& f) { Overwrite(f, true); }},
      {"cut", "base.safetensors", [](const std::string& f) { fs::resize_file(f, 4096); }}};
  for (const bool directory : {false, true})
    for (const std::string method : {"lora(r=2)", "linear"}) {
      const std::string model = At("model"), file = model + (directory ? "/model.safetensors" : "");
      const std::string original = At(directory ? "directory" : "file/model.safetensors");
      const auto restore = [&] {
        fs::remove_all(model);
        fs::copy(original, model, fs::copy_options::recursive);
      };
      restore();
      const std::string whole = fmt::format("whole_{}_{}", directory, method);
      ASSERT_EQ(Graft(Train(model, whole, method)).code, 0);
      for (const Change& change : changes) {
        const std::string run = fmt::format("{}_{}_{}", change.name, directory, method);
        Process process(Train(model, run, method), {.stop_at = At(run) + "/state.safetensors"});
        process.WaitUntilStopped();
        change.make(file);
        const std::string state = Slurp(At(run) + "/state.safetensors");
        process.Continue();
        const Outcome o = process.Wait();
        EXPECT_EQ(o.code, 1) << run << o.err;
        if (change.name != std::string("cut")) {
          EXPECT_NE(o.err.find(change.words), std::string::npos) << run << o.err;
        }
        EXPECT_NE(o.err.find(file), std::string::npos) << run << o.err;
        EXPECT_EQ(std::ranges::count(o.err, '\n'), 1) << o.err;
        // At most the save that was under way when the process was stopped.
        ExpectRefused({"train", "--resume", At(run)}, 1, "");
        restore();
        const Outcome resumed = Graft({"train", "--resume", At(run)});
        EXPECT_EQ(resumed.code, 0) << run << resumed.err;
        EXPECT_EQ(Slurp(At(run) + "/last.safetensors"), Slurp(At(whole) + "/last.safetensors"))
            << run;
      }
    }
}

// Whether the file gets another name, other permissions, or another file in its place: the weights
// are those that are mapped.
TEST_F(Base, ThatIsReplacedIsStillInUse) {
  const std::string model = At("kept.safetensors");
  fs::copy_file(At("file/model.safetensors"), model);
  ASSERT_EQ(Graft(Train(model, "kept_whole", "lora(r=2)")).code, 0);
  Process process(Train(model, "kept", "lora(r=2)"), {.stop_at = At("kept/state.safetensors")});
  process.WaitUntilStopped();
  fs::create_hard_link(model, At("another.safetensors"));
  Spill(At("other"), "another model");
  fs::rename(At("other"), model);
  process.Continue();
  const Outcome o = process.Wait();
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_EQ(Slurp(At("kept/last.safetensors")), Slurp(At("kept_whole/last.safetensors")));
  ExpectRefused({"eval", "--run", At("kept"), "--data", At("data")}, 1, "another base");
}

}  // namespace
}  // namespace graft::cli::cli_base_test
