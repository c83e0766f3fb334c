// What a command reads it never overwrites, whatever it reads and by whatever name it is given; and
// of directories that it makes there is the whole or nothing.
#include <algorithm>
#include <map>

#include "tests/cli_testing.h"

namespace graft::cli::cli_overwrite_test {
namespace {

class Overwrite : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(At("data"));
    ASSERT_EQ(Graft(Train(kNano, "first")).code, 0);
    ASSERT_EQ(Graft({"fuse", "--run", At("first"), "--out", At("base.safetensors")}).code, 0);
    ASSERT_EQ(Graft(Train(At("base.safetensors"), "run")).code, 0);
    const std::vector<std::vector<std::string>> made{
        {"fuse", "--run", At("run"), "--out", At("fused.safetensors"), "--keep-base"},
        {"export", "--run", At("run"), "--format", "hf", "--merged", "--out", At("hf")},
        {"export", "--run", At("run"), "--format", "hf-peft", "--out", At("peft")},
        {"export", "--run", At("run"), "--format", "graft", "--out", At("adapter")}};
    for (const auto& args : made) ASSERT_EQ(Graft(args).code, 0);
    fs::copy_file(kVocabulary, At("vocab.txt"));
    fs::create_directory(At("texts"));
    Spill(At("texts/labels.txt"), "odd\neven\n");
    Spill(At("texts/train.tsv"), "a b\t0\nc d\t1\ne f\t0\ng h\t1\n");
    Spill(At("texts/dev.tsv"), "i j\t0\nk l\t1\n");
    ASSERT_EQ(
        Graft({"train", "--model", kNanoBert, "--tokenizer", At("vocab.txt"), "--data", At("texts"),
               "--method", "lora(r=2)", "--epochs", "1", "--out", At("text_run")})
            .code,
        0);
    // The logits of several adapters go into .npz only.
    fs::create_hard_link(At("adapter/adapter.safetensors"), At("adapter.npz"));
    fs::create_hard_link(At("run/best.safetensors"), At("run.npz"));
    fs::create_hard_link(At("peft/adapter_model.safetensors"), At("peft.npz"));
    Spill(At("lines.txt"), "a b\nc d\n");
    Spill(At("peft/README.md"), "mine"), Spill(At("hf/notes.txt"), "mine");
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static std::vector<std::string> Train(const std::string& model, const std::string& out) {
    std::vector<std::string> args = TrainArgs(At("data"), At(out));
    *(std::ranges::find(args, "--model") + 1) = model;
    *(std::ranges::find(args, "--epochs") + 1) = "1";
    return args;
  }
  static std::map<std::string, std::string> AllFiles() {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(dir_->path()))
      files[entry.path().string()] = entry.is_regular_file() ? Slurp(entry.path()) : "";
    return files;
  }
  static TempDir* dir_;
};
TempDir* Overwrite::dir_ = nullptr;

using Words = std::vector<std::string>;
struct Row {
  Words command;  // '@' stands for the folder; the name of the target comes behind
  Words targets;
};
const char* kImage = "@data/images/test/000000.png";

const Row kRows[] = {
    {{"predict", "--run", "@run", kImage, "--logits"},
     {"base.safetensors", "run/last.safetensors", "run/best.safetensors", "run/config.json",
      "run/metrics.jsonl", "data/images/test/000000.png"}},
    {{"predict", "--model", "@hf", kImage, "--logits"},
     {"hf/model.safetensors", "hf/config.json", "hf/notes.txt"}},
    {{"predict", "--model", "@base.safetensors", "--adapter", "@peft", kImage, "--logits"},
     {"base.safetensors", "peft/adapter_model.safetensors", "peft/adapter_config.json",
      "peft/README.md"}},
    {{"predict", "--model", "@base.safetensors", "--adapter", "@adapter", "--adapter", "@run",
      "--adapter", "@peft", kImage, "--logits"},
     {"adapter.npz", "run.npz", "peft.npz"}},
    {{"predict", "--run", "@text_run", "@lines.txt", "--logits"},
     {"vocab.txt", "lines.txt", "text_run/last.safetensors"}},
    {{"inspect", "@run", "--graph", "svg", "--out"},
     {"base.safetensors", "run/config.json", "run/plan.json"}},
    {{"inspect", "@hf", "--graph", "text", "--out"}, {"hf/model.safetensors", "hf/config.json"}},
    {{"inspect", "@base.safetensors", "--graph", "dot", "--out"}, {"base.safetensors"}},
    {{"fuse", "--run", "@run", "--out"},
     {"base.safetensors", "run/last.safetensors", "run/plan.json", "data/classes.txt",
      "data/train800.txt", "data/val200.txt"}},
    {{"fuse", "--run", "@run", "--keep-base", "--out"}, {"base.safetensors"}},
    {{"fuse", "--model", "@base.safetensors", "--adapter", "@peft", "--data", "@data", "--out"},
     {"base.safetensors", "peft/adapter_model.safetensors", "peft/README.md", "data/test.txt"}},
    {{"fuse", "--undo", "@fused.safetensors", "--out"},
     {"fused.safetensors", "fused.base.safetensors"}},
    {{"fuse", "--model", "@hf", "--adapter", "@run", "--out"}, {"hf"}},
    {{"export", "--model", "@hf", "--format", "timm", "--out"}, {"hf"}},
    {{"export", "--model", "@base.safetensors", "--adapter", "@peft", "--format", "graft", "--out"},
     {"peft"}},
};

TEST_F(Overwrite, NothingThatIsRead) {
  const auto before = AllFiles();
  for (const Row& row : kRows)
    for (const std::string& target : row.targets) {
      Words args = row.command;
      args.push_back("@" + target);
      if (args[0] != "export") args.push_back("--force");  // which allows none of it
      std::string shown;
      for (std::string& arg : args) {
        shown += arg + " ";
        if (arg.starts_with('@')) arg = At(arg.substr(1));
      }
      const Outcome o = Graft(args);
      EXPECT_EQ(o.code, shown.find("@hf --adapter @run") == shown.npos ? 2 : 1) << shown << o.err;
      if (o.code == 2) {
        EXPECT_NE(o.err.find("would overwrite"), std::string::npos) << shown << o.err;
      }
    }
  EXPECT_TRUE(before == AllFiles());
}

// Each command that writes is given its base under other names.
TEST_F(Overwrite, ByOtherNames) {
  fs::create_symlink(At("base.safetensors"), At("link.npz"));
  fs::create_hard_link(At("base.safetensors"), At("hard.npz"));
  fs::create_directory_symlink(dir_->path(), At("folder"));
  const auto before = Slurp(At("base.safetensors"));
  for (const std::string name : {"link.npz", "hard.npz", "folder/base.safetensors",
                                 "./run/../"
                                 "base."
                                 "safetensors"})
    for (Words args : {Words{"predict", "--run", At("run"), At("data/images/test/000000.png"),
                             "--logits", At(name)},
                       Words{"inspect", At("run"), "--graph", "svg", "--out", At(name)},
                       Words{"fuse", "--run", At("run"), "--out", At(name)}}) {
      const bool named = args[0] == "fuse" && name.ends_with(".npz");  // for a safetensors base
      ExpectRefused(args, 2, named ? "" : "would overwrite");
    }
  EXPECT_EQ(Slurp(At("base.safetensors")), before);
  for (const char* name : {"link.npz", "hard.npz", "folder"}) {
    EXPECT_TRUE(fs::exists(At(name)));
    fs::remove(At(name));
  }
}

// Directories that hold anything are never written to.
TEST_F(Overwrite, NoDirectoryThatHoldsAnything) {
  const auto before = AllFiles();
  for (const std::string out : {"hf", "data", "run", "peft", "texts"}) {
    Words traced = Train(At("base.safetensors"), "fresh_run");
    traced.insert(traced.end(), {"--trace", At(out)});
    for (const Words& args :
         {Train(At("hf"), out), traced, Words{"data", "make", "shapes", "--out", At(out)},
          Words{"export", "--run", At("run"), "--format", "graft", "--out", At(out)}}) {
      const Outcome o = Graft(args);
      EXPECT_NE(o.code, 0) << args[0] << " " << out;
    }
  }
  EXPECT_TRUE(before == AllFiles());
}

// A run goes on in its own directory, and a command writes its result again if it is told to.
TEST_F(Overwrite, ItsOwnResultsAgain) {
  SignalAt(Train(At("base.safetensors"), "stopped"), At("stopped/plan.json"), SIGKILL);
  EXPECT_EQ(Graft({"train", "--resume", At("stopped")}).code, 0);
  EXPECT_EQ(Slurp(At("stopped/last.safetensors")), Slurp(At("run/last.safetensors")));
  const Words commands[] = {
      {"fuse", "--run", At("run"), "--keep-base", "--out", At("again.safetensors")},
      {"predict", "--run", At("run"), At("data/images/test/000000.png"), "--logits",
       At("again.npy")},
      {"inspect", At("run"), "--graph", "svg", "--out", At("again.svg")}};
  for (Words args : commands) {
    EXPECT_EQ(Graft(args).code, 0);
    const std::string written = Slurp(args.back());
    ExpectRefused(args, 1, args.back() + ": the file exists; choose another name, or --force");
    EXPECT_EQ(Slurp(args.back()), written);
    args.push_back("--force");
    EXPECT_EQ(Graft(args).code, 0) << args[0];
    EXPECT_EQ(Slurp(args[args.size() - 2]), written);
  }
}

struct Maker {
  Words command;
  Words files;  // of the result
};
const Maker kMakers[] = {
    {{"data", "make", "shapes", "--train", "64", "--val", "16", "--test", "16"},
     {"train800.txt", "classes.txt", "images"}},
    {{"export", "--run", "@run", "--format", "hf", "--merged"},
     {"config.json", "model.safetensors", "preprocessor_config.json"}},
    {{"export", "--run", "@run", "--format", "hf-peft"},
     {"adapter_config.json", "adapter_model.safetensors"}},
    {{"fuse", "--model", "@hf", "--adapter", "@of_hf", "--keep-base"},
     {"config.json", "model.safetensors", "base.safetensors"}}};

class WholeOrNothing : public Overwrite, public ::testing::WithParamInterface<size_t> {
 protected:
  static void SetUpTestSuite() {
    Overwrite::SetUpTestSuite();
    ASSERT_EQ(Graft(Train(At("hf"), "of_hf")).code, 0);
  }
  static Words Args(const std::string& out) {
    Words args = kMakers[GetParam()].command;
    for (std::string& arg : args)
      if (arg.starts_with('@')) arg = At(arg.substr(1));
    args.insert(args.end(), {"--out", At(out)});
    return args;
  }
  static void ExpectWhole(const std::string& out) {
    for (const std::string& file : kMakers[GetParam()].files)
      EXPECT_TRUE(fs::exists(At(out) + "/" + file)) << file;
    for (const auto& entry : fs::directory_iterator(At(out)))
      EXPECT_FALSE(entry.path().filename().string().starts_with(".")) << entry;
  }
  // What is there while it writes into a directory of this name.
  static std::string Temporary(const std::string& out, bool exists) {
    return At(exists ? out + "/.files.graft-tmp" : "." + out + ".graft-tmp");
  }
};

TEST_P(WholeOrNothing, AFullDiskLeavesNothing) {
  for (const bool exists : {false, true}) {
    const std::string out = exists ? "full_exists" : "full/deep/out";
    if (exists) fs::create_directory(At(out));
    EXPECT_EQ(Graft(Args(out), {.most_file_bytes = 200}).code, 1);
    EXPECT_EQ(fs::exists(At(out)), exists);
    EXPECT_FALSE(fs::exists(At("full")));
    EXPECT_EQ(Graft(Args(out)).code, 0);
    ExpectWhole(out);
    fs::remove_all(At("full")), fs::remove_all(At("full_exists"));
  }
}

TEST_P(WholeOrNothing, TwoAtOnceDoNotDisturbEachOther) {
  for (const bool exists : {false, true}) {
    if (exists) fs::create_directory(At("both"));
    Process first(Args("both"), {.stop_at = Temporary("both", exists)});
    first.WaitUntilStopped();
    // The first may have been stopped before it held its lock: then the second is the writer.
    const Outcome second = Graft(Args("both"));
    first.Continue();
    const Outcome later = first.Wait();
    EXPECT_EQ(later.code + second.code, 1) << later.err << second.err;
    if (second.code == 1) {
      EXPECT_NE(second.err.find("another process is writing"), std::string::npos) << second.err;
    }
    ExpectWhole("both");
    EXPECT_NE(Graft(Args("both")).code, 0);  // it is there
    ExpectWhole("both");
    fs::remove_all(At("both"));
  }
}

// The other way round, what a failing command removes is its own.
TEST_P(WholeOrNothing, AFailureRemovesNoOtherResult) {
  Process first(Args("late"), {.most_file_bytes = 200, .stop_at = Temporary("late", false)});
  first.WaitUntilStopped();
  fs::create_directory(At("late"));
  Spill(At("late/theirs"), "x");
  first.Continue();
  EXPECT_EQ(first.Wait().code, 1);
  EXPECT_EQ(Slurp(At("late/theirs")), "x");
  EXPECT_FALSE(fs::exists(At(".late.graft-tmp")));
  fs::remove_all(At("late"));
}

TEST_P(WholeOrNothing, AKillBlocksNoName) {
  for (const bool exists : {false, true}) {
    if (exists) fs::create_directory(At("killed"));
    SignalAt(Args("killed"), Temporary("killed", exists), SIGKILL);
    EXPECT_TRUE(fs::exists(Temporary("killed", exists)));
    EXPECT_FALSE(fs::exists(At("killed/") + kMakers[GetParam()].files[0]));
    const Outcome o = Graft(Args("killed"));
    EXPECT_EQ(o.code, 0) << o.err;
    ExpectWhole("killed");
    EXPECT_FALSE(fs::exists(Temporary("killed", exists)));
    fs::remove_all(At("killed"));
  }
}

INSTANTIATE_TEST_SUITE_P(Makers, WholeOrNothing, ::testing::Range(size_t{0}, std::size(kMakers)));

// What a kill in the middle of the first write leaves.
TEST_F(Overwrite, AHalfWrittenConfigBlocksNoRun) {
  fs::create_directory(At("unborn"));
  Spill(At("unborn/.config.json.graft-tmp"), "{\"da");
  EXPECT_EQ(Graft(Train(At("base.safetensors"), "unborn")).code, 0);
  EXPECT_TRUE(fs::exists(At("unborn/last.safetensors")));
}

}  // namespace
}  // namespace graft::cli::cli_overwrite_test
