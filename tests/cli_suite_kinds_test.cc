// Tests what graft bench few-shot, text and shift, and graft ablate train on and measure.
#include <set>

#include "suites/ledger.h"
#include "tests/cli_mistakes_testing.h"

namespace graft::cli::cli_suite_kinds_test {
namespace {

class Kinds : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(At("images"));
    MakePublished();
    MakeTexts("cola", 0), MakeTexts("sst2", 1);
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string At(const std::string& name) { return *dir_ / name; }

  // Lists of the published layout over the same pictures, with names that hold a blank.
  static void MakePublished() {
    fs::create_directories(At("lists/images"));
    std::map<int, Words> of;
    std::istringstream lines(Slurp(At("images/train800val200.txt")));
    std::string path;
    for (int label = 0, i = 0; lines >> path >> label; ++i) {
      const std::string name = fmt::format("image {}.png", i);
      fs::copy_file(At("images/" + path), At("lists/images/" + name));
      of[label].push_back(name);
    }
    const auto list = [&](const std::string& file, size_t from, size_t to) {
      std::string text;
      for (const auto& [label, names] : of)
        for (size_t i = from; i < to; ++i) text += fmt::format("{} {}\n", names.at(i), label);
      Spill(At("lists/" + file), text);
    };
    list("train_meta.list.num_shot_1.seed_0", 0, 1);
    list("train_meta.list.num_shot_1.seed_1", 1, 2);
    list("train_meta.list.num_shot_2.seed_0", 0, 2);
    list("val_meta.list", 2, 4), list("test_meta.list", 4, 6);
  }

  static void MakeTexts(const std::string& task, int shift) {
    fs::create_directories(At("texts/" + task));
    const Words words{"good fine great nice film", "bad poor dull weak film"};
    for (const auto& [split, rows] : {std::pair("train", 40), {"dev", 12}}) {
      std::string text;
      for (int i = 0; i < rows; ++i)
        text += fmt::format("{} number {} {}\t{}\n", words[(i + shift) % 2], i, split, i % 2);
      Spill(At("texts/" + task + "/" + split + ".tsv"), text);
    }
    std::string vocab = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
    for (const char* w : {"good", "fine", "great", "nice", "film", "bad", "poor", "dull", "weak"})
      vocab += std::string(w) + "\n";
    Spill(At("vocab.txt"), vocab);
  }

  static Words Bench(const Words& what, const std::string& out, const Words& more = {}) {
    Words args{"bench"};
    args.insert(args.end(), what.begin(), what.end());
    for (const char* word : {"--epochs", "1", "--batch-size", "8", "--methods", "linear"})
      args.push_back(word);
    args.insert(args.end(), {"--out", At(out)});
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  static Words FewShot(const std::string& data, const std::string& out, const Words& more) {
    return Bench({"few-shot", "--model", kNano, "--data", At(data)}, out, more);
  }
  static std::vector<UnitRow> Units(const std::string& suite) {
    return Ledger::Read(At(suite)).Units();
  }
  // Reads the names and labels that the unit trained on.
  static std::multiset<std::string> TrainedOn(const std::string& suite, const UnitRow& u) {
    const nlohmann::json config =
        nlohmann::json::parse(Slurp(At(suite + "/" + u.run + "/config.json")));
    std::istringstream lines(Slurp(config["data"].get<std::string>() + "/" +
                                   config["train_split"].get<std::string>() + ".txt"));
    std::multiset<std::string> names;
    for (std::string line; std::getline(lines, line);)
      names.insert(line.substr(line.rfind('/') + 1));
    return names;
  }
  static std::multiset<std::string> LinesOf(const std::string& file) {
    std::istringstream lines(Slurp(At(file)));
    std::multiset<std::string> names;
    for (std::string line; std::getline(lines, line);) names.insert(line);
    return names;
  }
  static TempDir* dir_;
};
TempDir* Kinds::dir_ = nullptr;

// Whether lists are drawn, converted or the data set's own.
TEST_F(Kinds, TestExamplesThatAreTrainedOnAreNoted) {
  fs::copy(At("lists"), At("leaks"), fs::copy_options::recursive);
  fs::copy_file(At("leaks/train_meta.list.num_shot_1.seed_0"), At("leaks/test_meta.list"),
                fs::copy_options::overwrite_existing);
  fs::copy(At("images"), At("leaking"), fs::copy_options::recursive);
  fs::copy_file(At("leaking/train800val200.txt"), At("leaking/test.txt"),
                fs::copy_options::overwrite_existing);
  for (const char* data : {"leaks", "leaking", "lists", "images"}) {
    const Outcome o = Graft(FewShot(data, "noted", {"--shots", "1", "--dry-run"}));
    EXPECT_EQ(o.code, 0) << o.err;
    EXPECT_EQ((o.out + o.err).find("shares 8 images with training split") != std::string::npos,
              data[0] == 'l' && data[1] == 'e')
        << data << o.out;
  }
}

TEST_F(Kinds, DrawnShotsAreBalancedNestedAndOfTheSeed) {
  const nlohmann::json json =
      GraftJson(FewShot("images", "drawn", {"--shots", "1,2,all", "--seeds", "2"}));
  EXPECT_EQ(json["units"], 6);
  EXPECT_EQ(json["results"].size(), 3u);
  std::map<std::string, std::multiset<std::string>> trained;
  for (const UnitRow& u : Units("drawn")) {
    trained[fmt::format("{} {}", u.options["shots"].dump(), u.seed)] = TrainedOn("drawn", u);
    EXPECT_EQ(u.metrics["n"], 24);
  }
  EXPECT_EQ(trained["1 0"].size(), 8u);
  EXPECT_EQ(trained["2 0"].size(), 16u);
  EXPECT_EQ(trained["\"all\" 0"].size(), 48u);
  EXPECT_NE(trained["1 0"], trained["1 1"]);
  EXPECT_TRUE(std::ranges::includes(trained["2 0"], trained["1 0"]));
  std::map<std::string, int> classes;
  for (const std::string& line : trained["2 1"]) ++classes[line.substr(line.rfind(' '))];
  EXPECT_EQ(classes.size(), 8u);
  for (const auto& [label, count] : classes) EXPECT_EQ(count, 2) << label;
}

TEST_F(Kinds, PublishedListsAreReadAsTheyAre) {
  const nlohmann::json json = GraftJson(
      FewShot("lists", "published", {"--shots", "1", "--seeds", "2", "--select", "lr=1e-3|1e-2"}));
  EXPECT_EQ(json["units"], 4);
  for (const UnitRow& u : Units("published")) {
    EXPECT_EQ(TrainedOn("published", u),
              LinesOf(fmt::format("lists/train_meta.list.num_shot_1.seed_{}", u.seed)));
    EXPECT_EQ(u.metrics["n"], 16);
    EXPECT_EQ(u.protocol, fmt::format("num_shot_1.seed_{} > {}_meta", u.seed,
                                      u.phase == "choice" ? "val" : "test"));
  }
}

TEST_F(Kinds, ShiftMeasuresDropsAndMasks) {
  // The other domain has two of the eight classes, in the other order: its classes 0 and 1 are the
  // model's 5 and 2.
  fs::create_directories(At("few"));
  fs::copy(At("images/images"), At("few/images"), fs::copy_options::recursive);
  std::string list;
  std::istringstream lines(Slurp(At("images/test.txt")));
  std::string path;
  for (int label = 0; lines >> path >> label;)
    if (label == 5 || label == 2) list += fmt::format("{} {}\n", path, label == 5 ? 0 : 1);
  Spill(At("few/test.txt"), list);
  Spill(At("mask.txt"), "5\n2\n");
  fs::copy(At("images"), At("same"), fs::copy_options::recursive);
  const nlohmann::json json = GraftJson(
      Bench({"shift", "--model", kNano, "--train", At("images"), "--test", At("same"), At("few")},
            "shift", {"--mask", "few=" + At("mask.txt"), "--seeds", "2", "--lr", "1e-2"}));
  ASSERT_EQ(json["results"].size(), 1u);
  const nlohmann::json& result = json["results"][0];
  ASSERT_EQ(result["targets"].size(), 2u);
  EXPECT_EQ(result["targets"][0]["name"], "same");
  EXPECT_EQ(result["targets"][0]["accuracy"], result["mean"]);
  EXPECT_EQ(result["targets"][0]["drop"], 0);
  // The table says from what the drop with a mask is.
  const Outcome page = Graft({"bench", "report", At("shift"), "--latex", At("shift.tex")});
  EXPECT_EQ(page.code, 0) << page.err;
  std::istringstream rows(Slurp(At("shift.tex")));
  std::string row;
  while (std::getline(rows, row) && row.find("few &") == row.npos) {
  }
  const std::string home = row.substr(row.find("few &") + 6);
  const std::string there = home.substr(0, home.find(" &"));
  EXPECT_EQ(home.find(" & " + there + " & "), there.size()) << row;
  for (const UnitRow& u : Units("shift")) {
    const nlohmann::json& few = u.metrics["targets"][1];
    // The pictures and the two classes are the same, so home and there agree.
    EXPECT_EQ(few["n"], std::count(list.begin(), list.end(), '\n'));
    EXPECT_EQ(few["source_n"], few["n"]);
    EXPECT_EQ(few["accuracy"], few["source_accuracy"]);
    EXPECT_EQ(few["drop"], 0);
    // What predict says of these pictures, among these two classes.
    int64_t right = 0, n = 0;
    std::istringstream again(list);
    for (int label = 0; again >> path >> label; ++n) {
      const nlohmann::json top =
          GraftJson({"predict", "--run", At("shift/" + u.run), "--top", "8", "--preprocess",
                     "vtab,resize=32", At("images/" + path)})["predictions"][0]["top"];
      for (const nlohmann::json& one : top)
        if (one["class"] == 5 || one["class"] == 2) {
          right += one["class"] == (label == 0 ? 5 : 2);
          break;
        }
    }
    EXPECT_EQ(few["accuracy"], static_cast<double>(right) / static_cast<double>(n));
    break;
  }
}

// The last command says which domains there are; a unit of others is none of its seeds.
TEST_F(Kinds, ShiftOfOtherDomains) {
  for (const char* name : {"here", "there"})
    fs::copy(At("images"), At(name), fs::copy_options::recursive);
  const auto targets = [&](const Words& domains) {
    Words words{"shift", "--model", kNano, "--train", At("images"), "--test"};
    for (const std::string& domain : domains) words.push_back(At(domain));
    const nlohmann::json json = GraftJson(Bench(words, "joining"));
    Words names;
    for (const nlohmann::json& target : json["results"][0]["targets"]) {
      names.push_back(target["name"]);
      EXPECT_EQ(target["accuracy"], json["results"][0]["mean"]);
    }
    EXPECT_EQ(json["results"][0]["units"], 1);
    return names;
  };
  EXPECT_EQ(targets({"here", "there"}), (Words{"here", "there"}));
  EXPECT_EQ(targets({"here"}), (Words{"here"}));
  EXPECT_EQ(targets({"there", "here"}), (Words{"there", "here"}));
}

// Names of classes on one side and numbers as names on the other say nothing of which is which.
TEST_F(Kinds, ShiftComparesNames) {
  fs::copy(At("images"), At("digits"), fs::copy_options::recursive);
  const auto shift = [&](const std::string& classes) {
    Spill(At("digits/classes.txt"), classes);
    return Graft(Bench({"shift", "--model", kNano, "--train", At("images"), "--test", At("digits")},
                       "digit-shift", {"--dry-run"}));
  };
  const Outcome o = shift("0\n1\n2\n3\n4\n5\n6\n7\n");
  EXPECT_EQ(o.code, 1) << o.out;
  EXPECT_NE(o.err.find(At("digits") + ": names its classes '0' and the like, " + At("images")),
            std::string::npos)
      << o.err;
  EXPECT_EQ(shift(Slurp(At("images/classes.txt"))).code, 0);
  fs::remove(At("digits/classes.txt"));
}

TEST_F(Kinds, TextsHaveTheMetricOfTheirTask) {
  const nlohmann::json json = GraftJson(
      Bench({"text", "--model", kNanoBert, "--tokenizer", At("vocab.txt"), "--data", At("texts")},
            "text", {"--shots", "4,all", "--select", "lr=1e-3|1e-2", "--max-length", "16"}));
  EXPECT_EQ(json["units"], 2 * 2 * 3);
  for (const nlohmann::json& r : json["results"])
    EXPECT_EQ(r["metric"], r["task"] == "cola" ? "matthews" : "accuracy");
  std::set<std::string> protocols;
  for (const UnitRow& u : Units("text")) {
    protocols.insert(u.protocol);
    EXPECT_EQ(u.score, u.metrics[u.metric]);
    // A fifth of the 40 serves to choose, or 4 others of the 2 classes.
    EXPECT_EQ(u.metrics["n"], u.phase == "choice" ? 8 : 12);
  }
  EXPECT_EQ(protocols,
            (std::set<std::string>{"train (4 a class) > dev", "train (4 a class) > others of it",
                                   "train (all) > dev", "train (all) > others of it"}));
}

TEST_F(Kinds, AnAblationHasARowForEveryCombination) {
  const Words args{"ablate",
                   "--model",
                   kNano,
                   "--data",
                   At("images"),
                   "--method",
                   "adaptformer(r=2)",
                   "--over",
                   "act=none|relu",
                   "--over",
                   "lr=1e-3|1e-2",
                   "--epochs",
                   "1",
                   "--batch-size",
                   "16",
                   "--seeds",
                   "2",
                   "--out",
                   At("ablate")};
  const nlohmann::json json = GraftJson(args);
  EXPECT_EQ(json["kind"], "ablate");
  EXPECT_EQ(json["units"], 8);
  ASSERT_EQ(json["results"].size(), 4u);
  EXPECT_EQ(json["results"][1]["options"], (nlohmann::json{{"act", "none"}, {"lr", "1e-2"}}));
  for (const UnitRow& u : Units("ablate")) {
    EXPECT_EQ(u.protocol, "train800 > val200");
    const nlohmann::json config =
        nlohmann::json::parse(Slurp(At("ablate/" + u.run + "/config.json")));
    EXPECT_EQ(config["lr"], u.options["lr"] == "1e-3" ? 1e-3 : 1e-2);
    EXPECT_NE(
        config["method"].get<std::string>().find("act=" + u.options["act"].get<std::string>()),
        std::string::npos);
  }
  EXPECT_NE(Graft(args).out.find("adaptformer(r=2), act=relu, lr=1e-2"), std::string::npos);
  const nlohmann::json test =
      GraftJson(WithOptions(args, {"--split", "test", "--out", At("ablate-test"), "--seeds", "1"}));
  for (const UnitRow& u : Units("ablate-test")) EXPECT_EQ(u.protocol, "train800val200 > test");
}

// What is finished is found again where the ledger is lost.
TEST_F(Kinds, ALostLedgerIsMadeAgainFromTheRuns) {
  const Words args = FewShot("images", "lost", {"--shots", "1"});
  const nlohmann::json before = GraftJson(args);
  fs::remove(At("lost/ledger.sqlite"));
  const auto runs = Listing(At("lost/runs"));
  const nlohmann::json after = GraftJson(args);
  EXPECT_EQ(after["results"][0]["scores"], before["results"][0]["scores"]);
  EXPECT_EQ(after["results"][0]["trainable_parameters"],
            before["results"][0]["trainable_parameters"]);
  EXPECT_TRUE(Written(runs, At("lost/runs")).empty());
}

TEST_F(Kinds, Mistakes) {
  const auto few = [](const Words& options, const std::string& data = "@images") {
    return WithOptions({"bench", "few-shot", "--model", kNano, "--data", data, "--methods",
                        "linear", "--shots", "1", "--out", "@fresh"},
                       options);
  };
  const auto shift = [](const std::string& test, const Words& options = {}) {
    return WithOptions({"bench", "shift", "--model", kNano, "--train", "@images", "--methods",
                        "linear", "--out", "@fresh", "--test", test},
                       options);
  };
  const auto ablate = [](const Words& options) {
    return WithOptions({"ablate", "--model", kNano, "--data", "@images", "--method",
                        "adaptformer(r=2)", "--over", "act=none|relu", "--out", "@fresh"},
                       options);
  };
  fs::copy(At("lists"), At("torn"), fs::copy_options::recursive);
  Spill(At("torn/train_meta.list.num_shot_1.seed_0"), "image 0.png 0\nimage 1.png\n");
  fs::copy(At("lists"), At("gone"), fs::copy_options::recursive);
  Spill(At("gone/test_meta.list"), "image 0.png 0\nimage none.png 1\n");
  fs::copy(At("lists"), At("half"), fs::copy_options::recursive);
  fs::remove(At("half/test_meta.list"));
  MakeData(At("color"), "color");
  fs::create_directories(At("three"));
  Spill(At("three/test.txt"), "a.png 0\nb.png 1\nc.png 2\n");
  fs::copy(At("images"), At("renamed"), fs::copy_options::recursive);
  std::string names = Slurp(At("renamed/classes.txt"));
  Spill(At("renamed/classes.txt"), "other" + names);
  for (const auto& [task, labels] :
       {std::pair("scores", "0.5 1.25"), {"prices", "300000 450000"}}) {
    fs::create_directories(At(std::string("targets/") + task));
    const std::string first(labels, std::string_view(labels).find(' '));
    const std::string second = labels + first.size() + 1;
    for (const char* split : {"train", "dev"})
      Spill(At(fmt::format("targets/{}/{}.csv", task, split)),
            fmt::format("text,label\n{0} good,{1}\n{0} bad,{2}\n", split, first, second));
  }
  fs::create_directories(At("targets/tags"));
  for (const char* split : {"train", "dev"})
    Spill(At(fmt::format("targets/tags/{}.jsonl", split)),
          fmt::format("{{\"text\": \"{0} a\", \"label\": [\"x\", \"y\"]}}\n{{\"text\": \"{0} b\", "
                      "\"label\": []}}\n",
                      split));
  const auto text = [](const std::string& task) {
    return Words{"bench",     "text",   "--model", kNanoBert, "--data", "@targets/" + task,
                 "--methods", "linear", "--out",   "@fresh"};
  };
  Spill(At("one.txt"), "1\n2\n"), Spill(At("far.txt"), "1\n2\n3\n4\n5\n6\n7\n999\n");
  Spill(At("word.txt"), "1\nx\n"), Spill(At("twice.txt"), "1\n1\n");
  ExpectMistakes(
      {{"no shots",
        {"bench", "few-shot", "--model", kNano, "--data", "@images", "--methods", "linear", "--out",
         "@fresh"},
        2,
        {"needs --shots"}},
       {"shots", few({"--shots", "1,x"}), 2, {"--shots: expected numbers", "'x'"}},
       {"shots twice", few({"--shots", "2,2"}), 2, {"'2' is there twice"}},
       {"no list", few({"--shots", "4"}, "@lists"), 1, {"num_shot_4.seed_0", "num_shot_2.seed_0"}},
       {"all of lists", few({"--shots", "all"}, "@lists"), 1, {"--shots all"}},
       {"torn list", few({}, "@torn"), 1, {"num_shot_1.seed_0:2", "expected 'name label'"}},
       {"missing image", few({}, "@gone"), 1, {"test_meta.list:2", "image none.png", "--images"}},
       {"no test list", few({}, "@half"), 1, {"test_meta.list", "no such list"}},
       {"images", few({"--images", "@color"}, "@lists"), 1, {":1: names the image", "color"}},
       {"no data", few({}, "@none"), 1, {"does not exist"}},
       {"text of images",
        {"bench", "text", "--model", kNano, "--data", "@images", "--methods", "linear", "--out",
         "@fresh"},
        1,
        {"no labelled texts"}},
       {"numbers", text("scores"), 1, {"'0.5' is no class", "a suite measures one class"}},
       {"quantities", text("prices"), 1, {"'300000'", "a suite measures one class"}},
       {"several labels", text("tags"), 1, {"--task multi-label", "a suite measures one class"}},
       {"no test",
        {"bench", "shift", "--model", kNano, "--train", "@images", "--methods", "linear", "--out",
         "@fresh"},
        2,
        {"needs --test"}},
       {"other number of classes", shift("@three"), 1, {"has 3 classes", "has 8", "--mask"}},
       {"classes of another task", shift("@color"), 1, {"other classes", "'red'"}},
       {"other classes", shift("@renamed"), 1, {"other classes", "renamed"}},
       {"texts", shift("@texts/sst2"), 1, {"holds texts"}},
       {"mask of none", shift("@color", {"--mask", "colour=@x"}), 2, {"'color'"}},
       {"short mask",
        shift("@color", {"--mask", "color=" + At("one.txt")}),
        1,
        {"its class mask 2"}},
       {"mask of words", shift("@color", {"--mask", "color=" + At("word.txt")}), 1, {":2", "'x'"}},
       {"mask twice", shift("@color", {"--mask", "color=" + At("twice.txt")}), 1, {"twice"}},
       {"no over",
        {"ablate", "--model", kNano, "--data", "@images", "--out", "@fresh"},
        2,
        {"needs --over"}},
       {"over", ablate({"--over", "rank=2|4"}), 2, {"neither a training option nor one of"}},
       {"one choice", ablate({"--over", "act=relu"}), 2, {"leaves no choice"}},
       {"value", ablate({"--over", "act=none|rleu"}), 2, {"act", "'rleu'"}},
       {"split", ablate({"--split", "tset"}), 1, {"no split 'tset'"}},
       {"trained on", ablate({"--split", "train800"}), 2, {"is what is trained on"}}},
      *dir_);
}

}  // namespace
}  // namespace graft::cli::cli_suite_kinds_test
