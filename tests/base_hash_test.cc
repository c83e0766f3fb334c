// The cache of base hashes is used while the file is the same, is never wrong, and never stands in
// the way.
#include "adapters/base_hash.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <span>
#include <thread>
#include <vector>

#include "runtime/io/sha256.h"
#include "tests/test_util.h"

namespace graft::base_hash_test {
namespace {

namespace fs = std::filesystem;

std::string Sha256Of(std::string_view text) { return Sha256Hex(std::as_bytes(std::span(text))); }

class BaseHashCache : public ::testing::Test {
 protected:
  BaseHashCache() { setenv("XDG_CACHE_HOME", (dir_ / "cache").c_str(), 1); }
  ~BaseHashCache() override { unsetenv("XDG_CACHE_HOME"); }
  // A file whose change time is old enough to be trusted. There is no way to set that time.
  std::string OldFile(const char* name, const char* text) {
    dir_.Write(name, text);
    std::this_thread::sleep_for(std::chrono::milliseconds(2100));
    return dir_ / name;
  }
  std::vector<fs::path> Entries() const {
    std::vector<fs::path> entries;
    if (fs::exists(dir_ / "cache/graft/sha256"))
      for (const auto& e : fs::directory_iterator(dir_ / "cache/graft/sha256"))
        entries.push_back(e.path());
    return entries;
  }
  TempDir dir_;
};

TEST_F(BaseHashCache, KeepsAHashUntilTheFileChanges) {
  const std::string file = OldFile("model.safetensors", "first");
  EXPECT_EQ(KnownBaseHash(file), std::nullopt);
  EXPECT_EQ(BaseHash(file), Sha256Of("first"));
  EXPECT_EQ(KnownBaseHash(file), Sha256Of("first"));
  ASSERT_EQ(Entries().size(), 1u);
  // The content is another one of the same size, and the modification time is put back.
  struct stat s;
  ASSERT_EQ(stat(file.c_str(), &s), 0);
  dir_.Write("model.safetensors", "other");
  const timespec times[] = {s.st_atim, s.st_mtim};
  ASSERT_EQ(utimensat(AT_FDCWD, file.c_str(), times, 0), 0);
  EXPECT_EQ(KnownBaseHash(file), std::nullopt);
  EXPECT_EQ(BaseHash(file), Sha256Of("other"));
}

TEST_F(BaseHashCache, ReadsTheEntryInsteadOfTheFile) {
  const std::string file = OldFile("model.safetensors", "text");
  BaseHash(file);
  ASSERT_EQ(Entries().size(), 1u);
  std::string entry;
  std::ifstream kept(Entries()[0]);
  std::getline(kept, entry);
  const std::string marked(64, 'a');
  entry.replace(entry.find(Sha256Of("text")), 64, marked);
  std::ofstream(Entries()[0]) << entry;
  EXPECT_EQ(BaseHash(file), marked);
}

TEST_F(BaseHashCache, DamagedEntriesAreNoEntries) {
  const std::string file = OldFile("model.safetensors", "text");
  BaseHash(file);
  ASSERT_EQ(Entries().size(), 1u);
  for (const char* damage : {"", "{", "[]", "{\"sha256\":\"xyz\"}", "\xff\xfe"}) {
    std::ofstream(Entries()[0]) << damage;
    EXPECT_EQ(BaseHash(file), Sha256Of("text")) << damage;
  }
}

TEST_F(BaseHashCache, AYoungFileIsNotKept) {
  dir_.Write("model.safetensors", "young");
  EXPECT_EQ(BaseHash(dir_ / "model.safetensors"), Sha256Of("young"));
  EXPECT_TRUE(Entries().empty());
}

TEST_F(BaseHashCache, WorksWithoutAPlaceForIt) {
  const std::string file = OldFile("model.safetensors", "text");
  dir_.Write("file", "");
  const std::string home = std::getenv("HOME") ? std::getenv("HOME") : "";
  for (const std::string& cache : {std::string("/proc/nothing"), dir_ / "file", std::string()}) {
    setenv("XDG_CACHE_HOME", cache.c_str(), 1);
    setenv("HOME", "relative", 1);
    EXPECT_EQ(BaseHash(file), Sha256Of("text")) << cache;
    EXPECT_EQ(KnownBaseHash(file), std::nullopt) << cache;
  }
  setenv("HOME", home.c_str(), 1);
}

TEST_F(BaseHashCache, RandomWeightsHaveNone) {
  EXPECT_EQ(BaseHash("init:vit_nano_patch8_32"), "");
  EXPECT_EQ(KnownBaseHash("init:vit_nano_patch8_32"), "");
}

TEST_F(BaseHashCache, ThreadsMayAskAtOnce) {
  const std::string file = OldFile("model.safetensors", "text");
  std::vector<std::thread> threads;
  std::vector<std::string> hashes(8);
  for (std::string& hash : hashes) threads.emplace_back([&] { hash = BaseHash(file); });
  for (std::thread& t : threads) t.join();
  for (const std::string& hash : hashes) EXPECT_EQ(hash, Sha256Of("text"));
}

}  // namespace
}  // namespace graft::base_hash_test
