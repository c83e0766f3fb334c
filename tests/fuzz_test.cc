// Runs every fuzz target on its seeds and on some thousand changes of them, which are always the
// same. There is no coverage and there are no sanitizers here (scripts/fuzz.sh has both), but every
// build runs it.
#include <gtest/gtest.h>

#include <filesystem>

#include "fuzz/driver.h"
#include "fuzz/mutator.h"
#include "runtime/io/atomic_file.h"
#include "tests/test_util.h"

namespace graft::fuzz {
namespace {

namespace fs = std::filesystem;
const std::string kFuzz = std::string(GRAFT_SOURCE_DIR) + "/fuzz/";

class FuzzTarget : public ::testing::TestWithParam<Target> {};

TEST_P(FuzzTarget, TakesDamagedFiles) {
  const std::string name = GetParam().name;
  Options options;
  options.seeds = {kFuzz + "corpus/" + name};
  options.dictionary = kFuzz + "dictionaries/" + name + ".dict";
  // Where the next run of the test does not lose it.
  options.artifact = fs::read_symlink("/proc/self/exe").parent_path() / ("crash-" + name);
  options.runs = 2000;
  const Result result = RunTarget(GetParam(), options);
  EXPECT_EQ(result.runs, options.runs);
  EXPECT_GE(result.seeds, 3u);
}
INSTANTIATE_TEST_SUITE_P(All, FuzzTarget, ::testing::ValuesIn(Targets()),
                         [](const auto& info) { return std::string(info.param.name); });

// A target that has a fault behind two conditions.
int Faulty(const uint8_t* data, size_t size) {
  if (size > 3 && data[0] == 'G' && data[size - 1] == 0xFF) throw std::runtime_error("found");
  return 0;
}

int Hanging(const uint8_t*, size_t size) {
  for (volatile size_t i = 0; size > 0;) i = i + 1;
  return 0;
}

int Hungry(const uint8_t*, size_t size) {
  static std::vector<std::string> kept;
  if (size > 0) kept.emplace_back(300 << 20, 'x');
  return 0;
}

TEST(Fuzz, FindsFaultsAndSavesTheInput) {
  const TempDir dir;
  dir.Write("seeds/a", "Graft");
  Options options;
  options.seeds = {dir / "seeds"}, options.runs = 100000, options.artifact = dir / "crash";
  const Target faulty{"faulty", Faulty}, hanging{"hanging", Hanging}, hungry{"hungry", Hungry};
  EXPECT_DEATH(RunTarget(faulty, options),
               "found\nfuzz: the input is in .*crash; again: fuzz faulty");
  const std::string input = ReadFile(options.artifact, 1 << 20);
  EXPECT_THROW(Faulty(reinterpret_cast<const uint8_t*>(input.data()), input.size()),
               std::runtime_error);
  options.input_seconds = 1;
  EXPECT_DEATH(RunTarget(hanging, options), "takes too long\nfuzz: the input is in");
  options.memory_mib = 256;
  EXPECT_DEATH(RunTarget(hungry, options), "MiB of memory\nfuzz: the input is in");
}

TEST(Fuzz, MutationsAreReproducible) {
  const auto changed = [](uint64_t seed) {
    Mutator mutator(seed, {"word"});
    std::string text = "{\"number\": 17, \"other\": [1, 2, 3]}";
    for (int i = 0; i < 100; ++i) text = mutator.Mutate(text, "other text", {}, 200);
    return text;
  };
  EXPECT_EQ(changed(1), changed(1));
  EXPECT_NE(changed(1), changed(2));
  EXPECT_LE(changed(1).size(), 200u);
}

TEST(Fuzz, DictionariesAreThoseOfLibFuzzer) {
  const TempDir dir;
  dir.Write("words", "# a comment\n\nname=\"a\\\"b\\\\\"\n\"\\x00\\xffz\"\n");
  EXPECT_EQ(ReadDictionary(dir / "words"),
            (std::vector<std::string>{"a\"b\\", std::string("\0\xffz", 3)}));
  dir.Write("broken", "ok=\"1\"\nword\n");
  EXPECT_NE(MessageOf([&] { ReadDictionary(dir / "broken"); }).find("broken:2"), std::string::npos);
}

}  // namespace
}  // namespace graft::fuzz
