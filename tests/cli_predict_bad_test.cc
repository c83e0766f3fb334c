// Tests that a bad input among good ones is a row of its own, or none if that is asked for.
#include <cmath>

#include "tests/cli_predict_testing.h"

namespace graft::cli::cli_predict_bad_test {
namespace {

TEST_F(Predict, ABadImageIsARow) {
  const std::string csv = At("mixed.csv"), npy = At("mixed.npy");
  const Outcome o = Graft({"predict", "--run", At("run"), At("mixed"), At("gone.png"), "--out", csv,
                           "--logits", npy, "--json"});
  EXPECT_EQ(o.code, 1);
  EXPECT_NE(o.err.find("graft: 4 of 21 inputs could not be read; the first: " + At("mixed/00.png")),
            std::string::npos)
      << o.err;
  EXPECT_TRUE(o.err.ends_with("; hint: --skip-bad goes on without it\n")) << o.err;
  const nlohmann::json json = o.json();  // one object
  EXPECT_EQ(json["n"], 21);
  EXPECT_EQ(json["failed"], 4);
  const std::vector<Words> rows = ParseCsv(Slurp(csv));
  ASSERT_EQ(rows.size(), 22u);
  EXPECT_EQ(rows[0],
            (Words{"input", "file", "row", "class", "name", "probability", "logit", "error"}));
  const NpyRows logits = NpyRows::Open(npy);
  ASSERT_EQ(logits.shape(), (std::vector<int64_t>{21, 8}));
  for (int i = 0; i < 21; ++i) {
    SCOPED_TRACE(i);
    const Words& row = rows[static_cast<size_t>(i) + 1];
    const nlohmann::json& p = json["predictions"][i];
    const bool bad = i == 0 || i == 7 || i >= 19;
    const std::string path = i == 20 ? At("gone.png") : At(fmt::format("mixed/{:02}.png", i));
    EXPECT_EQ(row[0], path);
    EXPECT_EQ(p.contains("error"), bad);
    EXPECT_EQ(row.back().empty(), !bad);
    EXPECT_EQ(row.back().find("--skip-bad"), std::string::npos) << row.back();
    float values[8];
    logits.Read(i, values);
    EXPECT_EQ(std::isnan(values[0]), bad);
    if (bad) {
      EXPECT_NE(row.back().find(path), std::string::npos);
      EXPECT_EQ(row[3], "");
      continue;
    }
    // As it is alone.
    const nlohmann::json top = Images({path})[0]["top"][0];
    EXPECT_EQ(row[3], top["class"].dump());
    EXPECT_EQ(row[4], top["name"]);
    EXPECT_EQ(p["top"][0]["class"], top["class"]);
    EXPECT_NEAR(std::stod(row[5]), top["probability"].get<double>(), 1e-6);
    EXPECT_NEAR(std::stod(row[6]), values[top["class"].get<size_t>()], 1e-6);
  }
}

TEST_F(Predict, NoRowForWhatIsPassedOver) {
  const std::string csv = At("good.csv"), npy = At("good.npy");
  const Outcome o = Graft(
      {"predict", "--run", At("run"), At("mixed"), "--out", csv, "--logits", npy, "--skip-bad"});
  EXPECT_EQ(o.code, 0) << o.err;
  EXPECT_NE(o.out.find(csv + ": 17 predictions\n"), std::string::npos) << o.out;
  const std::vector<Words> rows = ParseCsv(Slurp(csv));
  const NpyRows logits = NpyRows::Open(npy);
  for (int i = 0; i < logits.shape()[0]; ++i) {
    float values[8];
    logits.Read(i, values);
    EXPECT_NEAR(std::stod(rows.at(i + 1)[6]), values[std::stoi(rows.at(i + 1)[3])], 1e-6) << i;
  }
}

// The bad ones may be in any of several batches.
TEST_F(Predict, BadImagesAmongMany) {
  constexpr int kImages = 1200, kKinds = 17;
  fs::create_directories(At("many"));
  const auto bad = [](int i) { return i % 400 == 399; };
  for (int i = 0; i < kImages; ++i) {
    const std::string path = At(fmt::format("many/{:04}.png", i));
    if (bad(i))
      Spill(path, "no image");
    else
      fs::create_hard_link(At(fmt::format("data/images/test/{:06}.png", i % kKinds)), path);
  }
  const Outcome o = Graft({"predict", "--run", At("run"), At("many"), "--top", "1", "--json"});
  EXPECT_EQ(o.code, 1);
  const nlohmann::json predictions = o.json()["predictions"];
  ASSERT_EQ(predictions.size(), size_t{kImages});
  for (int i = 0; i < kImages; ++i) {
    const nlohmann::json& p = predictions[i];
    ASSERT_EQ(p.contains("error"), bad(i)) << i;
    if (!bad(i)) {
      const nlohmann::json& first = predictions[i % kKinds];
      ASSERT_EQ(p["top"][0]["class"], first["top"][0]["class"]) << i;
      ASSERT_NEAR(p["top"][0]["logit"], first["top"][0]["logit"].get<double>(), 1e-4) << i;
    }
  }
}

TEST_F(Predict, ABadRowIsARow) {
  Spill(At("bad.csv"), "text,label\na b,1\nc d\ne f,0\n");
  Spill(At("bad.jsonl"), "{\"text\": \"a\"}\n{\"txt\": \"b\"}\nnonsense\n{\"text\": \"c\"}\n");
  Spill(At("bad.txt"), "a\tb\tc\nd\n");
  Spill(At("latin.txt"), "caf\xe9\n");
  struct Row {
    std::string name;
    std::vector<bool> bad;
    std::string says;
  };
  const Row rows[] = {{"bad.csv", {false, true, false}, "bad.csv:3: expected 2 columns, found 1"},
                      {"bad.jsonl", {false, true, true, false}, "bad.jsonl:2: "},
                      {"bad.txt", {true, false}, "bad.txt:1: expected a text, or two"},
                      {"latin.txt", {true}, "latin.txt"}};
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    const Outcome o =
        Graft({"predict", "--run", At("text_run"), "--text", "fine", At(row.name), "--json"});
    EXPECT_EQ(o.code, 1) << o.err;
    const nlohmann::json predictions = o.json()["predictions"];
    ASSERT_EQ(predictions.size(), row.bad.size() + 1);
    bool said = false;
    for (size_t i = 0; i < row.bad.size(); ++i) {
      const nlohmann::json& p = predictions[i + 1];
      EXPECT_EQ(p.contains("error"), row.bad[i]) << p;
      EXPECT_EQ(p.contains("top"), !row.bad[i]) << p;
      if (row.name != "latin.txt") {
        EXPECT_EQ(p["row"], i + 1);
      }
      if (row.bad[i]) said |= p["error"].get<std::string>().find(row.says) != std::string::npos;
    }
    EXPECT_TRUE(said) << predictions;
  }
}

}  // namespace
}  // namespace graft::cli::cli_predict_bad_test
