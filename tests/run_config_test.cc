// Schedules, and config.json read back.
#include <gtest/gtest.h>

#include "tests/test_util.h"
#include "train/run_config_json.h"

namespace graft::run_config_test {
namespace {

RunConfig Config(double lr, double warmup, const char* schedule = "cosine") {
  RunConfig config;
  config.lr = lr, config.warmup = warmup, config.schedule = schedule;
  return config;
}

std::vector<double> Rates(const RunConfig& config, int64_t steps) {
  std::vector<double> rates;
  for (int64_t i = 0; i < steps; ++i) rates.push_back(LearningRate(config, i, steps));
  return rates;
}

void ExpectRates(const RunConfig& config, const std::vector<double>& expected) {
  const std::vector<double> rates = Rates(config, std::ssize(expected));
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(rates[i], expected[i], 1e-12) << i;
}

TEST(LearningRate, WarmsUpThenFalls) {
  // cos(k pi / 8) for k = 0 .. 7, as Python prints (1 + cos) / 2.
  ExpectRates(Config(1, 0.2),
              {0.5, 1, 1, 0.9619397662556434, 0.8535533905932737, 0.6913417161825449, 0.5,
               0.3086582838174551, 0.1464466094067262, 0.0380602337443566});
  ExpectRates(Config(2, 0.2, "linear"), {1, 2, 2, 1.75, 1.5, 1.25, 1, 0.75, 0.5, 0.25});
  ExpectRates(Config(3, 0.5, "constant"), {1, 2, 3, 3, 3, 3, 3});
}

TEST(LearningRate, AtLeastOneWarmStepOrNone) {
  ExpectRates(Config(1, 0.1, "linear"), {1, 1, 0.75, 0.5, 0.25});
  ExpectRates(Config(1, 0, "linear"), {1, 0.75, 0.5, 0.25});
  ExpectRates(Config(1, 1), {0.5, 1});
  ExpectRates(Config(1, 0.1), {1});
}

// What every run has.
RunConfig AnyRun() {
  RunConfig c;
  c.model = "m", c.data = "d", c.train_split = "train", c.labels = {"cat", "dog"};
  c.lr = 1.0 / 3, c.seed = 7;
  return c;
}

TEST(RunConfig, IsReadBack) {
  const RunConfig c = AnyRun();
  EXPECT_EQ(ToJson(RunConfigFromJson(ToJson(c), "config.json")), ToJson(c));
}

TEST(RunConfig, BrokenFilesAreNamed) {
  const auto message = [](const nlohmann::json& json) {
    return MessageOf([&] { RunConfigFromJson(json, "r/config.json"); });
  };
  EXPECT_EQ(message(3), "r/config.json: expected an object, found number");
  nlohmann::json json = ToJson(AnyRun());
  json["epochs"] = "ten";
  EXPECT_EQ(message(json), "r/config.json: 'epochs' has the wrong type: \"ten\"");
  json["epochs"] = -1;
  EXPECT_NE(message(json).find("--epochs: expected 1 to"), std::string::npos) << message(json);
  json.erase("epochs");
  EXPECT_EQ(message(json),
            "r/config.json: no 'epochs'; the file is of another version or was edited");
}

TEST(ParseBytes, UnitsAndNonsense) {
  EXPECT_EQ(ParseBytes("1.5GiB"), size_t{3} << 29);
  EXPECT_EQ(ParseBytes("2e9"), 2'000'000'000u);
  EXPECT_EQ(ParseBytes("800MB"), 800'000'000u);
  for (const char* text : {"", "lots", "-1GiB", "0", "1 GiB", "1e30", "nan", "inf"})
    EXPECT_THROW(ParseBytes(text), Error) << text;
}

}  // namespace
}  // namespace graft::run_config_test
