// Tests graft bench report: the numbers of a page are those of the ledger, and nothing in it is
// code but ours.

#include "suites/ledger.h"
#include "tests/cli_mistakes_testing.h"
#include "tests/matches_testing.h"

namespace graft::cli::cli_report_test {
namespace {

class Report : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    for (const auto& [name, task] : {std::pair("cifar", "shapes"), {"eurosat", "color"}})
      MakeData(At("data") + "/" + name, task);
    GraftJson({"bench", "vtab", "--model", kNano, "--data", At("data"), "--methods", "linear",
               "lora(r=2)", "--epochs", "2", "--seeds", "2", "--out", At("suite")});
    GraftJson({"train", "--model", kNano, "--data", At("data") + "/cifar", "--method", "linear",
               "--epochs", "3", "--out", At("run")});
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static TempDir* dir_;
};
TempDir* Report::dir_ = nullptr;

size_t Count(const std::string& text, const std::string& what) {
  size_t count = 0;
  for (size_t at = text.find(what); at != text.npos; at = text.find(what, at + 1)) ++count;
  return count;
}

TEST_F(Report, ThePageHasTheNumbersOfTheLedger) {
  const nlohmann::json json = GraftJson({"bench", "report", At("suite"), "--out", At("r.html"),
                                         "--csv", At("u.csv"), "--latex", At("t.tex")});
  EXPECT_EQ(json["units"], 8);
  EXPECT_EQ(json["done"], 8);
  const std::string html = Slurp(At("r.html")), csv = Slurp(At("u.csv")), tex = Slurp(At("t.tex"));
  std::map<std::string, double> sums;
  for (const UnitRow& u : Ledger::Read(At("suite")).Units()) {
    const std::string score = nlohmann::json(u.score).dump();
    EXPECT_NE(html.find("data-value=\"" + score + "\""), std::string::npos) << u.task << score;
    EXPECT_NE(csv.find("," + score + ","), std::string::npos) << u.task << score;
    const std::string loss = u.metrics["loss"].dump();  // all digits of it, too
    EXPECT_NE(html.find("data-value=\"" + loss + "\""), std::string::npos) << u.task << loss;
    sums[u.task + " " + u.method] += u.score / 2;
  }
  EXPECT_EQ(sums.size(), 4u);
  for (const auto& [row, mean] : sums) {
    const std::string text = nlohmann::json(mean).dump();
    EXPECT_NE(html.find("data-value=\"" + text + "\""), std::string::npos) << row << " " << text;
    EXPECT_NE(tex.find(fmt::format("{:.1f} $\\pm$", 100 * mean)), std::string::npos) << row;
  }
  EXPECT_EQ(Count(csv, "\n"), 9u);
  // Of each task's best unit the six worst examples, as pictures.
  EXPECT_NE(html.find("The worst examples of each task"), std::string::npos);
  EXPECT_EQ(Count(html, "data:image/png;base64,"), 12u);
  EXPECT_NE(html.find("8 of 8 units are done"), std::string::npos);
  EXPECT_NE(html.find("svhn"), std::string::npos);  // which is missing
  // Nothing is loaded from elsewhere.
  EXPECT_EQ(FirstMatch(html, "(<(script|link|img)[^>]*(src|href)=\"(http|//))"), "");
  if (json["charts"].get<bool>()) {
    EXPECT_EQ(Count(html, "<canvas"), Count(html, "data-chart=\"chart"));
    EXPECT_GE(Count(html, "<canvas"), 2u);
    EXPECT_NE(html.find("MIT licence"), std::string::npos);
  }
}

// The JSON of every chart can be read, and is of the course of the run.
TEST_F(Report, ARunHasItsCourse) {
  GraftJson({"bench", "report", At("run"), "--out", At("run.html")});
  const std::string html = Slurp(At("run.html"));
  std::istringstream lines(Slurp(At("run") + "/metrics.jsonl"));
  int epochs = 0;
  for (std::string line; std::getline(lines, line); ++epochs) {
    const std::string loss = nlohmann::json::parse(line)["train_loss"].dump();
    EXPECT_NE(html.find("data-value=\"" + loss + "\""), std::string::npos) << loss;
  }
  EXPECT_EQ(epochs, 3);
  const auto charts =
      Matches(html, "<script type=\"application/json\" data-chart=\"[a-z0-9]+\">(.*?)</script>");
  for (const auto& chart : charts) {
    const nlohmann::json config = nlohmann::json::parse(chart[0]);
    for (const auto& set : config["data"]["datasets"]) EXPECT_EQ(set["data"].size(), 3u);
  }
  EXPECT_EQ(charts.size(), html.find("<canvas") == std::string::npos ? 0u : 4u);
}

// Names of methods, errors of files: whatever they hold is text.
TEST_F(Report, TextIsNoCode) {
  fs::copy(At("suite"), At("hostile"), fs::copy_options::recursive);
  {
    Ledger ledger = Ledger::OpenOrCreate(At("hostile"));
    UnitRow bad;
    bad.hash = std::string(64, 'a'), bad.task = "cifar", bad.group = "natural";
    bad.method = "</script><script>alert(1)</script>";
    ledger.Add({bad}, [](const UnitRow& u) { return u.hash; });
    UnitRow mine = *ledger.Claim({bad.hash}).unit;
    mine.state = UnitState::kFailed, mine.error = "<img src=x onerror=\"alert(2)\">, a \"file\"";
    ledger.Finish(mine);
  }
  const Outcome o = Graft({"bench", "report", At("hostile"), "--out", At("h.html"), "--csv",
                           At("h.csv"), "--latex", At("h.tex")});
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_NE((o.out + o.err).find("8 of 9 units are done"), std::string::npos) << o.out << o.err;
  const std::string html = Slurp(At("h.html"));
  EXPECT_EQ(html.find("<script>alert"), std::string::npos);
  EXPECT_EQ(html.find("<img src=x"), std::string::npos);
  EXPECT_NE(html.find("1 failed"), std::string::npos);
  EXPECT_NE(Slurp(At("h.csv")).find("a \"\"file\"\"\""), std::string::npos);
}

// Reads the mean ranks of a page, which are what has two digits behind the point.
std::vector<double> RanksOf(const std::string& html) {
  std::vector<double> ranks;
  for (const auto& cell :
       Matches(html, "<td class=\"number\" data-value=\"([0-9.]+)\">[0-9]\\.[0-9]{2}</td>"))
    ranks.push_back(std::stod(cell[0]));
  return ranks;
}

// A suite that goes on: what is done is shown as what it is, and ranks are of tasks that all have.
TEST_F(Report, OfAnUnfinishedSuite) {
  fs::copy(At("suite"), At("going"), fs::copy_options::recursive);
  {
    Ledger ledger = Ledger::OpenOrCreate(At("going"));
    UnitRow unit;
    unit.task = "cifar", unit.group = "natural";
    unit.hash = std::string(64, 'a'), unit.method = "linear", unit.seed = 7;
    ledger.Add({unit}, [](const UnitRow& u) { return u.hash; });
    unit.hash = std::string(64, 'b'), unit.method = "ssf", unit.seed = 0;
    ledger.Add({unit}, [](const UnitRow& u) { return u.hash; });
    UnitRow mine = *ledger.Claim({unit.hash}).unit;
    mine.state = UnitState::kDone, mine.score = 1;
    ledger.Finish(mine);
  }
  GraftJson({"bench", "report", At("going"), "--out", At("going.html")});
  const std::string html = Slurp(At("going.html"));
  EXPECT_NE(html.find("9 of 10 units are done; 1 to be done"), std::string::npos);
  EXPECT_NE(html.find(" (2 of 3)</td>"), std::string::npos);
  EXPECT_NE(html.find("Units that are not done"), std::string::npos);
  EXPECT_NE(html.find("Ranks are over the 1 of 2 tasks"), std::string::npos);
  const std::vector<double> three = RanksOf(html);
  ASSERT_EQ(three.size(), 3u);
  EXPECT_EQ(three[0] + three[1], 5);
  EXPECT_EQ(three[2], 1);
  GraftJson({"bench", "report", At("suite"), "--out", At("whole.html")});
  const std::string whole = Slurp(At("whole.html"));
  EXPECT_EQ(whole.find("Units that are not done"), std::string::npos);
  EXPECT_EQ(whole.find("Ranks are over"), std::string::npos);
  const std::vector<double> two = RanksOf(whole);
  ASSERT_EQ(two.size(), 2u);
  EXPECT_EQ(two[0] + two[1], 3);
}

TEST_F(Report, OfTheRunsBelowADirectory) {
  fs::create_directories(At("runs"));
  fs::copy(At("run"), At("runs/one"), fs::copy_options::recursive);
  fs::copy(At("run"), At("runs/two"), fs::copy_options::recursive);
  const Outcome o = Graft({"bench", "report", At("runs"), "--out", At("runs.html")});
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_NE(Slurp(At("runs.html")).find("runs/two"), std::string::npos);
}

TEST_F(Report, Mistakes) {
  ExpectMistakes(
      {{"none", {"bench", "report"}, 2, {"needs suites, searches or runs"}},
       {"noOut", {"bench", "report", At("suite")}, 2, {"--out FILE.html"}},
       {"nothing", {"bench", "report", At("none"), "--out", At("x")}, 1, {"no such directory"}},
       {"other", {"bench", "report", At("data"), "--out", At("x")}, 1, {"no suite"}},
       {"runCsv", {"bench", "report", At("run"), "--csv", At("x")}, 2, {"of suites"}},
       {"exists",
        {"bench", "report", At("run"), "--out", At("data") + "/cifar/train800.txt"},
        1,
        {"--force"}}},
      *dir_);
}

}  // namespace
}  // namespace graft::cli::cli_report_test
