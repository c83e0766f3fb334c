// Schedules, and config.json read back.
#include "tools/lib/run_config.h"

#include <gtest/gtest.h>

#include "tests/test_util.h"

namespace graft {
namespace {

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
  ExpectRates({.lr = 1, .warmup = 0.2},
              {0.5, 1, 1, 0.9619397662556434, 0.8535533905932737, 0.6913417161825449, 0.5,
               0.3086582838174551, 0.1464466094067262, 0.0380602337443566});
  ExpectRates({.lr = 2, .warmup = 0.2, .schedule = "linear"},
              {1, 2, 2, 1.75, 1.5, 1.25, 1, 0.75, 0.5, 0.25});
  ExpectRates({.lr = 3, .warmup = 0.5, .schedule = "constant"}, {1, 2, 3, 3, 3, 3, 3});
}

TEST(LearningRate, AtLeastOneWarmStepOrNone) {
  ExpectRates({.lr = 1, .warmup = 0.1, .schedule = "linear"}, {1, 1, 0.75, 0.5, 0.25});
  ExpectRates({.lr = 1, .warmup = 0, .schedule = "linear"}, {1, 0.75, 0.5, 0.25});
  ExpectRates({.lr = 1, .warmup = 1}, {0.5, 1});
  ExpectRates({.lr = 1, .warmup = 0.1}, {1});
}

TEST(RunConfig, IsReadBack) {
  const RunConfig c{.model = "m", .labels = {"cat", "dog"}, .lr = 1.0 / 3, .seed = 7};
  EXPECT_EQ(ToJson(RunConfigFromJson(ToJson(c), "config.json")), ToJson(c));
}

TEST(RunConfig, BrokenFilesAreNamed) {
  const auto message = [](const nlohmann::json& json) {
    return MessageOf([&] { RunConfigFromJson(json, "r/config.json"); });
  };
  EXPECT_EQ(message(3), "r/config.json: expected an object");
  nlohmann::json json = ToJson({.lr = 1});
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
}  // namespace graft
