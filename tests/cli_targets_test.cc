// Tests regression and several labels at once on the command line: train, resume, eval, predict and
// runs, for texts.
#include <cmath>
#include <map>

#include "tests/cli_targets_testing.h"

namespace graft::cli::cli_targets_test {
namespace {

TEST_F(Targets, ARegressionLearnsAndIsMeasured) {
  const json& trained = *numbers_;
  EXPECT_EQ(trained["task"], "regression");
  EXPECT_TRUE(trained["val_accuracy"].is_null());
  EXPECT_EQ(trained["best_metric"], "mse");
  const std::vector<json> lines = Metrics("run");
  double best = 1e9;
  for (const json& line : lines) {
    ExpectKeys(line, {"val_mse", "val_mae", "val_r2", "val_pearson", "val_spearman", "val_loss"});
    EXPECT_FALSE(line.contains("val_accuracy"));
    best = std::min(best, line["val_mse"].get<double>());
  }
  EXPECT_EQ(trained["best"], best);
  EXPECT_LT(best, 0.5 * lines[0]["val_mse"].get<double>());
  const json eval = GraftJson({"eval", "--run", At("run"), "--data", At("numbers"), "--split",
                               "dev", "--errors", At("errors.csv")});
  EXPECT_EQ(eval["checkpoint"], "best");
  EXPECT_NEAR(eval["mse"].get<double>(), best, 1e-6);
  EXPECT_EQ(eval["task"], "regression");
  ExpectKeys(eval, {"split", "n", "loss", "seconds", "mae", "r2", "pearson", "spearman"});
  EXPECT_EQ(eval["per_column"].size(), 1u);
  EXPECT_EQ(eval["per_column"][0]["name"], "score");
  EXPECT_EQ(eval["per_column"][0]["r2"], eval["r2"]);
  // The errors are those of the measures, the largest first.
  const auto rows = Csv(At("errors.csv"));
  ASSERT_EQ(rows.size(), 25u);
  EXPECT_EQ(rows[0], (Words{"example", "error", "score", "score_predicted"}));
  double mae = 0, before = 1e9;
  for (size_t i = 1; i < rows.size(); ++i) {
    const double error = std::stod(rows[i][1]);
    EXPECT_NEAR(error, std::abs(std::stod(rows[i][2]) - std::stod(rows[i][3])), 1e-5);
    EXPECT_LE(error, before);
    mae += error / 24, before = error;
  }
  EXPECT_NEAR(mae, eval["mae"].get<double>(), 1e-5);
  const Outcome text = Graft({"eval", "--run", At("run"), "--data", At("numbers")});
  for (const char* words : {"Pearson correlation", "R2", "column", "score", "32 texts"})
    EXPECT_NE(text.out.find(words), std::string::npos) << text.out;
}

TEST_F(Targets, ARegressionPredictsNumbers) {
  const Words predict{"predict", "--run", At("run"), "--text", "film b b", "--text", "film a"};
  const json p = GraftJson(predict)["predictions"];
  ASSERT_EQ(p.size(), 2u);
  EXPECT_FALSE(p[0].contains("top"));
  EXPECT_EQ(p[0]["values"][0]["name"], "score");
  EXPECT_GT(p[0]["values"][0]["value"].get<double>(), p[1]["values"][0]["value"].get<double>());
  EXPECT_NE(Graft(predict).out.find("score"), std::string::npos);
  const json all = GraftJson({"predict", "--run", At("run"), At("numbers/test.csv"), "--out",
                              At("numbers.csv"), "--logits", At("numbers.npy")});
  EXPECT_EQ(all["n"], 32);
  const auto rows = Csv(At("numbers.csv"));
  ASSERT_EQ(rows.size(), 33u);
  EXPECT_EQ(rows[0], (Words{"input", "file", "row", "score", "error"}));
  for (size_t i = 1; i < rows.size(); ++i)
    EXPECT_NEAR(std::stod(rows[i][3]),
                all["predictions"][i - 1]["values"][0]["value"].get<double>(), 1e-6);
}

TEST_F(Targets, SeveralLabelsLearnAndAreMeasured) {
  const json& trained = *names_;
  EXPECT_EQ(trained["task"], "multi-label");
  EXPECT_EQ(trained["best_metric"], "map");
  for (const json& line : Metrics("several"))
    ExpectKeys(line, {"val_map", "val_micro_f1", "val_macro_f1", "val_subset_accuracy"});
  const json eval = GraftJson(
      {"eval", "--run", At("several"), "--data", At("names"), "--errors", At("wrong.csv")});
  EXPECT_GT(eval["map"].get<double>(), 0.9);
  EXPECT_GT(eval["micro_f1"].get<double>(), 0.8);
  ASSERT_EQ(eval["per_class"].size(), 2u);
  EXPECT_EQ(eval["per_class"][0]["name"], "a");
  double average = 0, f1 = 0;
  for (const json& c : eval["per_class"]) {
    ExpectKeys(c, {"class", "n", "precision", "recall"});
    average += c["average_precision"].get<double>() / 2, f1 += c["f1"].get<double>() / 2;
  }
  EXPECT_NEAR(average, eval["map"].get<double>(), 1e-12);
  EXPECT_NEAR(f1, eval["macro_f1"].get<double>(), 1e-12);
  const auto wrong = Csv(At("wrong.csv"));
  EXPECT_EQ(eval["wrong"], wrong.size() - 1);
  EXPECT_NEAR(1 - static_cast<double>(wrong.size() - 1) / 32, eval["subset_accuracy"].get<double>(),
              1e-12);
  for (size_t i = 1; i < wrong.size(); ++i) EXPECT_NE(wrong[i][1], wrong[i][2]);
  // One split lacks a class, and one table names classes as arrays.
  fs::create_directories(At("few"));
  Spill(At("few/test.csv"), "text,labels\nfilm a,a\nfilm,\n");
  EXPECT_EQ(GraftJson({"eval", "--run", At("several"), "--data", At("few")})["n"], 2);
  EXPECT_EQ(GraftJson({"eval", "--run", At("several"), "--data", At("arrays")})["map"],
            eval["map"]);
}

TEST_F(Targets, SeveralLabelsPredictThoseAboveTheThreshold) {
  const auto predict = [&](const Words& more) {
    Words args{"predict", "--run", At("several"), "--text", "film b b b"};
    args.insert(args.end(), more.begin(), more.end());
    return GraftJson(args)["predictions"][0];
  };
  const json p = predict({});
  ASSERT_EQ(p["top"].size(), 2u);
  std::map<std::string, double> probability;
  for (const json& c : p["top"]) {
    const double z = c["logit"];
    probability[c["name"]] = c["probability"];
    EXPECT_NEAR(c["probability"].get<double>(), 1 / (1 + std::exp(-z)), 1e-9);
  }
  EXPECT_EQ(p["labels"], json::array({"b"}));
  EXPECT_GT(probability["b"], 0.5);
  EXPECT_LT(probability["a"], 0.5);
  const double between = probability["a"] / 2;
  EXPECT_EQ(predict({"--threshold", std::to_string(between)})["labels"].size(), 2u);
  EXPECT_EQ(predict({"--threshold", "1"})["labels"], json::array());
  EXPECT_EQ(predict({"--top", "1"})["top"].size(), 1u);
  GraftJson({"predict", "--run", At("several"), "--text", "film b b b", "--text", "film a b",
             "--out", At("names.csv")});
  const auto rows = Csv(At("names.csv"));
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0], (Words{"input", "file", "row", "labels", "a", "b", "error"}));
  EXPECT_EQ(rows[1][3], "b");
  EXPECT_NEAR(std::stod(rows[1][4]), probability["a"], 1e-9);
  EXPECT_NE(
      Graft({"predict", "--run", At("several"), "--text", "film b b b"}).out.find("labels: b"),
      std::string::npos);
}

// Micro-batches, kept features and resuming change nothing but rounding.
TEST_F(Targets, OtherWaysToTheSameWeights) {
  for (const std::string task : {"regression", "multi-label"}) {
    SCOPED_TRACE(task);
    const std::string data = task == "regression" ? "numbers" : "names";
    const auto loss = [&](const std::string& out, const Words& more) {
      return GraftJson(Args(task, data, out + task, more))["final_train_loss"].get<double>();
    };
    const Words linear{"--method", "linear", "--epochs", "2"};
    Words parts = linear, traced = linear;
    parts.insert(parts.end(), {"--micro-batch", "3"});
    traced.insert(traced.end(), {"--trace", At("trace" + task)});
    const double whole = loss("whole", linear);
    EXPECT_NEAR(loss("parts", parts), whole, 1e-5);
    EXPECT_EQ(loss("traced", traced), whole);
    loss("one", {"--method", "linear", "--epochs", "1"});
    GraftJson({"train", "--resume", At("one" + task), "--epochs", "2"});
    EXPECT_EQ(Slurp(At("one" + task + "/last.safetensors")),
              Slurp(At("whole" + task + "/last.safetensors")));
    const Outcome features = Graft(Args(task, data, "told" + task, linear));
    EXPECT_NE(features.out.find("features kept"), std::string::npos) << features.out;
    // The same with the features made anew: dropout of nothing keeps the layers from being frozen.
    EXPECT_NEAR(loss("budget", WithOptions(linear, {"--memory-budget", "64MiB"})), whole, 1e-5);
  }
}

TEST_F(Targets, SeveralColumnsOfNumbers) {
  const json trained = GraftJson(
      Args("regression", "numbers", "two", {"--columns", "text,score|half", "--epochs", "2"}));
  const json eval = GraftJson({"eval", "--run", At("two"), "--data", At("numbers")});
  ASSERT_EQ(eval["per_column"].size(), 2u);
  EXPECT_EQ(eval["per_column"][1]["name"], "half");
  EXPECT_NEAR(
      (eval["per_column"][0]["mse"].get<double>() + eval["per_column"][1]["mse"].get<double>()) / 2,
      eval["mse"].get<double>(), 1e-9);
  EXPECT_NEAR(eval["mse"].get<double>(), eval["loss"].get<double>(), 1e-6);
  const json check = GraftJson(
      {"data", "check", At("numbers"), "--task", "regression", "--columns", "text,score|half"});
  EXPECT_EQ(check["task"], "regression");
  EXPECT_EQ(check["splits"][0]["columns"][1]["name"], "half");
  EXPECT_LT(check["splits"][0]["columns"][0]["min"], check["splits"][0]["columns"][0]["max"]);
}

// Its square is no number of f32, and nothing that is measured of it may be called the best.
TEST_F(Targets, AValidationLossThatIsNotFiniteIsNoResult) {
  fs::copy(At("numbers"), At("filled"), fs::copy_options::recursive);
  Spill(At("filled/dev.csv"), Slurp(At("filled/dev.csv")) + "film filled,9.97e36,0\n");
  ExpectRefused(Args("regression", "filled", "of_filled"), 5,
                "the loss on the validation split 'dev' is inf after epoch 1 of 20");
  EXPECT_FALSE(fs::exists(At("of_filled/best.safetensors")));
}

TEST_F(Targets, RunsAreComparedByTheirMetric) {
  const json runs = GraftJson({"runs", At("run")})["runs"];
  EXPECT_EQ(runs[0]["metric"], "val_mse");
  EXPECT_EQ(runs[0]["task"], "regression");
  EXPECT_EQ(runs[0]["best"], (*numbers_)["best"]);
  const json several = GraftJson({"runs", At("several")})["runs"];
  EXPECT_EQ(several[0]["best"], (*names_)["best"]);
  EXPECT_NE(Graft({"runs", At("several")}).out.find(" %"), std::string::npos);
  EXPECT_EQ(Graft({"runs", At("run")}).out.find(" %"), std::string::npos);
}

// The arrays of a JSON table say what they are.
TEST_F(Targets, ToldFromTheData) {
  const Outcome o = Graft({"train", "--model", *model_, "--data", At("arrays"), "--method",
                           "linear", "--epochs", "1", "--out", At("told")});
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_NE(o.out.find("note: --task multi-label, as the labels are arrays"), std::string::npos)
      << o.out;
  EXPECT_EQ(Config(At("told"))["task"], "multi-label");
}

}  // namespace
}  // namespace graft::cli::cli_targets_test
