// Tests --lr-find: the rate that a curve suggests, and the command.
#include "tools/lib/lr_find.h"

#include <cmath>

#include "tests/cli_mistakes_testing.h"

namespace graft::cli::lr_find_test {
namespace {

// Makes a curve that is flat, falls fastest at `fastest`, then rises.
std::vector<RatePoint> Curve(double fastest) {
  std::vector<RatePoint> points;
  for (int i = 0; i < 100; ++i) {
    const double lr = 1e-6 * std::pow(1e6, i / 99.0), x = std::log10(lr / fastest);
    points.push_back({lr, 2 - std::tanh(2 * x) + (x > 1 ? 4 * (x - 1) : 0)});
  }
  return points;
}

TEST(LrFind, SuggestsWhereTheLossFallsFastest) {
  for (const double fastest : {1e-4, 1e-3, 1e-2}) {
    const double found = SuggestRate(Curve(fastest));
    EXPECT_GT(found, fastest) << fastest;  // the mean lags behind
    EXPECT_LT(found, 5 * fastest) << fastest;
  }
  std::vector<RatePoint> rising;
  for (int i = 0; i < 50; ++i) rising.push_back({1e-6 * (i + 1), 1.0 + i});
  EXPECT_EQ(SuggestRate(rising), 0);
}

TEST(LrFind, SmoothsWithoutABiasToZero) {
  const std::vector<RatePoint> flat(20, {1e-3, 2.5});
  for (const double loss : SmoothLosses(flat)) EXPECT_NEAR(loss, 2.5, 1e-12);
}

TEST(LrFind, PlotMarksIt) {
  const std::vector<RatePoint> points = Curve(1e-3);
  const std::string plot = RatePlot(points, SuggestRate(points));
  EXPECT_EQ(std::ranges::count(plot, '<'), 1);
  EXPECT_EQ(std::ranges::count(plot, '\n'), 25);
}

TEST(LrFind, CommandSaysARateAndKeepsNothing) {
  const TempDir dir;
  MakeData(dir / "images");
  const Words args{"train",    "--model",   kNano,       "--data",       dir / "images",
                   "--method", "lora(r=2)", "--lr-find", "--batch-size", "8"};
  const nlohmann::json json = GraftJson(args);
  ASSERT_GT(json["points"].size(), 20u);
  EXPECT_LE(json["points"].size(), 100u);
  EXPECT_NEAR(json["points"][0]["lr"], 1e-6, 1e-12);
  double before = 0;
  for (const auto& point : json["points"]) {
    EXPECT_GT(point["lr"], before);
    before = point["lr"];
  }
  EXPECT_GT(json["suggestion"], 1e-6);
  EXPECT_EQ(std::distance(fs::directory_iterator(dir.path()), {}), 1);
  EXPECT_EQ(GraftJson(WithOptions(args, {"--threads", "1"}))["points"], json["points"]);
  const Outcome text = Graft(args);
  EXPECT_NE((text.out + text.err).find("falls fastest"), std::string::npos) << text.out;
  const auto refused = [&](Words more, const char* says) {
    Words all = args;
    all.insert(all.end(), more.begin(), more.end());
    const Outcome o = Graft(all);
    EXPECT_EQ(o.code, 2) << o.err;
    EXPECT_NE(o.err.find(says), std::string::npos) << o.err;
  };
  refused({"--lr", "1e-3"}, "--lr");
  refused({"--out", dir / "x"}, "--out");
  refused({"--seeds", "2"}, "--seeds");
}

// Features are made before the first step.
TEST(LrFind, OfFeaturesThatAreKept) {
  const TempDir dir;
  MakeData(dir / "images");
  const nlohmann::json json = GraftJson({"train", "--model", kNano, "--data", dir / "images",
                                         "--method", "linear", "--lr-find", "--batch-size", "8"});
  EXPECT_GT(json["points"].size(), 20u);
}

}  // namespace
}  // namespace graft::cli::lr_find_test
