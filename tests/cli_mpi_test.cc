// Tests graft train under mpirun: it gives the bytes of one process, whatever their number; and
// errors, kills and resumes.
#include <algorithm>

#include "tests/cli_mpi_testing.h"

namespace graft::cli::cli_mpi_test {
namespace {

// Texts of 3 to 12 letters, in a table with their classes and without.
void WriteTexts(const std::string& table, const std::string& plain, int n, uint32_t seed) {
  std::string rows, lines;
  const auto draw = [&](uint32_t most) {
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 16) % most;
  };
  for (int i = 0; i < n; ++i) {
    std::string text(1, static_cast<char>('a' + draw(26)));
    for (uint32_t k = 2 + draw(10); k > 0; --k) text += {' ', static_cast<char>('a' + draw(26))};
    rows += fmt::format("{}\t{}\n", text, draw(2)), lines += text + "\n";
  }
  Spill(table, rows), Spill(plain, lines);
}

class Mpi : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(At("images"));
    fs::create_directory(At("texts")), fs::create_directory(At("corpus"));
    WriteTexts(At("texts/train.tsv"), At("corpus/a.txt"), 45, 1);
    WriteTexts(At("texts/dev.tsv"), At("corpus/val.txt"), 11, 2);
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static std::vector<std::string> Text(const std::string& data) {
    return {"--model",  kNanoBert, "--tokenizer", kVocabulary, "--data",       At(data),
            "--epochs", "2",       "--limit",     "42",        "--max-length", "24"};
  }
  static std::vector<std::string> Args(const std::string& run, std::vector<std::string> more) {
    std::vector<std::string> args{"train", "--out", At(run), "--threads", "1"};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  static std::vector<std::string> Image(const std::vector<std::string>& more = {}) {
    std::vector<std::string> args{"--model", kNano,     "--data", At("images"),   "--epochs",
                                  "2",       "--limit", "42",     "--batch-size", "16"};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  static void ExpectEqualRuns(const std::string& run, const std::string& other) {
    for (const char* file : {"last.safetensors", "best.safetensors", "plan.json"})
      EXPECT_EQ(Slurp(At(run) + "/" + file), Slurp(At(other) + "/" + file)) << run << " " << file;
    // The header of the state has the seconds that it took.
    const auto tensors = [](const std::string& path) {
      const std::string state = Slurp(path + "/state.safetensors");
      uint64_t header = 0;
      std::memcpy(&header, state.data(), sizeof header);
      return state.substr(sizeof header + header);
    };
    EXPECT_EQ(tensors(At(run)), tensors(At(other))) << run;
    const auto lines = [](const std::string& path) {
      std::vector<nlohmann::json> all;
      std::istringstream text(Slurp(path + "/metrics.jsonl"));
      for (std::string line; std::getline(text, line);)
        all.push_back(nlohmann::json::parse(line)), all.back().erase("seconds");
      return all;
    };
    EXPECT_EQ(lines(At(run)), lines(At(other))) << run;
  }
  static TempDir* dir_;
};
TempDir* Mpi::dir_ = nullptr;

struct Equal {
  const char* name;
  const char* data;
  std::vector<std::string> options;
};
const Equal kEqual[] = {
    {"lora", "images", {"--method", "lora(r=2,dropout=0.2)", "--drop-path", "0.1"}},
    {"micro",
     "images",
     {"--method", "lora(r=2,dropout=0.2)", "--micro-batch", "3", "--clip", "0.1"}},
    {"full",
     "images",
     {"--method", "full", "--label-smoothing", "0.1", "--class-weights", "balanced"}},
    {"augmented", "images", {"--method", "ssf", "--augment", "flip,crop=0.8"}},
    {"lanes", "images", {"--method", "full", "--lanes", "3", "--micro-batch", "2"}},
    {"linear", "images", {"--method", "linear"}},  // of features that are kept
    {"child", "images", {"--method", "childtuning(mode=d,p=0.3)"}},
    {"budget", "images", {"--method", "full", "--memory-budget", "24MiB"}},
    {"texts", "texts", {"--method", "lora(r=2,dropout=0.2)"}},
    {"micro_texts", "texts", {"--method", "full", "--micro-batch", "3"}},
    {"masked", "corpus", {"--objective", "mlm"}},
};

class EqualBytes : public Mpi, public ::testing::WithParamInterface<Equal> {};

TEST_P(EqualBytes, AtAnyNumberOfProcesses) {
  const Equal& e = GetParam();
  const std::string name = e.name;
  std::vector<std::string> options = e.data == std::string("images") ? Image() : Text(e.data);
  options.insert(options.end(), e.options.begin(), e.options.end());
  const Outcome one = Graft(Args(name + "1", options));
  ASSERT_EQ(one.code, 0) << one.err;
  for (const int processes : {2, 3}) {
    const UnderMpi mpi(processes);
    const std::string run = fmt::format("{}{}", name, processes);
    const Outcome o = Graft(Args(run, options));
    ASSERT_EQ(o.code, 0) << o.err;
    EXPECT_NE(o.out.find(fmt::format("{} processes share each batch", processes)), o.out.npos);
    EXPECT_EQ(o.out.find("done: "), o.out.rfind("done: ")) << o.out;  // the first alone tells
    ExpectEqualRuns(run, name + "1");
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, EqualBytes, ::testing::ValuesIn(kEqual),
                         [](const auto& info) { return std::string(info.param.name); });

// What decides the bits is the run's, and no number of threads or processes.
TEST_F(Mpi, LanesAreThoseThatWereAskedFor) {
  const std::vector<std::string> options = Image({"--method", "full", "--lanes", "5"});
  ASSERT_EQ(Graft(Args("five", options)).code, 0);
  EXPECT_EQ(nlohmann::json::parse(Slurp(At("five/plan.json")))["lanes"], 5);
  std::vector<std::string> two = Args("two", options);
  *(std::ranges::find(two, "--threads") + 1) = "2";
  ASSERT_EQ(Graft(two).code, 0);
  ExpectEqualRuns("two", "five");
  ExpectRefused(Args("many", Image({"--method", "full", "--lanes", "2000"})), 2, "lanes");
  EXPECT_FALSE(fs::exists(At("many")));
}

// With more processes than a batch has parts, some have nothing to do, and say so.
TEST_F(Mpi, AStepOfOnePart) {
  const std::vector<std::string> options =
      Image({"--method", "lora(r=2)", "--lanes", "1", "--augment", "mixup=0.5"});
  ASSERT_EQ(Graft(Args("alone1", options)).code, 0);
  const UnderMpi mpi(2);
  const Outcome o = Graft(Args("alone2", options));
  ASSERT_EQ(o.code, 0) << o.err;
  EXPECT_NE(o.out.find("a step has 1 parts"), o.out.npos) << o.out;
  ExpectEqualRuns("alone2", "alone1");
}

// --- runs that end early

class MpiResume : public Mpi {
 protected:
  static std::vector<std::string> Long() {
    return Image({"--method", "lora(r=2,dropout=0.1)", "--save-every", "2"});
  }
  static std::vector<std::string> LongArgs(const std::string& run) {
    std::vector<std::string> args = Args(run, Long());
    *(std::ranges::find(args, "--epochs") + 1) = "40";
    return args;
  }
  static void ExpectWhole(const std::string& run) {
    if (!fs::exists(At("whole"))) {
      ASSERT_EQ(Graft(LongArgs("whole")).code, 0);
    }
    ExpectEqualRuns(run, "whole");
  }
};

TEST_F(MpiResume, AProcessThatDiesEndsTheJobAndTheRunGoesOn) {
  {
    const UnderMpi mpi(2);
    EXPECT_NE(SignalSecondAt(LongArgs("killed"), At("killed"), "state.safetensors", SIGKILL).code,
              0);
  }
  {  // by another number of processes
    const UnderMpi mpi(3);
    const Outcome o = Graft({"train", "--resume", At("killed"), "--threads", "1"});
    ASSERT_EQ(o.code, 0) << o.err;
  }
  ExpectWhole("killed");
}

TEST_F(MpiResume, AnInterruptSavesAndOneProcessGoesOn) {
  {
    const UnderMpi mpi(2);
    // Any of them stops all.
    const Outcome o =
        SignalSecondAt(LongArgs("stopped"), At("stopped"), "state.safetensors", SIGTERM);
    EXPECT_EQ(o.code, 130) << o.err;
    EXPECT_NE(o.err.find("saved; continue with: graft train --resume"), o.err.npos) << o.err;
  }
  ASSERT_EQ(Graft({"train", "--resume", At("stopped")}).code, 0);
  ExpectWhole("stopped");
  const UnderMpi mpi(2);  // which have nothing to do
  const Outcome o = Graft({"train", "--resume", At("stopped")});
  EXPECT_EQ(o.code, 0) << o.err;
}

// --- mistakes

struct Mistake {
  const char* name;
  std::vector<std::string> options;
  int code;
  const char* words;
};
const Mistake kMistakes[] = {
    {"seeds", {"--method", "lora", "--seeds", "2"}, 2, "--seeds: is for one process, and 2"},
    {"rate", {"--method", "lora", "--lr-find"}, 2, "--lr-find: is for one process, and 2"},
    {"split", {"--method", "lora", "--train-split", "none-such"}, 1, "none-such"},
    {"exploding",
     {"--method", "full", "--lr", "1e6", "--optimizer", "sgd", "--epochs", "9"},
     5,
     "smaller --lr"},
};

class MpiMistake : public Mpi, public ::testing::WithParamInterface<Mistake> {};

TEST_P(MpiMistake, IsToldOnceAndLeavesNothing) {
  const Mistake& m = GetParam();
  const UnderMpi mpi(2);
  std::vector<std::string> args = Args("mistake", Image(m.options));
  if (m.name == std::string("exploding"))
    args.erase(std::ranges::find(args, "--epochs"), std::ranges::find(args, "--epochs") + 2);
  if (m.name == std::string("rate")) args.erase(args.begin() + 1, args.begin() + 3);
  const Outcome o = Graft(args);
  EXPECT_EQ(o.code, m.code) << o.err;
  const size_t told = o.err.find("graft: ");
  ASSERT_NE(told, o.err.npos) << o.err;
  EXPECT_EQ(o.err.find("graft: ", told + 1), o.err.npos) << o.err;
  EXPECT_NE(o.err.find(m.words), o.err.npos) << o.err;
  EXPECT_FALSE(fs::exists(At("mistake")));
}

INSTANTIATE_TEST_SUITE_P(Options, MpiMistake, ::testing::ValuesIn(kMistakes),
                         [](const auto& info) { return std::string(info.param.name); });

// What is wrong with the words of a command is told by one process of all that have them.
TEST_F(Mpi, WrongWordsAreToldOnce) {
  struct {
    std::vector<std::string> words;
    const char* told;
  } const kCases[] = {
      {{"train", "--modle", "x"}, "--modle"},
      {{"trian"}, "trian"},
      {{"eval", "--batch-size", "many"}, "--batch-size"},
      {{"train", "--model", kNano, "--method", "lora"}, "--data"},
      {{"bench", "vtab", "--model", kNano, "--data", At("images"), "--methods", "lora"}, "--out"},
      {{"ablate"}, "--model"},
      {{"predict", "--dtype", "f8"}, "--dtype 'f8'"},
  };
  const UnderMpi mpi(2);
  for (const auto& [words, told] : kCases) {
    SCOPED_TRACE(told);
    const Outcome o = Graft(words);
    EXPECT_EQ(o.code, 2) << o.err;
    const size_t at = o.err.find("graft: ");
    ASSERT_NE(at, o.err.npos) << o.err;
    EXPECT_EQ(o.err.find("graft: ", at + 1), o.err.npos) << o.err;
    EXPECT_NE(o.err.find(told, at), o.err.npos) << o.err;
    if (words[0] != "train" && words[0] != "ablate") continue;
    std::vector<std::string> json = words;
    json.push_back("--json");
    const std::string out = Graft(json).out;
    EXPECT_EQ(nlohmann::json::parse(out)["exit_code"], 2) << out;
  }
  const std::string help = Graft({"--version"}).out;
  EXPECT_EQ(help.find("graft"), help.rfind("graft")) << help;
}

TEST_F(Mpi, AMethodWithoutGradientsIsRefusedByName) {
  std::vector<std::string> args =
      Args("searched", {"--model", kNanoBert, "--tokenizer", kVocabulary, "--data", At("texts"),
                        "--head", "mlm", "--template", "{text} [MASK]", "--words", "a|b",
                        "--method", "bbt(tokens=4,d=8,budget=40)"});
  const UnderMpi mpi(2);
  ExpectRefused(args, 1, "'bbt' has no gradients, which several processes could share");
  EXPECT_FALSE(fs::exists(At("searched")));
}

TEST_F(Mpi, AnImageThatCannotBeReadEndsAll) {
  fs::copy(At("images"), At("bad"), fs::copy_options::recursive);
  for (const auto& entry : fs::recursive_directory_iterator(At("bad/images")))
    if (entry.path().filename() == "000007.png") Spill(entry.path(), "no image");
  std::vector<std::string> args = Args("unread", Image({"--method", "lora"}));
  *(std::ranges::find(args, "--data") + 1) = At("bad");
  const UnderMpi mpi(2);
  const Outcome o = Graft(args);
  EXPECT_EQ(o.code, 1);
  EXPECT_NE(o.err.find("000007.png"), o.err.npos) << o.err;
}

// Without the plug-in, or with that of another MPI, no two processes may believe to be alone.
TEST_F(Mpi, WithoutTheLibraryIsAnError) {
  const std::string alone = At("alone");
  fs::create_directory(alone);
  fs::copy_file(Binary(), alone + "/graft");
  {
    const UnderMpi mpi(2, alone + "/graft");
    const Outcome o = Graft(Args("lonely", Image({"--method", "lora"})));
    EXPECT_EQ(o.code, 1);
    EXPECT_NE(o.err.find("2 processes were started together, but this graft cannot reach"),
              o.err.npos)
        << o.err;
  }
  setenv("PMI_RANK", "0", 1), setenv("PMI_SIZE", "2", 1);  // of another MPI's launcher
  const Outcome o = Graft(Args("lonely", Image({"--method", "lora"})));
  unsetenv("PMI_RANK"), unsetenv("PMI_SIZE");
  EXPECT_EQ(o.code, 1);
  EXPECT_NE(o.err.find("MPI knows of 1"), o.err.npos) << o.err;
  EXPECT_FALSE(fs::exists(At("lonely")));
}

TEST_F(Mpi, JsonIsOneObject) {
  const UnderMpi mpi(2);
  const nlohmann::json json = GraftJson(Args("json", Image({"--method", "lora"})));
  EXPECT_EQ(json["processes"], 2);
}

}  // namespace
}  // namespace graft::cli::cli_mpi_test
