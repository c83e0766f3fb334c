// Tests what graft eval says beyond the accuracy: each class, the confusion, the errors; and of
// which checkpoint it speaks.
#include "data/metrics.h"
#include "tests/cli_mistakes_testing.h"
#include "tools/lib/eval_tables.h"

namespace graft::cli::cli_eval_test {
namespace {

TEST(EvalTables, ClassesAreThoseOfScikitLearn) {
  // labels 0 0 0 1 1 2, predictions 0 1 0 1 2 0 (class 3 occurs in neither, 4 is only predicted).
  ConfusionMatrix m(6);
  for (const auto& [label, predicted] :
       std::vector<std::pair<int, int>>{{0, 0}, {0, 1}, {0, 0}, {1, 1}, {1, 2}, {2, 0}, {1, 4}})
    m.Add(label, predicted);
  const std::vector<ClassMeasures> classes = MeasureClasses(m);
  // precision_recall_fscore_support(labels, predictions, labels=[0, 1, 2, 4], zero_division=0)
  const double expected[][4] = {
      {3, 2 / 3., 2 / 3., 2 / 3.}, {3, 1 / 2., 1 / 3., 0.4}, {1, 0, 0, 0}, {0, 0, 0, 0}};
  const int64_t numbers[] = {0, 1, 2, 4};
  ASSERT_EQ(classes.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(classes[i].label, numbers[i]);
    EXPECT_EQ(static_cast<double>(classes[i].n), expected[i][0]);
    EXPECT_NEAR(classes[i].precision, expected[i][1], 1e-12);
    EXPECT_NEAR(classes[i].recall, expected[i][2], 1e-12);
    EXPECT_NEAR(classes[i].f1, expected[i][3], 1e-12);
  }
}

// However many classes there are, it can be read.
TEST(EvalTables, ManyClassesAreBounded) {
  for (const int64_t n : {2, 12, 13, 30, 31, 1000}) {
    ConfusionMatrix m(n);
    std::vector<std::string> labels;
    for (int64_t i = 0; i < n; ++i) {
      labels.push_back(fmt::format("a class with a long name, number {}", i));
      m.Add(i, i), m.Add(i, (i + 1) % n);
    }
    for (const std::string& text : {ClassTable(m, labels, "  "), ConfusionText(m, labels, "  ")}) {
      EXPECT_LE(std::count(text.begin(), text.end(), '\n'), 32) << n;
      std::istringstream lines(text);
      for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 180u) << line;
    }
  }
  ConfusionMatrix right(2);
  right.Add(0, 0), right.Add(1, 1);
  EXPECT_EQ(ConfusionText(right, {"a", "b"}, ""), "");
  ConfusionMatrix wrong(2);
  wrong.Add(0, 0), wrong.Add(0, 1), wrong.Add(1, 1);
  EXPECT_EQ(ConfusionText(wrong, {"a", "b"}, ""),
            "predicted as\nlabel  a  b\na      1  1\nb      .  1");
}

std::string Upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

class Eval : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(At("data"));
    // A run whose best checkpoint is not its last: which rate gives one depends on roundings.
    for (const char* lr : {"0.02", "0.03", "0.05", "0.1"}) {
      fs::remove_all(At("run"));
      const nlohmann::json run = GraftJson(WithOptions(
          TrainArgs(At("data"), At("run")), {"--method", "full", "--lr", lr, "--epochs", "6"}));
      if (run["best_epoch"] < 6) break;
    }
    ASSERT_EQ(Graft(WithOptions(TrainArgs(At("data"), At("blind")), {"--val-split", "none"})).code,
              0);
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static TempDir* dir_;
};
TempDir* Eval::dir_ = nullptr;

TEST_F(Eval, ErrorsAreThoseThatAreWrong) {
  const std::string csv = At("errors.csv");
  const nlohmann::json json =
      GraftJson({"eval", "--run", At("run"), "--data", At("data"), "--errors", csv});
  std::istringstream text(Slurp(csv));
  std::string line;
  std::getline(text, line);
  EXPECT_EQ(line, "example,label,predicted,probability");
  int64_t wrong = 0;
  const auto predictions = [&](const std::string& path) {
    return GraftJson(
        {"predict", "--run", At("run"), path, "--top", "1"})["predictions"][0]["top"][0];
  };
  for (; std::getline(text, line); ++wrong) {
    Words fields;
    std::istringstream cells(line);
    for (std::string cell; std::getline(cells, cell, ',');) fields.push_back(cell);
    ASSERT_EQ(fields.size(), 4u) << line;
    EXPECT_NE(fields[1], fields[2]);
    if (wrong >= 3) continue;  // some against another command
    const nlohmann::json top = predictions(fields[0]);
    EXPECT_EQ(top["name"], fields[2]);
    EXPECT_NEAR(top["probability"].get<double>(), std::stod(fields[3]), 1e-4);
  }
  EXPECT_EQ(json["wrong"], wrong);
  EXPECT_GT(wrong, 0);
  EXPECT_NEAR(1 - static_cast<double>(wrong) / 24, json["accuracy"].get<double>(), 1e-12);
  // The table of classes adds up to the rest.
  double f1 = 0, n = 0, right = 0;
  for (const nlohmann::json& c : json["per_class"]) {
    ExpectKeys(c, {"class", "name", "n", "precision", "recall", "f1"});
    f1 += c["f1"].get<double>(), n += c["n"].get<double>();
    right += c["n"].get<double>() * c["recall"].get<double>();
  }
  EXPECT_EQ(n, 24);
  EXPECT_NEAR(f1 / static_cast<double>(json["per_class"].size()), json["macro_f1"].get<double>(),
              1e-12);
  EXPECT_NEAR(right, 24 - static_cast<double>(wrong), 1e-9);
  const Outcome o = Graft({"eval", "--run", At("run"), "--data", At("data")});
  for (const char* words : {"class", "precision", "recall", "F1", "predicted as"})
    EXPECT_NE(o.out.find(words), std::string::npos) << o.out;
}

// The best checkpoint of a run that was validated, else the last one; and it says which.
TEST_F(Eval, TheBestCheckpointUnlessToldOtherwise) {
  const auto eval = [&](const std::string& run, Words more) {
    more.insert(more.begin(),
                {"eval", "--run", At(run), "--data", At("data"), "--split", "val200"});
    return GraftJson(more);
  };
  const nlohmann::json usual = eval("run", {}), best = eval("run", {"--checkpoint", "best"}),
                       last = eval("run", {"--checkpoint", "last"});
  EXPECT_EQ(usual["checkpoint"], "best");
  EXPECT_EQ(usual["loss"], best["loss"]);
  EXPECT_EQ(last["checkpoint"], "last");
  ASSERT_NE(best["loss"], last["loss"]) << "the run does not tell them apart";
  EXPECT_EQ(eval("blind", {})["checkpoint"], "last");
  const Outcome text = Graft({"eval", "--run", At("run"), "--data", At("data")});
  EXPECT_NE(text.out.find("(full, best)"), std::string::npos) << text.out;
  // The same of what else opens a run.
  ASSERT_EQ(Graft({"fuse", "--run", At("run"), "--out", At("fused.safetensors")}).code, 0);
  const nlohmann::json fused = GraftJson(
      {"eval", "--model", At("fused.safetensors"), "--data", At("data"), "--split", "val200"});
  EXPECT_EQ(fused["accuracy"], best["accuracy"]);
  EXPECT_TRUE(fused["checkpoint"].is_null());
}

// A test set need not have an example of every class. The recall of a class says nothing of others.
TEST_F(Eval, SomeOfTheClasses) {
  const nlohmann::json whole = GraftJson({"eval", "--run", At("run"), "--data", At("data")});
  std::vector<std::string> names;
  std::istringstream written(Slurp(At("data/classes.txt")));
  for (std::string name; std::getline(written, name);) names.push_back(name);
  std::istringstream lines(Slurp(At("data/test.txt")));
  std::string path;
  for (int label = 0, n = 0; lines >> path >> label;) {
    if (label != 5 && label != 2) continue;  // folders in another order than the classes
    const std::string name = names[label];
    const std::string folder = At("some/test/" + (label == 5 ? Upper(name) : name));
    fs::create_directories(folder);
    fs::copy(At("data/" + path), fmt::format("{}/{}.png", folder, n++));
  }
  const Words args{"eval", "--run", At("run"), "--data", At("some"), "--split", "test"};
  const nlohmann::json some = GraftJson(args);
  double n = 0;
  std::map<std::string, nlohmann::json> of;
  for (const nlohmann::json& c : whole["per_class"]) of[c["name"]] = c;
  for (const nlohmann::json& c : some["per_class"]) {
    const nlohmann::json& all = of.at(c["name"]);
    EXPECT_EQ(c["class"], all["class"]);
    const bool there = c["class"] == 5 || c["class"] == 2;
    EXPECT_EQ(c["n"], there ? all["n"].get<int64_t>() : 0);
    EXPECT_EQ(c["recall"] == all["recall"], there || all["recall"] == 0);
    n += c["n"].get<double>();
  }
  EXPECT_EQ(some["n"], n);
  EXPECT_NE(Graft(args).out.find("note: 2 of the 8 classes occur in " + At("some")),
            std::string::npos);
  fs::rename(At("some/test/" + Upper(names[5])), At("some/test/other"));
  const Outcome o = Graft(args);
  EXPECT_EQ(o.code, 1);
  EXPECT_NE(o.err.find("the first is 'other', expected one of"), std::string::npos) << o.err;
}

// Numbers of classes of which not all occur, such as stars.
TEST_F(Eval, SomeOfTheNumbersOfTexts) {
  Spill(At("vocab.txt"), "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\n");
  fs::create_directories(At("stars"));
  Spill(At("stars/train.csv"), "text,stars\na,1\nb,2\nc,3\na b,4\nb c,5\na c,5\n");
  Spill(At("high.csv"), "text,stars\nb c,5\na b,4\n");
  const Outcome made = Graft({"train", "--model", kNanoBert, "--tokenizer", At("vocab.txt"),
                              "--data", At("stars"), "--val-split", "none", "--method", "linear",
                              "--epochs", "1", "--max-length", "8", "--out", At("starred")});
  ASSERT_EQ(made.code, 0) << made.err;
  const Words args{"eval", "--run", At("starred"), "--data", At("high.csv"), "--split", "high"};
  const nlohmann::json json = GraftJson(args);
  EXPECT_EQ(json["n"], 2);
  for (const nlohmann::json& c : json["per_class"])
    EXPECT_EQ(c["n"], c["name"] == "4" || c["name"] == "5" ? 1 : 0) << c;
}

// What is measured on what was trained on is said.
TEST_F(Eval, TheTrainingSplitIsTold) {
  const auto says = [&](Words more) {
    more.insert(more.begin(), {"eval", "--run", At("run"), "--data", At("data")});
    return Graft(more).out.find("note: the run was trained on the split 'train800'") !=
           std::string::npos;
  };
  EXPECT_TRUE(says({"--split", "train800"}));
  EXPECT_FALSE(says({"--split", "val200"}));
  EXPECT_FALSE(says({}));
}

TEST_F(Eval, Mistakes) {
  Spill(At("there.csv"), "mine");
  ExpectMistakes({{"exists",
                   {"eval", "--run", "@run", "--data", "@data", "--errors", "@there.csv"},
                   1,
                   {"there.csv: the file exists", "--force"}},
                  {"is read",
                   {"eval", "--run", "@run", "--data", "@data", "--errors", "@data/test.txt"},
                   2,
                   {"would overwrite"}},
                  {"no directory",
                   {"eval", "--run", "@run", "--data", "@data", "--errors", "@no/e.csv"},
                   1,
                   {"no/e.csv: there is no directory"}},
                  {"no directory to fuse into",
                   {"fuse", "--run", "@run", "--out", "@no/f.safetensors"},
                   1,
                   {"no/f.safetensors: there is no directory"}},
                  {"checkpoint",
                   {"eval", "--run", "@run", "--data", "@data", "--checkpoint", "bst"},
                   2,
                   {"'best'"}}},
                 *dir_);
}

}  // namespace
}  // namespace graft::cli::cli_eval_test
