// A base that changes while it is in use.
#include "adapters/base_watch.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <functional>

#include "adapters/base_hash.h"
#include "runtime/io/mapped_file.h"
#include "runtime/io/safetensors.h"
#include "tests/test_util.h"

namespace graft::base_watch_test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

void Put(const std::string& path, int64_t at, std::string_view bytes) {
  const int fd = open(path.c_str(), O_WRONLY);
  ASSERT_EQ(pwrite(fd, bytes.data(), bytes.size(), at), std::ssize(bytes));
  close(fd);
}

// The time is what it was; only the change time, which nobody can set, tells.
void PutSecretly(const std::string& path, int64_t at, std::string_view bytes) {
  struct stat s;
  ASSERT_EQ(stat(path.c_str(), &s), 0);
  Put(path, at, bytes);
  const timespec times[] = {s.st_atim, s.st_mtim};
  ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
}

class Watch : public ::testing::Test {
 protected:
  Watch() {
    setenv("XDG_CACHE_HOME", (dir_ / "cache").c_str(), 1);
    ParamStore store;
    store.Set("w", {1 << 18}, std::vector<float>(1 << 18, 0.5f));
    for (const char* name : {"file.safetensors", "model/model.safetensors"}) {
      fs::create_directories(fs::path(dir_ / name).parent_path());
      WriteSafetensors(dir_ / name, store, {});
    }
    dir_.Write("model/config.json", "{}");
  }
  ~Watch() override { unsetenv("XDG_CACHE_HOME"); }
  TempDir dir_;
};

TEST_F(Watch, EveryChangeIsSeen) {
  struct Change {
    const char* words;  // "": none
    std::function<void(const std::string&)> make;
  };
  const Change changes[] = {
      {"", [](const std::string&) {}},
      {"bytes are", [](const std::string& f) { fs::resize_file(f, fs::file_size(f) - 1); }},
      {"bytes are", [](const std::string& f) { fs::resize_file(f, fs::file_size(f) + 1); }},
      {"written to", [](const std::string& f) { Put(f, 500000, "x"); }},
      {"other bytes", [](const std::string& f) { PutSecretly(f, 0, "x"); }},
      {"other bytes",
       [](const std::string& f) {
         PutSecretly(f, static_cast<int64_t>(fs::file_size(f)) - 1, "x");
       }},
      {"other bytes", [](const std::string& f) { PutSecretly(f, 500001, "x"); }},  // in no sample
      // The weights are the same.
      {"", [](const std::string& f) { fs::permissions(f, fs::perms::owner_read); }},
      {"", [](const std::string& f) { fs::create_hard_link(f, f + ".link"); }},
      {"", [](const std::string& f) { fs::rename(f, f + ".moved"); }},
      {"", [](const std::string& f) { fs::remove(f); }}};
  for (const std::string model : {"file.safetensors", "model"})
    for (const Change& change : changes) {
      fs::remove_all(dir_ / "copy");
      fs::copy(dir_ / model, dir_ / "copy", fs::copy_options::recursive);
      const std::string file = dir_ / (model == "model" ? "copy/model.safetensors" : "copy");
      const std::string hash = BaseHash(dir_ / "copy");
      BaseWatch watch(dir_ / "copy");
      watch.CheckNamed();
      EXPECT_EQ(watch.Changed(hash), "");
      change.make(file);
      const std::string what = watch.Changed(hash);
      const size_t i = static_cast<size_t>(&change - changes);
      if (*change.words) {
        EXPECT_THAT(what, HasSubstr(change.words)) << model << i;
        EXPECT_THAT(what, HasSubstr(file)) << model << i;
      } else {
        EXPECT_EQ(what, "") << model << i;
        EXPECT_EQ(watch.Changed(hash), "") << model << i;
      }
      EXPECT_EQ(watch.Changed(hash), what) << model << i;
    }
}

TEST_F(Watch, AnUnknownHashExcusesNothing) {
  BaseWatch watch(dir_ / "file.safetensors");
  EXPECT_EQ(watch.Changed(""), "");
  PutSecretly(dir_ / "file.safetensors", 500001, "x");
  EXPECT_THAT(watch.Changed(""), HasSubstr("file.safetensors"));
}

TEST_F(Watch, AConfigCountsAndSeededWeightsDoNot) {
  BaseWatch watch(dir_ / "model");
  dir_.Write("model/config.json", "[]");
  EXPECT_THAT(watch.Changed("abc"), HasSubstr("config.json"));
  BaseWatch none("init:vit_nano_patch8_32");
  none.CheckNamed();
  EXPECT_EQ(none.Changed(""), "");
}

TEST_F(Watch, ReplacedFilesAreOthersByName) {
  const std::string file = dir_ / "file.safetensors";
  BaseWatch watch(file);
  const std::string hash = BaseHash(file);
  fs::copy_file(file, file + ".new");
  fs::rename(file + ".new", file);
  EXPECT_THAT(MessageOf([&] { watch.CheckNamed(); }), HasSubstr("was replaced"));
  EXPECT_EQ(watch.Changed(hash), "");  // the old one is mapped, and as it was
}

TEST_F(Watch, AFileCutShortEndsTheProgramWithItsName) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const std::string file = dir_ / "file.safetensors";
  const auto read = [&](bool ours) {
    ExplainFilesCutShort();
    const auto other = MappedFile::Open(dir_ / "model/config.json");
    const auto mapped = MappedFile::Open(file);
    const std::byte* bytes = mapped->bytes().data();
    fs::resize_file(file, 100);
    if (!ours) {  // of something that is not mapped by us
      raise(SIGBUS);
    }
    volatile std::byte last = bytes[mapped->bytes().size() - 1];
    (void)last;
  };
  EXPECT_EXIT(read(true), ::testing::ExitedWithCode(1),
              "graft: .*/file.safetensors: the file was cut short while it was in use");
  EXPECT_EXIT(
      {
        MappedFile::Open(file);  // no longer mapped
        read(false);
        raise(SIGBUS);
      },
      ::testing::KilledBySignal(SIGBUS), "");
}

}  // namespace
}  // namespace graft::base_watch_test
