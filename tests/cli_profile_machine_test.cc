// Tests what graft profile measures of the machine, keeps and reads again.
#include "tests/cli_testing.h"

namespace graft::cli::cli_profile_machine_test {
namespace {

using json = nlohmann::json;

// Every command of a test finds the rates in the test's own cache.
class ProfileMachine : public ::testing::Test {
 protected:
  ProfileMachine() { setenv("XDG_CACHE_HOME", At("cache").c_str(), 1); }
  ~ProfileMachine() override { unsetenv("XDG_CACHE_HOME"); }
  std::string At(const std::string& name) const { return dir_ / name; }

 private:
  TempDir dir_;
};

TEST_F(ProfileMachine, TheMachineIsMeasuredOnce) {
  const json first = GraftJson({"profile", "--machine"});
  ExpectKeys(first, {"peak_gflops", "peak_gflops_bf16", "peak_gflops_int8", "gb_per_second",
                     "threads", "isa", "cpu", "levels", "stored", "age_seconds"});
  EXPECT_EQ(first["levels"].back()["level"], "DRAM");
  for (const json& level : first["levels"]) EXPECT_GT(level["gb_per_second"], 0.1) << level;
  const fs::directory_iterator kept_files(At("cache/graft/machine"));
  const std::string file = kept_files->path();
  EXPECT_EQ(std::distance(kept_files, {}), 1);
  // A stored one that is far above what the machine can do is believed, and said to be far.
  json kept = json::parse(Slurp(file));
  kept["rates"]["peak_gflops"] = 1e6;
  for (json& level : kept["rates"]["levels"]) level["gb_per_second"] = 1e6;
  Spill(file, kept.dump());
  const json read = GraftJson({"profile", "--machine"});
  EXPECT_EQ(read["stored"], true);
  EXPECT_EQ(read["peak_gflops"], 1e6);
  EXPECT_NE(read["disturbances"].dump().find("of the peak now"), std::string::npos) << read;
  // One that is far below was measured on a busy machine; the others are kept.
  kept["rates"]["levels"][0]["gb_per_second"] = 1e-2;
  Spill(file, kept.dump());
  const json mended = GraftJson({"profile", "--machine"});  // measured, so not "stored"
  EXPECT_GT(mended["levels"][0]["gb_per_second"], 0.1);
  EXPECT_DOUBLE_EQ(mended["levels"][1]["gb_per_second"], 1e6);
  EXPECT_EQ(mended["peak_gflops"], 1e6);
  kept["rates"]["peak_gflops"] = 1e-2, Spill(file, kept.dump());
  EXPECT_EQ(GraftJson({"profile", "--machine"})["stored"], false);
  EXPECT_EQ(GraftJson({"profile", "--machine", "--refresh"})["stored"], false);
  EXPECT_NE(Slurp(file), kept.dump());
  // Other threads and other targets are other machines.
  EXPECT_EQ(GraftJson({"profile", "--machine", "--threads", "1", "--isa", "sse4"})["stored"],
            false);
}

// What it takes to measure the machine, some hundred MiB, is no memory of the model.
TEST_F(ProfileMachine, MemoryIsThatOfTheSteps) {
  if (!kMeasureMemory) GTEST_SKIP() << "what sanitizers have freed stays resident";
  if (!fs::exists("/proc/self/clear_refs")) GTEST_SKIP() << "no /proc/self/clear_refs";
  const Words profile{"profile", "--model", "init:vit_nano_patch8_32", "--steps", "1"};
  const double first = GraftJson(profile)["peak_memory_bytes"];
  const double second = GraftJson(profile)["peak_memory_bytes"];
  EXPECT_LT(first, second + double{16 << 20});
}

// OpenMP binds the main thread to the first core before the program begins. With a number of spins
// of the user's own, graft does not start itself again.
TEST_F(ProfileMachine, BoundThreadsHaveAllCores) {
  const json free = GraftJson({"profile", "--machine"});
  for (const char* spins : {"", "1000"}) {
    setenv("OMP_PROC_BIND", "true", 1);
    if (*spins) setenv("GOMP_SPINCOUNT", spins, 1);
    const json bound = GraftJson({"profile", "--machine"});
    unsetenv("OMP_PROC_BIND"), unsetenv("GOMP_SPINCOUNT");
    EXPECT_EQ(bound["threads"], free["threads"]) << spins;
  }
}

TEST_F(ProfileMachine, DamagedRatesAreMeasuredAnew) {
  GraftJson({"profile", "--machine"});
  const std::string file = fs::directory_iterator(At("cache/graft/machine"))->path();
  json good = json::parse(Slurp(file));
  // Rates that the machine does not reach now, as it would measure again if it did.
  good["rates"]["peak_gflops"] = 1e6;
  for (json& level : good["rates"]["levels"]) level["gb_per_second"] = 1e6;
  const auto stored = [&](const std::string& text) {
    Spill(file, text);
    return GraftJson({"profile", "--machine", "--threads", good["key"]["threads"].dump(), "--isa",
                      good["key"]["isa"]})["stored"];
  };
  EXPECT_EQ(stored(good.dump()), true);
  const auto with = [&](const char* key, const json& value) {
    json bad = good;
    bad["rates"][key] = value;
    return bad.dump();
  };
  json other = good;
  other["key"]["cpu"] = "another";
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), good.dump().substr(0, 100),
        with("peak_gflops", -1), with("peak_gflops", "fast"), with("levels", json::array()),
        with("levels", 3), with("levels", json{{{"level", "L9"}}}), other.dump()}) {
    EXPECT_EQ(stored(text), false) << text;
    EXPECT_EQ(json::parse(Slurp(file))["key"], good["key"]) << text;
  }
}

}  // namespace
}  // namespace graft::cli::cli_profile_machine_test
