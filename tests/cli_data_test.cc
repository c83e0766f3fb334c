// `graft data`, and training on data as people have them: tables, folders without splits, files
// that cannot be read.
#include "tests/cli_data_testing.h"

namespace graft::cli::cli_data_test {
namespace {

struct Checked {
  std::string name;
  Files files;
  int code;
  Words says;           // on standard output, and of the error on standard error
  nlohmann::json json;  // keys with their values
  Words more = {};      // arguments
};

// Rows "NAME i;i,5".
std::string DecimalCommas(int count, const std::string& name) {
  std::string text;
  for (int i = 0; i < count; ++i) text += fmt::format("{} {};{},5\n", name, i, i);
  return text;
}

TEST(CliData, CheckTells) {
  const std::string rows = Rows(6, ",");
  const Checked table[] = {
      {"a header",
       {{"train.csv", "sentence,is_positive\n" + rows}},
       0,
       {"train      6 texts, neg: 3, pos: 3", "no problem found"},
       {{"ok", true}, {"classes", 2}}},
      {"any header",
       {{"train.csv", "Was,Wie\n" + rows}, {"dev.csv", "Was,Wie\nx,pos\n"}},
       0,
       {"note: ", "train.csv:1: names the columns: 'Was' and the label 'Wie' are read",
        "split 'dev' has no example of 1 of the 2 classes: 'neg'"},
       {{"ok", true}}},
      {"a class that occurs once",
       {{"train.csv", "odd thing,rare\n" + rows}},
       1,
       {"train.csv:1: does this line name the columns", "--columns odd thing,rare",
        "--columns 1,2"},
       {{"ok", false}}},
      {"named",
       {{"train.csv", "Was,Wie\n" + rows}},
       0,
       {"6 texts"},
       {{"ok", true}},
       {"--columns", "Was,Wie"}},
      {"numbered",
       {{"train.csv", "pos,a film\nneg,b films\npos,a film b\n"}},
       0,
       {"train      3 texts, neg: 1, pos: 2"},
       {{"ok", true}},
       {"--columns", "2,1"}},
      {"the label first",
       {{"train.csv", "pos,a film\nneg,b films\npos,a film b\n"}},
       1,
       {"the label seems to stand first", "--columns 2,1"},
       {{"ok", false}}},
      {"bad rows",
       {{"train.csv", rows + "x,\ny\nz,nan\n"}},
       1,
       {"train.csv:7: the label is empty", "train.csv:8: expected 2 columns, found 1",
        "train.csv:9: the label is 'nan'", "3 rows are wrong, which the report above names"},
       {{"ok", false}}},
      {"hints once",
       {{"train.csv", rows + "x,\ny,\n"}},
       1,
       {"the label is empty\n    ", "\n    hint: --skip-bad leaves such rows out\nproblems found"},
       {{"ok", false}}},
      {"labels that are joined",
       {{"train.csv", "text,label\n" + rows + "x,pos|neg\n"}},
       0,
       {"'pos|neg' is one class; hint: --task multi-label"},
       {{"ok", true}}},
      {"numbers with a decimal comma",
       {{"train.csv", "text;score\n" + DecimalCommas(12, "train")}},
       0,
       {"12 of the 12 classes have a single example; hint: --task regression"},
       {{"ok", true}}},
      {"the same as numbers",
       {{"train.csv", "text;score\n" + DecimalCommas(12, "train")}},
       1,
       {"expected a number as 'score', found '0,5'", "hint: write decimals with a point"},
       {{"ok", false}},
       {"--task", "regression"}},
      {"texts of many splits in each other",
       {{"a.csv", rows},
        {"b.csv", rows},
        {"c.csv", rows},
        {"d.csv", rows},
        {"e.csv", rows},
        {"f.csv", rows}},
       1,
       {"... and 5 more pairs of splits that share texts"},
       {{"ok", false}}},
      {"images beside the classes",
       {{"cats/1.png", ""}, {"dogs/1.png", ""}, {"3.png", ""}, {"2.png", ""}},
       0,
       {"2 images beside the class folders are left out (the first is ", "2.png)", "1 per class, "},
       {{"ok", true}}},
      {"an empty class",
       {{"cats/1.png", ""}, {"dogs/1.png", ""}, {"birds/notes.txt", "x"}},
       1,
       {"found none; hint: remove the folder if it is no class"},
       {{"ok", false}}},
      {"one class",
       {{"train.csv", "a,pos\nb,pos\n"}},
       1,
       {"all 2 texts of split 'train' are of one class"},
       {{"ok", false}}},
      {"one class in a table by itself",
       {{"labels.csv", "text,label\na,pos\nb,pos\n"}},
       1,
       {"all 2 texts of split 'labels' are of one class"},
       {{"ok", false}}},
      {"numbers that are all the same",
       {{"train.csv", "text,score\na,1.5\nb,1.5\n"}},
       1,
       {"all 2 texts of split 'train' have the same targets"},
       {{"ok", false}},
       {"--task", "regression"}},
      {"a test set without labels",
       {{"train.csv", "id,text,label\n1,a film,pos\n2,a b,neg\n"}, {"test.csv", "id,text\n3,b\n"}},
       0,
       {"test.csv is left out: it has no column 'label'", "no problem found"},
       {{"ok", true}}},
      {"a new class in dev",
       {{"train.csv", rows}, {"dev.csv", "x,pos\ny,new\n"}},
       1,
       {"dev.csv:2: unknown label 'new'"},
       {{"ok", false}}},
      {"no such column",
       {{"train.csv", "Was,Wie\n" + rows}},
       1,
       {"train.csv:1: there is no column 'Wo'", "it has Was, Wie"},
       {{"ok", false}},
       {"--columns", "Was,Wo"}},
      {"columns without a usual name",
       {{"train.csv", "Opinion,Verdict,Stars\na,good,1\nb,bad,2\n"}},
       1,
       {"expected a column 'text', found Opinion, Verdict, Stars",
        "such as --columns Opinion,Stars"},
       {{"ok", false}}},
      {"many columns",
       {{"train.csv", "Nr;Kommentar;Bewertung;Datum\n1;a film;gut;heute\n2;b;schlecht;heute\n"}},
       1,
       {"expected 2 or 3 columns (text, second text, label), found 4 (Nr, Kommentar, Bewertung, "
        "Datum)",
        "--columns TEXT,LABEL, by these words"},
       {{"ok", false}}},
      {"a table of images that lie in a folder",
       {{"labels.csv", "file,label\n1.jpg,a\n2.jpg,b\n"},
        {"images/1.jpg", ""},
        {"images/2.jpg", ""}},
       0,
       {"labels     2 images, a: 1, b: 1",
        "note: split 'labels': its images are found in 'images/'"},
       {{"ok", true}, {"images", true}}},
      {"a table of images beside class folders",
       {{"labels.csv", "file,label\n1.png,a\n"}, {"a/1.png", ""}, {"b/2.png", ""}},
       0,
       {"a folder per class, 2 classes"},
       {{"ok", true}}},
      {"a table of images that are gone",
       {{"labels.csv", "file,label\n1.jpg,a\n2.jpg,b\none.png,b\n"}, {"1.jpg", ""}, {"2.jpgg", ""}},
       1,
       {"2.jpg, which does not exist; did you mean '", "/2.jpgg'?"},
       {{"ok", false}, {"images", true}}},
      {"folders",
       {{"Train/a/1.png", ""},
        {"Train/b/2.png", ""},
        {"Validation/a/3.png", ""},
        {"Train/b/._2.png", "x"},
        {"Train/.DS_Store", "x"}},
       0,
       {"Train           2 images", "split 'Validation' has no example of 1 of the 2",
        "no problem"},
       {{"ok", true}}},
      {"a folder of data sets",
       {{"x/cats/1.png", ""}, {"x/dogs/1.png", ""}, {"y/cats/1.png", ""}},
       1,
       {"as in a folder of data sets; hint: --data "},
       {{"ok", false}}},
      {"a split as a class",
       {{"training/1.png", ""}, {"cats/1.png", ""}, {"dogs/1.png", ""}},
       1,
       {"training: a split by its name"},
       {{"ok", false}}},
      {"everything at once",
       {{"train.txt", "a.png 1\nb.png\nbad.png 2\na.png 2\n"}, {"a.png", ""}, {"bad.png", "x"}},
       1,
       {"mistakes: 1", "train.txt:2: expected 'path label'", "unreadable images: 1",
        "pictures with two labels: 1", "a.png is 1, ", "labels begin at 1",
        "; the report above names them"},
       {{"ok", false}}},
  };
  const TempDir dir;
  for (const Checked& c : table) {
    SCOPED_TRACE(c.name);
    Fill(dir, c.name, c.files);
    Words args{"data", "check", dir / c.name};
    args.insert(args.end(), c.more.begin(), c.more.end());
    const Outcome o = Graft(args);
    EXPECT_EQ(o.code, c.code) << o.err;
    for (const std::string& word : c.says)
      EXPECT_NE((o.out + o.err).find(word), std::string::npos) << word << " in:\n"
                                                               << o.out << o.err;
    args.push_back("--json");
    const Outcome again = Graft(args);
    EXPECT_EQ(again.code, c.code);
    const nlohmann::json json = nlohmann::json::parse(again.out, nullptr, false);
    ASSERT_TRUE(json.is_object()) << again.out;
    ExpectKeys(json,
               {"data", "ok", "classes", "class_names", "splits", "problems", "overlaps", "notes"});
    for (const auto& [key, value] : c.json.items()) EXPECT_EQ(json[key], value) << key;
    EXPECT_TRUE(json["ok"] == json["problems"].empty() || json.contains("unreadable"));
  }
}

TEST(CliData, Folds) {
  const TempDir dir;
  Spill(dir / "reviews.csv", Rows(23, ",", "review,sentiment\n"));
  const nlohmann::json json =
      GraftJson({"data", "split", dir / "reviews.csv", "--folds", "5", "--out", dir / "folds/"});
  ASSERT_EQ(json["parts"].size(), 5u);
  std::string held;
  int all = 0;
  for (int k = 0; k < 5; ++k) {
    const nlohmann::json& part = json["parts"][k];
    const int train = part["train"], val = part["val"];
    EXPECT_EQ(train + val, 23);
    all += val;
    const std::string fold = dir / fmt::format("folds/fold{}", k + 1);
    EXPECT_EQ(part["directory"], fold);
    const nlohmann::json report = Graft({"data", "check", fold, "--json"}).json();
    EXPECT_EQ(report["ok"], true) << report;
    EXPECT_EQ(report["class_names"], nlohmann::json({"neg", "pos"}));
  }
  EXPECT_EQ(all, 23);
  // What is printed as the next command knows the task.
  Spill(dir / "scores.csv", "text,score\na,0.5\nb,1.5\nc,0.1\nd,2\ne,3\n");
  const Outcome o = Graft({"data", "split", dir / "scores.csv", "--task", "regression", "--holdout",
                           "0.4", "--out", dir / "scores"});
  EXPECT_NE(o.out.find(dir / "scores" + " --task regression --out"), std::string::npos) << o.out;
  Spill(dir / "two.csv", "text,score,length\na,0.5,1\nb,1.5,1\nc,0.1,2\nd,2,2\ne,3,3\n");
  const Outcome two = Graft({"data", "split", dir / "two.csv", "--task", "regression", "--columns",
                             "text,score|length", "--folds", "2", "--out", dir / "two"});
  EXPECT_NE(two.out.find("--task regression --columns 'text,score|length' --out"), two.out.npos)
      << two.out;
  // Rows that cannot be read are left out when asked.
  Spill(dir / "holes.csv", Rows(10, ",", "review,sentiment\n") + "what,\n");
  Words holes{"data", "split", dir / "holes.csv", "--holdout", "0.2", "--out", dir / "holes"};
  EXPECT_EQ(Graft(holes).code, 1);
  holes.emplace_back("--skip-bad");
  const Outcome left = Graft(holes);
  EXPECT_EQ(left.code, 0) << left.err;
  EXPECT_NE(left.out.find("note: left out: " + (dir / "holes.csv")), left.out.npos) << left.out;
  ExpectMistakes(
      {
          {"nothing",
           {"data", "split", "@reviews.csv", "--out", "@x"},
           2,
           {"--holdout", "--folds"}},
          {"both",
           {"data", "split", "@reviews.csv", "--folds", "2", "--holdout", "0.5", "--out", "@x"},
           2,
           {"--holdout", "--folds"}},
          {"one", {"data", "split", "@reviews.csv", "--folds", "1", "--out", "@x"}, 2, {"--folds"}},
          {"no out", {"data", "split", "@reviews.csv", "--folds", "2"}, 2, {"needs --out"}},
          {"there already",
           {"data", "split", "@reviews.csv", "--folds", "2", "--out", "@folds"},
           1,
           {"folds"}},
          {"too many folds",
           {"data", "split", "@reviews.csv", "--folds", "40", "--out", "@x"},
           1,
           {"--folds 40", "only 23 different examples"}},
          {"no such split",
           {"data", "split", "@reviews.csv", "--folds", "2", "--split", "dev", "--out", "@x"},
           1,
           {"no split 'dev'"}},
          {"no data", {"data", "split", "@none", "--folds", "2", "--out", "@x"}, 1, {"not exist"}},
      },
      dir);
}

TEST(CliData, SkipBad) {
  const TempDir dir;
  Files files;
  for (int i = 0; i < 20; ++i) files.emplace_back(fmt::format("train/{}/{}.png", i % 2, i), "");
  for (int i = 0; i < 6; ++i) files.emplace_back(fmt::format("test/{}/{}.png", i % 2, i), "");
  files.insert(files.end(), {{"train/0/bad.png", "no image"}, {"test/1/bad.jpg", "none either"}});
  Fill(dir, "data", files);
  const std::string data = dir / "data", run = dir / "run";
  ExpectRefused(TrainArgs(data, run), 1, "bad.png: expected an image");
  ExpectRefused(TrainArgs(data, run), 1, "hint: --skip-bad goes on without it");
  const nlohmann::json json = GraftJson(TrainArgs(data, run, {"--skip-bad"}));
  ASSERT_EQ(json["skipped"].size(), 1u);
  EXPECT_EQ(json["skipped"][0]["path"], data + "/train/0/bad.png");
  EXPECT_EQ(Config(run)["skip_bad"], true);
  // What a run leaves out, eval does, too; the held-out part is the same without the bad file.
  const nlohmann::json measured = GraftJson({"eval", "--run", run, "--data", data, "--skip-bad"});
  EXPECT_EQ(measured["n"], 6);
  EXPECT_EQ(measured["skipped"].size(), 1u);
  const std::string good = data + "/test/0/0.png", bad = data + "/test/1/bad.jpg";
  ExpectRefused({"predict", "--run", run, good, bad}, 1, "bad.jpg");
  const nlohmann::json predicted = GraftJson({"predict", "--run", run, bad, good, "--skip-bad"});
  ASSERT_EQ(predicted["predictions"].size(), 1u);
  EXPECT_EQ(predicted["predictions"][0]["input"], good);
  EXPECT_EQ(predicted["skipped"][0]["path"], bad);
  ExpectRefused({"predict", "--run", run, bad, "--skip-bad"}, 1, "bad.jpg");
  Spill(dir / "texts.csv", "review,stars\na b,1\nc d,2\n");
  ExpectRefused({"predict", "--run", run, dir / "texts.csv"}, 1,
                "texts.csv: expected names of images, found 'a b'");
}

TEST(CliData, SkipBadRows) {
  const TempDir dir;
  const std::string bert = MakeBert(dir);
  Spill(dir / "train.csv", Rows(12, ",") + "x,\ny\nz,nan\n");
  const Words args{"train",           "--model",  bert,        "--data",
                   dir / "train.csv", "--method", "lora(r=2)", "--out",
                   dir / "run",       "--epochs", "1"};
  ExpectRefused(args, 1, "train.csv:14: expected 2 columns, found 1; 3 rows of the file are wrong");
  Words more = args;
  more.push_back("--skip-bad");
  const nlohmann::json json = GraftJson(more);
  ASSERT_EQ(json["skipped"].size(), 3u);
  EXPECT_EQ(json["skipped"][1]["path"], dir / "train.csv:13");
  EXPECT_EQ(Config(dir / "run")["batch_size"], 16);  // of labelled texts, if nobody says
}

// A table to predict is read by the names that the training found, if it has them.
TEST(CliData, PredictKnowsTheColumnsOfTraining) {
  const TempDir dir;
  const std::string bert = MakeBert(dir), run = dir / "run";
  std::string rows = "Kommentar,Urteil\n";
  for (int i = 0; i < 12; ++i) rows += fmt::format("a film {},{}\n", i, i % 2 ? "gut" : "schlecht");
  Spill(dir / "train.csv", rows + "Kommentar,Urteil\n");
  const Words args{"train",    "--model",   bert,       "--data", dir / "train.csv",
                   "--method", "lora(r=2)", "--epochs", "1",      "--out",
                   run,        "--skip-bad"};
  ASSERT_EQ(Graft(args).code, 0);
  EXPECT_EQ(Config(run)["read_columns"], "Kommentar,Urteil");
  EXPECT_EQ(Config(run)["columns"], "");
  const auto inputs = [&](const std::string& file, const std::string& text) {
    Spill(dir / file, text);
    Words shown;
    const nlohmann::json json = GraftJson({"predict", "--run", run, dir / file});
    for (const auto& p : json["predictions"]) shown.push_back(p["input"]);
    return shown;
  };
  EXPECT_EQ(inputs("new.csv", "Nr,Kommentar\n7,a film\n"), Words{"a film"});
  EXPECT_EQ(inputs("new.jsonl", "{\"Kommentar\": \"a film\"}\n"), Words{"a film"});
  EXPECT_EQ(inputs("other.csv", "id,text\n7,a film\n"), Words{"a film"});
  // A run is repeated by its own config, whatever it has found.
  EXPECT_EQ(Graft({"train", "--config", run + "/config.json", "--out", dir / "again"}).code, 0);
}

TEST(CliData, NothingIsHeldOutOfOneExampleOfEach) {
  const TempDir dir;
  Fill(dir, "single", {{"a/1.png", ""}, {"b/2.png", ""}});
  const Outcome o = Graft(TrainArgs(dir / "single", dir / "run"));
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_NE(o.out.find("note: nothing is validated"), std::string::npos) << o.out;
  EXPECT_EQ(Config(dir / "run")["val_split"], "");
  // What comes next must work, and there is nothing to measure on.
  EXPECT_EQ(o.out.find("graft eval"), std::string::npos) << o.out;
  EXPECT_NE(o.out.find("next: graft fuse --run "), std::string::npos) << o.out;
}

// Training on what cannot be learnt from is refused with what there is.
TEST(CliData, TrainRefuses) {
  const TempDir dir;
  Fill(dir, "one", {{"a/1.png", ""}, {"a/2.png", ""}});
  Fill(dir, "list", {{"train.txt", "1.png 1\n2.png 1\n"}, {"1.png", ""}, {"2.png", ""}});
  Fill(dir, "single", {{"a/1.png", ""}, {"b/2.png", ""}});
  ExpectMistakes(
      {
          {"one folder",
           WithOptions(Train({}), {"--data", dir / "one"}),
           1,
           {"at least 2 classes"}},
          {"one label",
           WithOptions(Train({}), {"--data", dir / "list"}),
           1,
           {"at least 2 classes, found 1: all 2 examples of split 'train' are of '1'"}},
          {"one of each",
           WithOptions(Train({}), {"--data", dir / "single", "--holdout", "0.2"}),
           1,
           {"no part of the 2 examples of 'train' can be held out"}},
      },
      dir);
}

}  // namespace
}  // namespace graft::cli::cli_data_test
