// Going on from a classifier: its head stays where it serves the classes of the data, and the run
// knows which it was.
#include <algorithm>

#include "runtime/io/safetensors.h"
#include "tests/cli_testing.h"

namespace graft::cli::cli_head_test {
namespace {

std::vector<std::string> Lines(const fs::path& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

void SpillLines(const fs::path& path, const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  Spill(path, text);
}

class Head : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(At("data"));
    ASSERT_EQ(Graft(TrainArgs(At("data"), At("first"), {"--lr", "1e-2"})).code, 0);
    ASSERT_EQ(Graft({"fuse", "--run", At("first"), "--out", Base()}).code, 0);
    names_ = new std::vector<std::string>(Lines(At("data/classes.txt")));
    loss_ = Loss({"--model", Base()}, At("data"));
  }
  static void TearDownTestSuite() { delete dir_, delete names_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static std::string Base() { return At("base.safetensors"); }
  static double Loss(std::vector<std::string> what, const std::string& data) {
    what.insert(what.begin(), "eval");
    for (const char* more : {"--data", data.c_str(), "--split", "val200"}) what.push_back(more);
    return GraftJson(what)["loss"];
  }
  // Trains so that next to nothing changes.
  static Outcome GoOn(const std::string& model, const std::string& data, const std::string& out,
                      const std::vector<std::string>& more = {},
                      const std::string& method = "lora(r=2)") {
    std::vector<std::string> args = TrainArgs(data, out, {"--lr", "1e-12", "--weight-decay", "0"});
    *(std::ranges::find(args, "--model") + 1) = model;
    *(std::ranges::find(args, "--method") + 1) = method;
    args.insert(args.end(), more.begin(), more.end());
    return Graft(args);
  }
  static nlohmann::json Config(const std::string& run) {
    return nlohmann::json::parse(Slurp(run + "/config.json"));
  }
  static void ExpectKept(const std::string& model, const std::string& data, const std::string& run,
                         const std::string& words) {
    const Outcome o = GoOn(model, data, run);
    ASSERT_EQ(o.code, 0) << o.err;
    EXPECT_NE((o.out + o.err).find("training goes on from the head of " + model + words),
              std::string::npos)
        << o.out << o.err;
    EXPECT_EQ(Config(run)["new_head"], false);
    EXPECT_NEAR(Loss({"--run", run}, data), loss_, 1e-5 * loss_) << run;
  }
  static void ExpectFresh(const Outcome& o, const std::string& run, const std::string& why) {
    ASSERT_EQ(o.code, 0) << o.err;
    EXPECT_NE((o.out + o.err).find(why), std::string::npos) << why << " in " << o.out << o.err;
    EXPECT_EQ(Config(run)["new_head"], true);
  }
  // Writes the same examples under other names of classes or other numbers.
  static std::string Renamed(const std::string& name, const std::vector<std::string>& classes,
                             bool reversed = false) {
    const std::string copy = At(name);
    fs::copy(At("data"), copy, fs::copy_options::recursive);
    SpillLines(copy + "/classes.txt", classes);
    for (const char* list : {"train800.txt", "val200.txt", "test.txt"}) {
      std::vector<std::string> lines = Lines(copy + "/" + list);
      for (std::string& line : lines) {
        const size_t space = line.rfind(' ') + 1;
        const int64_t label = std::stoll(line.substr(space));
        if (reversed)
          line = fmt::format("{}{}", line.substr(0, space), std::ssize(classes) - 1 - label);
      }
      SpillLines(copy + "/" + list, lines);
    }
    return copy;
  }

  static TempDir* dir_;
  static std::vector<std::string>* names_;
  static double loss_;
};
TempDir* Head::dir_ = nullptr;
std::vector<std::string>* Head::names_ = nullptr;
double Head::loss_ = 0;

TEST_F(Head, StaysForTheSameClasses) {
  ExpectKept(Base(), At("data"), At("same"), "; --new-head");
  EXPECT_EQ(Config(At("same"))["labels"], *names_);
}

TEST_F(Head, StaysForOtherCaseAndOrder) {
  std::vector<std::string> names(names_->rbegin(), names_->rend());
  for (char& c : names[0]) c = static_cast<char>(std::toupper(c));
  const std::string data = Renamed("reversed_data", names, true);
  ExpectKept(Base(), data, At("reversed"), "; classes are numbered as there");
  EXPECT_EQ(Config(At("reversed"))["labels"], *names_);
  // Training, and its validation, have the classes in the order of the head.
  std::ifstream metrics(At("reversed/metrics.jsonl"));
  nlohmann::json epoch;
  for (std::string line; std::getline(metrics, line);) epoch = nlohmann::json::parse(line);
  const double held = GraftJson({"eval", "--run", At("reversed"), "--data", data, "--split",
                                 "val200", "--checkpoint", "last"})["loss"];
  EXPECT_NEAR(epoch["val_loss"].get<double>(), held, 1e-5 * held);
  // The head is kept through validation, a resume from the start, a fused file and our adapter,
  // too.
  const std::string last = Slurp(At("reversed/last.safetensors"));
  for (const char* file : {"state", "last", "best"})
    fs::remove(At(fmt::format("reversed/{}.safetensors", file)));
  ASSERT_EQ(Graft({"train", "--resume", At("reversed")}).code, 0);
  EXPECT_EQ(Slurp(At("reversed/last.safetensors")), last);
  ASSERT_EQ(Graft({"fuse", "--run", At("reversed"), "--out", At("again.safetensors")}).code, 0);
  EXPECT_NEAR(Loss({"--model", At("again.safetensors")}, At("data")), loss_, 1e-5 * loss_);
  ASSERT_EQ(
      Graft({"export", "--run", At("reversed"), "--format", "graft", "--out", At("own")}).code, 0);
  EXPECT_NEAR(Loss({"--model", Base(), "--adapter", At("own")}, At("data")), loss_, 1e-5 * loss_);
}

TEST_F(Head, StaysWhereOneSideHasNoNames) {
  const std::string hf = At("hf");
  ASSERT_EQ(Graft({"export", "--model", Base(), "--format", "hf", "--out", hf}).code, 0);
  nlohmann::json config = nlohmann::json::parse(Slurp(hf + "/config.json"));
  std::vector<std::string> numbers;
  for (size_t i = 0; i < names_->size(); ++i) {
    config["id2label"][std::to_string(i)] = fmt::format("LABEL_{}", i);
    numbers.push_back(std::to_string(i));
  }
  config.erase("label2id");
  Spill(hf + "/config.json", config.dump());
  const SafetensorsFile file = SafetensorsFile::Open(hf + "/model.safetensors");
  std::vector<TensorToWrite> tensors;
  for (const FileTensor& t : file.tensors())
    tensors.push_back({t.name, t.dtype, t.shape, file.bytes(t)});
  WriteSafetensors(hf + "/model.safetensors", tensors, {});  // without its metadata's labels
  ExpectKept(hf, At("data"), At("unnamed"), fmt::format("; its class 0 is '{}'", (*names_)[0]));
  EXPECT_EQ(Config(At("unnamed"))["labels"], *names_);
  ExpectKept(Base(), Renamed("numbered_data", numbers), At("numbered"), "; its class 0 is '0'");
  EXPECT_EQ(Config(At("numbered"))["labels"], *names_);
}

TEST_F(Head, IsFreshForOtherClasses) {
  std::vector<std::string> names = *names_;
  names[1] = "something else";
  ExpectFresh(GoOn(Base(), Renamed("other_data", names), At("other")), At("other"),
              "has a head for other classes");
  names = *names_;
  names.push_back("one more");
  ExpectFresh(GoOn(Base(), Renamed("more_data", names), At("more")), At("more"),
              fmt::format("has a head for {} classes", names_->size()));
  ExpectFresh(GoOn(Base(), At("data"), At("asked"), {"--new-head"}), At("asked"), "");
  EXPECT_GT(std::abs(Loss({"--run", At("asked")}, At("data")) - loss_), 1e-3);
  EXPECT_EQ(Config(At("first"))["new_head"], true);
  const Outcome named = Graft({"inspect", At("asked"), "--json"});
  EXPECT_EQ(named.json()["keys"]["reshaped"].size(), 1u) << named.out;
}

// A head that never learns is of use only if it has learnt before.
TEST_F(Head, IsFrozenOnlyIfItWasTrained) {
  const std::string frozen = "lora(r=2,head=frozen)";
  ASSERT_EQ(GoOn(Base(), At("data"), At("frozen"), {}, frozen).code, 0);
  EXPECT_NEAR(Loss({"--run", At("frozen")}, At("data")), loss_, 1e-5 * loss_);
  ASSERT_EQ(Graft({"fuse", "--run", At("frozen"), "--out", At("frozen.safetensors")}).code, 0);
  EXPECT_NEAR(Loss({"--model", At("frozen.safetensors")}, At("data")), loss_, 1e-5 * loss_);
  for (const char* format : {"graft", "hf-peft"}) {
    const std::string adapter = At(fmt::format("frozen_{}", format));
    ASSERT_EQ(Graft({"export", "--run", At("frozen"), "--format", format, "--out", adapter}).code,
              0);
    EXPECT_NEAR(Loss({"--model", Base(), "--adapter", adapter}, At("data")), loss_, 1e-5 * loss_);
  }
  for (const Outcome& o : {GoOn(Base(), At("data"), At("never"), {"--new-head"}, frozen),
                           GoOn(kNano, At("data"), At("never"), {}, frozen)}) {
    EXPECT_EQ(o.code, 2);
    EXPECT_NE(o.err.find("the head is fresh and would never learn"), std::string::npos) << o.err;
  }
  EXPECT_FALSE(fs::exists(At("never")));
}

}  // namespace
}  // namespace graft::cli::cli_head_test
