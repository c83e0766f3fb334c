// graft bench report of runs: what it measures is what graft eval measures, what others have named
// is text, and what is gone or damaged is said.

#include "tests/cli_targets_testing.h"
#include "tests/matches_testing.h"

namespace graft::cli::cli_report_runs_test {
namespace {

// Names of classes and files as an enemy would choose them.
constexpr const char* kEvil = "<script>alert(1)<b>";
constexpr const char* kQuote = "\"><img src=x onerror=alert(2)>";

size_t Count(const std::string& text, const std::string& what) {
  size_t count = 0;
  for (size_t at = text.find(what); at != text.npos; at = text.find(what, at + 1)) ++count;
  return count;
}

void ExpectNumber(const std::string& html, const json& value) {
  EXPECT_NE(html.find("data-value=\"" + json(value.get<double>()).dump() + "\""), std::string::npos)
      << value;
}

std::string Notes(const json& report) {
  std::string all;
  for (const json& note : report["notes"]) all += note.get<std::string>() + "\n";
  return all;
}

class RunReport : public Targets {
 protected:
  static void SetUpTestSuite() {
    Targets::SetUpTestSuite();
    Files files;
    for (const auto& [split, count] : {std::pair("train", 8), {"val", 5}, {"test", 4}})
      for (int i = 0; i < count; ++i)
        for (const char* name : {kEvil, kQuote, "third"})
          files.push_back({fmt::format("{}/{}/<i>{}.png", split, name, i), ""});
    Fill(*dir_, "images", files);
    GraftJson({"train", "--model", kNano, "--data", At("images"), "--method", "lora(r=2)",
               "--epochs", "3", "--batch-size", "8", "--schedule", "constant", "--out",
               At("pictures")});
    fs::create_directories(At("texts"));
    std::string rows;
    for (int i = 0; i < 16; ++i)
      rows += fmt::format("a <u>film</u> {}\t{}\n", std::string(size_t(1 + i), 'b'), i % 2);
    for (const char* split : {"train", "dev"}) Spill(At("texts") + "/" + split + ".tsv", rows);
    Spill(At("texts") + "/labels.txt", std::string(kEvil) + "\nplain\n");
    GraftJson({"train", "--model", *model_, "--data", At("texts"), "--method", "linear",
               "--allow-overlap", "--epochs", "2", "--out", At("words")});
  }
  // Makes the report of one directory, and gives its page.
  static json Report(const std::string& run, std::string* html, const Words& more = {}) {
    Words args{"bench", "report", At(run), "--out", At("page.html"), "--force"};
    args.insert(args.end(), more.begin(), more.end());
    const json report = GraftJson(args);
    *html = Slurp(At("page.html"));
    return report;
  }
  static json Eval(const std::string& run, const std::string& data, const std::string& split) {
    return GraftJson({"eval", "--run", At(run), "--data", At(data), "--split", split});
  }
  // A copy of a run that a test may spoil.
  static std::string Copy(const std::string& run, const std::string& name) {
    fs::remove_all(At(name));
    fs::copy(At(run), At(name));
    return At(name);
  }
};

TEST_F(RunReport, MeasuresWhatEvalMeasures) {
  for (const char* split : {"val", "test"}) {
    std::string html;
    const json report = Report("pictures", &html, {"--split", split});
    const json eval = Eval("pictures", "images", split);
    ASSERT_EQ(report["measured"].size(), 1u);
    EXPECT_EQ(report["measured"][0]["split"], split);
    EXPECT_EQ(report["measured"][0]["n"], eval["n"]);
    for (const char* key : {"accuracy", "loss", "macro_f1", "mean_class_accuracy"}) {
      EXPECT_EQ(report["measured"][0][key], eval[key]) << key;
      ExpectNumber(html, eval[key]);
    }
    for (const json& c : eval["per_class"])
      for (const char* key : {"precision", "recall", "f1"}) ExpectNumber(html, c[key]);
    EXPECT_EQ(report["notes"], json::array());
  }
  std::string html;
  EXPECT_EQ(Report("pictures", &html)["measured"][0]["split"], "val");
}

// If there are fewer examples than a page shows, it shows all: their losses fall, and their mean is
// the loss.
TEST_F(RunReport, TheWorstComeFirst) {
  std::string html;
  const json report = Report("pictures", &html, {"--split", "val"});
  std::vector<double> losses;
  for (const auto& loss : Matches(html, "<div>loss ([0-9.e+-]+)</div>"))
    losses.push_back(std::stod(loss[0]));
  ASSERT_EQ(losses.size(), 15u);
  EXPECT_TRUE(std::ranges::is_sorted(losses, std::greater<>()));
  double sum = 0;
  for (const double x : losses) sum += x;
  EXPECT_NEAR(sum / 15, report["measured"][0]["loss"].get<double>(), 1e-3);
  EXPECT_EQ(Count(html, "<img src=\"data:image/png;base64,"), 15u);
}

TEST_F(RunReport, NamesAreText) {
  for (const char* run : {"pictures", "words"}) {
    std::string html;
    Report(run, &html);
    EXPECT_EQ(html.find("<script>alert"), std::string::npos) << run;
    EXPECT_EQ(html.find("<img src=x"), std::string::npos) << run;
    EXPECT_EQ(html.find("<u>film"), std::string::npos) << run;
    EXPECT_EQ(html.find("<i>"), std::string::npos) << run;
    EXPECT_NE(html.find("&lt;script&gt;alert(1)&lt;b&gt;"), std::string::npos) << run;
  }
}

TEST_F(RunReport, SaysHowItWasMade) {
  std::string html;
  Report("pictures", &html);
  const json summary = json::parse(Slurp(At("pictures") + "/summary.json"));
  EXPECT_TRUE(summary["command"].get<std::string>().starts_with("graft train --model "));
  EXPECT_NE(html.find("graft train --model init:vit_nano"), std::string::npos);
  EXPECT_NE(html.find(summary["machine"].get<std::string>()), std::string::npos);
  EXPECT_NE(html.find("blocks.*.attn.q.lora_a"), std::string::npos);
  EXPECT_EQ(Count(html, "src=\"data:image/svg+xml;base64,"), 1u);  // a block with the method
  const std::string longer = Copy("pictures", "longer");
  GraftJson({"train", "--resume", longer, "--epochs", "4"});
  EXPECT_EQ(json::parse(Slurp(longer + "/summary.json"))["command"], summary["command"]);
}

TEST_F(RunReport, NumbersAndLabels) {
  std::string html;
  const json numbers = Report("run", &html);
  const json of_numbers = Eval("run", "numbers", "dev");
  for (const char* key : {"mse", "mae", "r2", "pearson", "spearman", "loss"}) {
    EXPECT_EQ(numbers["measured"][0][key], of_numbers[key]) << key;
    ExpectNumber(html, of_numbers[key]);
  }
  EXPECT_NE(html.find(">24 of 24 examples, true and predicted<"), std::string::npos);
  const json labels = Report("several", &html);
  const json of_labels = Eval("several", "names", "dev");
  for (const char* key : {"map", "micro_f1", "macro_f1", "subset_accuracy"})
    EXPECT_EQ(labels["measured"][0][key], of_labels[key]) << key;
  for (const json& c : of_labels["per_class"])
    for (const char* key : {"n", "precision", "recall", "f1", "average_precision"})
      ExpectNumber(html, c[key]);
}

TEST_F(RunReport, MeasuresSoMany) {
  std::string html;
  EXPECT_EQ(Report("words", &html, {"--limit", "5"})["measured"][0]["n"], 5);
  EXPECT_NE(html.find("5 texts, of 16 in the split"), std::string::npos);
  EXPECT_EQ(Report("words", &html, {"--no-eval"})["measured"].size(), 0u);
  EXPECT_EQ(html.find("Measured on"), std::string::npos);
}

struct Damage {
  const char* name;
  std::function<void(const std::string& run)> spoil;
  Words says;     // in the notes
  bool measured;  // still
};

// Nothing that a run still has is lost with what it has not.
TEST_F(RunReport, WhatIsGoneIsSaid) {
  const auto append = [](const std::string& file, const std::string& text) {
    Spill(file, Slurp(file) + text);
  };
  const auto put = [](const std::string& run, const char* key, const std::string& value) {
    json config = Config(run);
    config[key] = value;
    Spill(run + "/config.json", config.dump());
  };
  const std::vector<Damage> damages{
      {"line",
       [&](auto& run) { append(run + "/metrics.jsonl", "{broken\n[1]\n"); },
       {"2 damaged lines"},
       true},
      {"torn", [&](auto& run) { append(run + "/metrics.jsonl", "{\"epoch\": 4"); }, {}, true},
      {"words",
       [&](auto& run) {
         append(run + "/metrics.jsonl", "{\"epoch\":\"x\",\"val_loss\":[],\"seconds\":\"y\"}\n");
       },
       {},
       true},
      {"data",
       [&](auto& run) { put(run, "data", "/nowhere"); },
       {"not measured", "/nowhere"},
       false},
      {"base",
       [&](auto& run) { put(run, "model", "/nowhere.safetensors"); },
       {"not measured", "without the picture", "/nowhere.safetensors"},
       false},
      {"weights",
       [&](auto& run) {
         for (const char* file : {"/best.safetensors", "/last.safetensors"}) fs::remove(run + file);
       },
       {"not measured"},
       false},
      {"summary",
       [&](auto& run) {
         Spill(run + "/summary.json",
               R"({"peak_memory_bytes": -7, "seconds": 1e300,
                                                  "planned_bytes": 1e300, "command": 5})");
       },
       {},
       true},
      {"images",
       [&](auto& run) {
         fs::copy(At("images"), run + "-data", fs::copy_options::recursive);
         Spill(run + "-data/val/third/<i>2.png", "no picture");
         put(run, "data", run + "-data");
       },
       {"not measured", "<i>2.png"},
       false}};
  for (const Damage& d : damages) {
    SCOPED_TRACE(d.name);
    const std::string run = Copy("pictures", std::string("spoilt_") + d.name);
    d.spoil(run);
    std::string html;
    const json report = Report(std::string("spoilt_") + d.name, &html);
    for (const std::string& says : d.says)
      EXPECT_NE(Notes(report).find(says), std::string::npos) << report["notes"];
    EXPECT_EQ(report["notes"].empty(), d.says.empty()) << report["notes"];
    EXPECT_EQ(report["measured"].size(), d.measured ? 1u : 0u);
    const std::string loss =
        json::parse(Slurp(run + "/metrics.jsonl")
                        .substr(0, Slurp(run + "/metrics.jsonl").find('\n')))["train_loss"]
            .dump();
    EXPECT_NE(html.find("data-value=\"" + loss + "\""), std::string::npos) << loss;
  }
}

// A run that has not come to a checkpoint.
TEST_F(RunReport, OfARunThatBegins) {
  fs::create_directory(At("begun"));
  fs::copy_file(At("pictures") + "/config.json", At("begun") + "/config.json");
  std::string html;
  const json report = Report("begun", &html);
  EXPECT_NE(html.find("No epoch is finished yet"), std::string::npos);
  EXPECT_NE(html.find("not finished"), std::string::npos);
  EXPECT_NE(Notes(report).find("not measured"), std::string::npos);
}

TEST_F(RunReport, Mistakes) {
  const std::string run = At("pictures"), page = At("none.html");
  ExpectMistakes(
      {{"split",
        {"bench", "report", run, "--out", page, "--split", "vol"},
        2,
        {"--split vol", "no such split", "did you mean 'val'"}},
       {"noEval",
        {"bench", "report", run, "--out", page, "--split", "val", "--no-eval"},
        2,
        {"--no-eval measures nothing"}},
       {"limit", {"bench", "report", run, "--out", page, "--limit", "-1"}, 2, {"--limit"}}},
      *dir_);
}

// What correlations want of all examples at once is a part of the budget.
TEST_F(RunReport, TargetsCountAgainstTheBudget) {
  constexpr int kRows = 4000, kColumns = 50;
  std::string table = "text", row;
  for (int k = 0; k < kColumns; ++k) table += fmt::format(",c{}", k), row += ",0.5";
  table += "\n";
  for (int i = 0; i < kRows; ++i) table += fmt::format("a,{}{}\n", i % 7, row.substr(4));
  fs::create_directory(At("wide"));
  for (const char* split : {"train", "dev"}) Spill(At("wide") + "/" + split + ".csv", table);
  std::string columns = "text,c0";
  for (int k = 1; k < kColumns; ++k) columns += fmt::format("|c{}", k);
  GraftJson({"train", "--model", *model_, "--data", At("wide"), "--columns", columns, "--task",
             "regression", "--method", "linear", "--limit", "64", "--epochs", "1", "--val-split",
             "none", "--out", At("wide_run")});
  const auto least = [&](const char* limit) {
    const Outcome o = Graft({"eval", "--run", At("wide_run"), "--data", At("wide"), "--split",
                             "dev", "--limit", limit, "--memory-budget", "1KiB"});
    EXPECT_EQ(o.code, 1) << o.err;
    return std::stod("0" + FirstMatch(o.err, "([0-9.]+) ?MiB"));
  };
  // Targets that the data hold, and both sides again.
  EXPECT_GT(least("4000") - least("40"), 3960.0 * kColumns * 12 / (1 << 20));
}

}  // namespace
}  // namespace graft::cli::cli_report_runs_test
