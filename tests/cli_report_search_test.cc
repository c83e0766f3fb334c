// Tests graft bench report of searches and ablations: the points of its charts are the candidates
// and units of their files, and what has not ended or is damaged is said.

#include "suites/ledger.h"
#include "tests/cli_mistakes_testing.h"
#include "tests/matches_testing.h"

namespace graft::cli::cli_report_search_test {
namespace {

using nlohmann::json;

// The configurations of the charts of a page that have this title.
std::vector<json> ChartsOf(const std::string& html, const std::string& title) {
  std::vector<json> charts;
  const std::string begin = "<script type=\"application/json\" data-chart=\"";
  for (size_t at = html.find(begin); at != html.npos; at = html.find(begin, at + 1)) {
    const size_t open = html.find('>', at) + 1, close = html.find("</script>", open);
    const json chart = json::parse(html.substr(open, close - open));
    if (chart["options"]["plugins"]["title"]["text"] == title) charts.push_back(chart);
  }
  return charts;
}

class SearchReport : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir;
    MakeData(At("data"));
    for (const auto& [name, more] : {std::pair("bred", Words{}), {"drawn", {"--random", ""}}})
      GraftJson(WithOptions({"search",
                             "--model",
                             kNano,
                             "--data",
                             At("data"),
                             "--space",
                             "lora(r={0|2|4},targets=attn.*)+adaptformer(r={0|3})",
                             "--epochs",
                             "2",
                             "--batch-size",
                             "16",
                             "--population",
                             "6",
                             "--generations",
                             "2",
                             "--mutations",
                             "3",
                             "--crossovers",
                             "2",
                             "--top",
                             "3",
                             "--out",
                             At(name)},
                            more));
  }
  static void TearDownTestSuite() { delete dir_; }
  static std::string At(const std::string& name) { return *dir_ / name; }
  static json Report(const Words& directories, std::string* html) {
    Words args{"bench", "report", "--out", At("page.html"), "--force", "--no-eval"};
    for (const std::string& name : directories) args.push_back(At(name));
    const json report = GraftJson(args);
    *html = Slurp(At("page.html"));
    return report;
  }
  static json Candidates(const std::string& run) {
    return json::parse(Slurp(At(run) + "/candidates.json"));
  }
  static TempDir* dir_;
};
TempDir* SearchReport::dir_ = nullptr;

TEST_F(SearchReport, EveryCandidateIsInOneChart) {
  std::string html;
  const json report = Report({"bred", "drawn"}, &html);
  EXPECT_EQ(report["searches"], 2);
  EXPECT_EQ(report["runs"], 0);
  EXPECT_EQ(report["notes"], json::array());
  for (const char* run : {"bred", "drawn"})
    for (const json& c : Candidates(run))
      for (const json& number : {c["parameters"], c["val_accuracy"], c["val_loss"]})
        EXPECT_NE(html.find("data-value=\"" + json(number.get<double>()).dump() + "\""),
                  std::string::npos)
            << number;
  if (!report["charts"].get<bool>()) return;
  const auto charts = ChartsOf(html, "accuracy over numbers that train besides the head");
  ASSERT_EQ(charts.size(), 1u);
  const json& sets = charts[0]["data"]["datasets"];
  ASSERT_EQ(sets.size(), 4u);
  for (size_t i = 0; i < 2; ++i) {
    const json list = Candidates(i == 0 ? "bred" : "drawn");
    ASSERT_EQ(sets[2 * i]["data"].size(), list.size());
    size_t front = 0;
    for (size_t k = 0; k < list.size(); ++k) {
      EXPECT_EQ(sets[2 * i]["data"][k]["x"], list[k]["parameters"]);
      EXPECT_EQ(sets[2 * i]["data"][k]["y"], 100 * list[k]["val_accuracy"].get<double>());
      front += list[k]["front"].get<bool>();
    }
    EXPECT_EQ(sets[2 * i + 1]["data"].size(), front);
    EXPECT_EQ(sets[2 * i]["tone"], sets[2 * i + 1]["tone"]);
  }
  // The curve of the best so far never falls, and ends at the best.
  const json best = ChartsOf(html, "the best so far")[0]["data"]["datasets"][0]["data"];
  double before = 0, most = 0;
  for (const json& point : best) {
    EXPECT_GE(point["y"], before);
    before = point["y"];
  }
  for (const json& c : Candidates("bred"))
    most = std::max(most, 100 * c["val_accuracy"].get<double>());
  EXPECT_EQ(before, most);
}

TEST_F(SearchReport, HasTheChoices) {
  std::string html;
  Report({"bred"}, &html);
  std::string method = Slurp(At("bred") + "/METHOD");
  method.pop_back();
  EXPECT_NE(html.find("<dd>" + method + "</dd>"), std::string::npos);
  EXPECT_NE(html.find("<pre>" + Slurp(At("bred") + "/choices.txt")), std::string::npos);
  EXPECT_NE(html.find("alt=\"the choices at each place\""), std::string::npos);
  EXPECT_NE(html.find("weights are those of the supernet"), std::string::npos);
  EXPECT_NE(html.find("what the search found, as a run"), std::string::npos);
}

// What --resume trained belongs to the page, and which weights are the best.
TEST_F(SearchReport, OfASearchThatWasTrainedOn) {
  fs::copy(At("bred"), At("trained"));
  GraftJson({"train", "--resume", At("trained")});
  std::string html;
  Report({"trained"}, &html);
  const std::string metrics = Slurp(At("trained") + "/metrics.jsonl");
  const json line = json::parse(metrics.substr(0, metrics.find('\n')));
  EXPECT_NE(html.find("data-value=\"" + line["train_loss"].dump() + "\""), std::string::npos);
  const json summary = json::parse(Slurp(At("trained") + "/summary.json"));
  EXPECT_EQ(html.find("No epoch is better than the weights of the supernet") != html.npos,
            summary["best_epoch"].is_null());
  EXPECT_EQ(html.find("weights are those of the supernet"), std::string::npos);
}

// Candidates of other spaces say nothing of each other.
TEST_F(SearchReport, OtherSpacesStandApart) {
  GraftJson({"search", "--model", kNano, "--data", At("data"), "--space",
             "lora(r={0|2},targets=attn.q)", "--epochs", "1", "--population", "3", "--generations",
             "0", "--out", At("other")});
  std::string html;
  Report({"bred", "other"}, &html);
  EXPECT_EQ(html.find("Searches of one space"), std::string::npos);
  EXPECT_NE(html.find("lora(r={0|2},targets=attn.q)"), std::string::npos);
  Report({"bred", "drawn"}, &html);
  EXPECT_NE(html.find("Searches of one space"), std::string::npos);
}

struct Damage {
  const char* name;
  std::function<void(const std::string& search)> spoil;
  Words says;
  size_t candidates;
};

TEST_F(SearchReport, WhatIsNotThereIsSaid) {
  const auto edit = [](const std::string& file, const std::string& line) {
    Spill(file, Slurp(file) + line);
  };
  const std::vector<Damage> damages{
      {"ends_early",
       [](auto& s) {
         for (const char* file : {"METHOD", "choices.txt", "choices.svg", "candidates.json"})
           fs::remove(s + "/" + file);
       },
       {"has not ended: 18 of at most 18", "graft search --resume"},
       18},
      {"begun",
       [](auto& s) {
         for (const char* file : {"METHOD", "candidates.jsonl", "supernet.jsonl", "seconds.json"})
           fs::remove(s + "/" + file);
       },
       {"has not ended: 0 of at most 18"},
       0},
      {"lines",
       [&](auto& s) {
         edit(s + "/candidates.jsonl", "{\"genes\":[1],\"parameters\":\"many\"}\n{broken\n");
         edit(s + "/supernet.jsonl", "7\n");
       },
       {"3 damaged lines"},
       18},
      {"seconds",
       [](auto& s) { Spill(s + "/seconds.json", "{\"candidates\":1e300,\"supernet\":[]}"); },
       {},
       18},
      {"picture",
       [](auto& s) {
         Spill(s + "/choices.svg", "<svg><script>alert(1)</script></svg>");
         Spill(s + "/choices.txt", "<script>alert(2)</script>");
         Spill(s + "/METHOD", "<script>alert(3)</script>\n");
       },
       {},
       18}};
  for (const Damage& d : damages) {
    SCOPED_TRACE(d.name);
    fs::copy(At("bred"), At(d.name));
    d.spoil(At(d.name));
    std::string html;
    const json report = Report({d.name}, &html);
    std::string notes;
    for (const json& note : report["notes"]) notes += note.get<std::string>();
    for (const std::string& says : d.says) {
      EXPECT_NE(notes.find(says), std::string::npos) << notes;
      EXPECT_NE(html.find(says), std::string::npos);
    }
    EXPECT_EQ(notes.empty(), d.says.empty()) << notes;
    EXPECT_EQ(html.find("<script>alert"), std::string::npos);
    const bool all = html.find(fmt::format("All {} candidates", d.candidates)) != html.npos;
    EXPECT_EQ(all, d.candidates > 0);
  }
}

TEST_F(SearchReport, Mistakes) {
  fs::copy(At("bred"), At("spoilt"));
  Spill(At("spoilt") + "/search.json", "{\"space\": 1}");
  fs::copy(At("bred"), At("configless"));
  Spill(At("configless") + "/config.json", "{");
  ExpectMistakes(
      {{"search", {"bench", "report", At("spoilt"), "--out", At("x")}, 1, {"search.json"}},
       {"config", {"bench", "report", At("configless"), "--out", At("x")}, 1, {"config.json"}},
       {"csv", {"bench", "report", At("bred"), "--csv", At("x")}, 2, {"of suites"}}},
      *dir_);
}

TEST_F(SearchReport, AnAblationHasItsAxes) {
  GraftJson({"ablate", "--model", kNano, "--data", At("data"), "--method", "adaptformer(r=2)",
             "--over", "act=none|relu,lr=1e-4|1e-2", "--seeds", "2", "--epochs", "1", "--out",
             At("ablation")});
  std::string html;
  const json report = Report({"ablation"}, &html);
  std::map<std::string, std::pair<double, int>> values;  // by option and value: sum, count
  for (const UnitRow& u : Ledger::Read(At("ablation")).Units())
    for (const auto& [option, value] : u.options.items()) {
      auto& [sum, count] = values[option + "=" + value.get<std::string>()];
      sum += u.score, ++count;
    }
  ASSERT_EQ(values.size(), 4u);
  const auto rows = Matches(
      html,
      "<tr><td>(act|lr)</td><td[^>]*>([^<]*)</td><td class=\"number\" data-value=\"2.0\">2</td>"
      "<td class=\"number\" data-value=\"([^\"]+)\">");
  for (const auto& row : rows) {
    const auto& [sum, count] = values.at(row[0] + "=" + row[1]);
    EXPECT_NEAR(std::stod(row[2]), sum / count, 1e-12) << row[0] << " " << row[1];
  }
  EXPECT_EQ(rows.size(), 4u);
  if (!report["charts"].get<bool>()) return;
  const json lr = ChartsOf(html, "accuracy over lr").at(0), act = ChartsOf(html, "act").at(0);
  EXPECT_EQ(lr["type"], "scatter");
  EXPECT_EQ(lr["options"]["scales"]["x"]["type"], "logarithmic");
  ASSERT_EQ(lr["data"]["datasets"].size(), 2u);
  for (const json& set : lr["data"]["datasets"]) {
    EXPECT_EQ(set["data"][0]["x"], 1e-4);
    EXPECT_EQ(set["data"][1]["x"], 1e-2);
    EXPECT_TRUE(set["data"][0].contains("spread"));
  }
  EXPECT_EQ(act["type"], "bar");
  EXPECT_EQ(act["data"]["labels"], json::parse(R"(["none", "relu"])"));
}

}  // namespace
}  // namespace graft::cli::cli_report_search_test
