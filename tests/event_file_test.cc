#include "train/event_file.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "runtime/io/atomic_file.h"
#include "tests/event_file_testing.h"
#include "tests/test_util.h"
#include "train/run_dir.h"

namespace graft::event_file_test {
namespace {

namespace fs = std::filesystem;

nlohmann::json Line(int64_t step) {
  return {{"epoch", step / 7},
          {"step", step},
          {"train_loss", 1.0 / static_cast<double>(step)},
          {"val_macro_f1", -0.25},
          {"lr", 1e-3},
          {"seconds", 0.5},
          {"val_mean_class_accuracy", 0}};
}

// RFC 3720, appendix B.4, has these of CRC-32C before the mask.
TEST(EventFile, ChecksumsAreThoseOfTheStandard) {
  const auto masked = [](uint32_t crc) { return std::rotr(crc, 15) + 0xa282ead8u; };
  std::string rising;
  for (char c = 0; c < 32; ++c) rising += c;
  EXPECT_EQ(MaskedCrc32c(std::string(32, '\0')), masked(0x8a9136aa));
  EXPECT_EQ(MaskedCrc32c(std::string(32, '\xff')), masked(0x62a8ab43));
  EXPECT_EQ(MaskedCrc32c(rising), masked(0x46dd794e));
  EXPECT_EQ(MaskedCrc32c("123456789"), masked(0xe3069283));
}

TEST(EventFile, ALineBecomesScalarsByGroup) {
  const std::vector<Event> events =
      ReadEvents(EventFileStart(5) + EventRecord(Line(1'000'000'007), 6));
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1].step, 1'000'000'007);
  EXPECT_EQ(events[1].wall_time, 6);
  EXPECT_EQ(events[1].scalars.at("val/mean_class_accuracy"), 0);
  EXPECT_EQ(events[1].scalars.at("val/macro_f1"), -0.25f);
  EXPECT_EQ(events[1].scalars.count("train/loss"), 1u);
  EXPECT_EQ(events[1].scalars.at("lr"), 1e-3f);
}

// What is no number of a step gives no point.
TEST(EventFile, OtherLinesGiveNothing) {
  EXPECT_EQ(EventRecord({{"epoch", 1}}, 1), "");
  EXPECT_EQ(EventRecord({{"step", "3"}}, 1), "");
  EXPECT_EQ(EventRecord(nlohmann::json::array({1}), 1), "");
  const std::vector<Event> events =
      ReadEvents(EventRecord({{"step", 3}, {"val_loss", nullptr}, {"note", "x"}}, 1));
  EXPECT_TRUE(events.at(0).scalars.empty());
  EXPECT_EQ(ReadEvents(EventFile("no json\n{\"step\":1}\n", {}, 1)).size(), 2u);
}

TEST(EventFile, TimesOfADamagedFileAreThoseBeforeIt) {
  const std::string start = EventFileStart(5), first = EventRecord(Line(7), 6),
                    second = EventRecord(Line(300), 7);
  const std::string whole = start + first + second;
  EXPECT_EQ(EventTimes(whole), (std::map<int64_t, double>{{7, 6}, {300, 7}}));
  for (size_t cut = 0; cut < whole.size(); ++cut) {
    const size_t left = cut >= start.size() + first.size() ? 1 : 0;
    EXPECT_EQ(EventTimes(whole.substr(0, cut)).size(), left) << cut;
    std::string damaged = whole;
    damaged[cut] = static_cast<char>(damaged[cut] ^ 0x10);
    EXPECT_EQ(EventTimes(damaged).size(), left) << cut;
  }
  EXPECT_TRUE(EventTimes(std::string(100, '\xff')).empty());
}

class EventsOfARun : public ::testing::Test {
 protected:
  EventsOfARun() {
    RunConfig config;
    config.model = "init:vit_nano_patch8_32", config.data = "data", config.method = "lora";
    dir_.emplace(RunDir::Create(run_, config));
    for (const int64_t step : {7, 14, 21}) dir_->AppendMetrics(Line(step).dump());
  }
  std::string Read(const std::string& name) { return ReadFile(run_ + "/" + name, 1 << 20); }
  void ExpectEvents(size_t lines) {
    const std::string metrics = Read("metrics.jsonl");
    EXPECT_EQ(static_cast<size_t>(std::ranges::count(metrics, '\n')), lines);
    ExpectEventsOf(metrics, Read(kEventFile));
  }
  TempDir temp_;
  const std::string run_ = temp_ / "run";
  std::optional<RunDir> dir_;
};

TEST_F(EventsOfARun, AreItsMetrics) { ExpectEvents(3); }

TEST_F(EventsOfARun, AResumeDoublesAndLosesNone) {
  const std::vector<Event> before = ReadEvents(Read(kEventFile));
  dir_->TruncateMetrics(16);
  ExpectEvents(2);
  EXPECT_EQ(ReadEvents(Read(kEventFile)).at(2).wall_time, before.at(2).wall_time);
  dir_->AppendMetrics(Line(21).dump());
  ExpectEvents(3);
}

TEST_F(EventsOfARun, AreMadeAnewWhereTheyAreTornOrMissing) {
  const std::string whole = Read(kEventFile);
  temp_.Write("run/" + std::string(kEventFile), whole.substr(0, whole.size() - 3));
  dir_->TruncateMetrics(21);
  ExpectEvents(3);
  fs::remove(run_ + "/" + kEventFile);
  dir_->TruncateMetrics(21);
  ExpectEvents(3);
  fs::remove(run_ + "/metrics.jsonl");
  dir_->TruncateMetrics(21);
  EXPECT_FALSE(fs::exists(run_ + "/" + kEventFile));
}

}  // namespace
}  // namespace graft::event_file_test
