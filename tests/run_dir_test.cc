// A run whose directory is moved, removed or replaced while it trains.
#include "train/run_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <set>

#include "adapters/adapter_file.h"
#include "runtime/io/atomic_file.h"
#include "tests/test_util.h"
#include "train/event_file.h"

namespace graft::run_dir_test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::set<std::string> FilesIn(const std::string& directory) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory))
    names.insert(entry.path().filename().string());
  return names;
}

RunConfig Config(const std::string& method) {
  RunConfig config;
  config.model = "init:vit_nano_patch8_32", config.data = "data", config.method = method;
  config.labels = {"a", "b"}, config.train_split = "train";
  return config;
}

struct Writer {
  const char* name;  // of the file
  std::function<void(RunDir&, const ParamStore&)> write;
};
const Writer kWriters[] = {
    {"state.safetensors",
     [](RunDir& dir, const ParamStore& p) { dir.SaveState(p, {"w"}, {.step = 3}); }},
    {"last.safetensors",
     [](RunDir& dir, const ParamStore& p) { dir.SaveWeights("last", p, {"w"}); }},
    {"best.safetensors",
     [](RunDir& dir, const ParamStore& p) { dir.SaveWeights("best", p, {"w"}); }},
    {"metrics.jsonl", [](RunDir& dir, const ParamStore&) { dir.AppendMetrics(R"({"step":3})"); }},
    {kEventFile, [](RunDir& dir, const ParamStore&) { dir.AppendMetrics(R"({"step":3})"); }},
    {"metrics.jsonl",
     [](RunDir& dir, const ParamStore&) {
       dir.AppendMetrics(R"({"step":3})");
       dir.TruncateMetrics(1);
     }},
    {"plan.json", [](RunDir& dir, const ParamStore&) { dir.Write("plan.json", "{}"); }},
    {"config.json", [](RunDir& dir, const ParamStore&) { dir.RecordBase("abc"); }},
    {"config.json", [](RunDir& dir, const ParamStore&) { dir.RecordExamples("abc", "abc"); }}};

class MovedRun : public ::testing::TestWithParam<Writer> {
 protected:
  MovedRun() { params_.Set("w", {2}, std::vector<float>{1, 2}); }
  std::string Write(RunDir& dir) const {
    return MessageOf([&] { GetParam().write(dir, params_); });
  }
  TempDir temp_;
  const std::string run_ = temp_ / "run", moved_ = temp_ / "moved";
  ParamStore params_;
};

TEST_P(MovedRun, WritesWhereItHasLocked) {
  RunDir dir = RunDir::Create(run_, Config("lora"));
  const std::string before = ReadFile(run_ + "/config.json", 1 << 20);
  fs::rename(run_, moved_);
  RunDir other = RunDir::Create(run_, Config("bitfit"));
  const std::string config = ReadFile(run_ + "/config.json", 1 << 20);
  const std::string message = Write(dir);
  EXPECT_TRUE(fs::exists(moved_ + "/" + GetParam().name));
  if (GetParam().name == std::string("config.json")) {
    EXPECT_NE(ReadFile(moved_ + "/config.json", 1 << 20), before);
  }
  EXPECT_EQ(FilesIn(run_), std::set<std::string>{"config.json"});
  EXPECT_EQ(ReadFile(run_ + "/config.json", 1 << 20), config);
  // The state comes last: only now the run ends.
  if (GetParam().name == std::string("state.safetensors")) {
    EXPECT_THAT(message, HasSubstr(run_ +
                                   ": the run directory was moved while it trained; the run "
                                   "ends, with its state in " +
                                   fs::canonical(moved_).string()));
  } else {
    EXPECT_EQ(message, "no error");
  }
}

TEST_P(MovedRun, IsNotMadeAgainWhereItWasRemoved) {
  for (const bool again : {false, true}) {
    RunDir dir = RunDir::Create(run_, Config("lora"));
    fs::remove_all(run_);
    if (again) fs::create_directory(run_);
    EXPECT_THAT(Write(dir), HasSubstr(run_ + ": the run directory was removed while it trained"));
    EXPECT_EQ(fs::exists(run_), again);
    if (again) {
      EXPECT_EQ(FilesIn(run_), std::set<std::string>{});
    }
    fs::remove_all(run_);
  }
}

INSTANTIATE_TEST_SUITE_P(Files, MovedRun, ::testing::ValuesIn(kWriters),
                         [](const auto& info) { return fmt::format("{}", info.index); });

TEST(RunDir, TakesBackItsOwnDirectoryOnly) {
  const TempDir temp;
  const std::string run = temp / "run", moved = temp / "moved";
  RunDir dir = RunDir::Create(run, Config("lora"));
  fs::rename(run, moved);
  fs::create_directory(run);
  dir.RemoveIfNothingSaved();
  EXPECT_TRUE(fs::exists(run));
  EXPECT_EQ(FilesIn(moved), std::set<std::string>{});
}

TEST(RunDir, ReadsNoOtherRunsState) {
  const TempDir temp;
  const std::string run = temp / "run", moved = temp / "moved";
  ParamStore params;
  params.Set("w", {2}, std::vector<float>{1, 2});
  { RunDir::Create(run, Config("lora")).SaveState(params, {"w"}, {.step = 3}); }
  RunDir dir = RunDir::Open(run);
  dir.Lock();
  fs::rename(run, moved);
  RunDir::Create(run, Config("lora")).SaveState(params, {"w"}, {.step = 9});
  Progress progress;
  EXPECT_THAT(MessageOf([&] { dir.LoadState(params, progress); }), HasSubstr("was moved"));
}

// A file of whole numbers was not written by a training.
TEST(LoadTrained, WantsFloatingPoint) {
  const TempDir dir;
  const std::string header = R"({"w":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}})";
  std::string file(8, '\0');
  file[0] = static_cast<char>(header.size());
  dir.Write("a.safetensors", file + header + std::string(8, '\1'));
  ParamStore params;
  params.Set("w", {2}, std::vector<float>{1, 2});
  EXPECT_THAT(MessageOf([&] { LoadAdapterTensors(dir / "a.safetensors", params); }),
              HasSubstr("'w' holds I32, expected floating-point numbers"));
}

}  // namespace
}  // namespace graft::run_dir_test
