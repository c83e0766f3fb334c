#include "runtime/io/fresh_directory.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <set>

#include "runtime/io/atomic_file.h"
#include "tests/test_util.h"

namespace graft::fresh_directory_test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using Names = std::set<std::string>;

class FreshDirectoryTest : public ::testing::TestWithParam<bool> {  // whether it exists before
 protected:
  FreshDirectoryTest() {
    if (GetParam()) fs::create_directories(out_);
  }
  std::string Path(const std::string& name) const { return temp_ / name; }
  static Names NamesIn(const std::string& directory) {
    Names names;
    for (const auto& entry : fs::directory_iterator(directory))
      names.insert(entry.path().filename());
    return names;
  }
  // As it was before anything was tried.
  void ExpectUntouched() const {
    EXPECT_EQ(NamesIn(temp_.path()), GetParam() ? Names{"a"} : Names{});
    if (GetParam()) {
      EXPECT_EQ(NamesIn(out_), Names{});
    }
  }
  static void WriteTwo(const std::string& directory) {
    WriteFileAtomically(directory + "/one", "1");
    fs::create_directory(directory + "/sub");
    WriteFileAtomically(directory + "/sub/two", "2");
  }
  TempDir temp_;
  const std::string out_ = Path("a/b/out");
};

TEST_P(FreshDirectoryTest, IsThereWhenItIsWhole) {
  {
    FreshDirectory fresh(out_);
    WriteTwo(fresh.path());
    EXPECT_EQ(fs::exists(out_ + "/one"), false);
    fresh.Keep();
  }
  EXPECT_EQ(NamesIn(out_), (Names{"one", "sub"}));
  EXPECT_EQ(ReadFile(out_ + "/sub/two", 9), "2");
  EXPECT_EQ(NamesIn(Path("a/b")), Names{"out"});
  EXPECT_THAT(MessageOf([&] { FreshDirectory again(out_); }), HasSubstr("is not empty"));
  EXPECT_EQ(NamesIn(out_), (Names{"one", "sub"}));
}

TEST_P(FreshDirectoryTest, WithoutKeepNothingIsLeft) {
  {
    FreshDirectory fresh(out_);
    WriteTwo(fresh.path());
  }
  ExpectUntouched();
}

TEST_P(FreshDirectoryTest, OfTwoTheSecondIsRefusedAndRemovesNothing) {
  FreshDirectory first(out_);
  WriteTwo(first.path());
  EXPECT_THAT(MessageOf([&] { FreshDirectory second(out_); }),
              HasSubstr("another process is writ"));
  if (GetParam()) {
    EXPECT_THAT(MessageOf([&] { CreateFreshDirectory(out_); }),
                HasSubstr("another process is writing in this directory"));
  }
  EXPECT_EQ(NamesIn(first.path()), (Names{"one", "sub"}));
  first.Keep();
  EXPECT_EQ(NamesIn(out_), (Names{"one", "sub"}));
}

// What another program has put there meanwhile stays, and ours goes.
TEST_P(FreshDirectoryTest, NeverOverWhatCameMeanwhile) {
  {
    FreshDirectory fresh(out_);
    WriteTwo(fresh.path());
    fs::create_directories(out_);
    WriteFileAtomically(out_ + "/one", "theirs");
    EXPECT_NE(MessageOf([&] { fresh.Keep(); }), "no error");
  }
  EXPECT_EQ(NamesIn(out_), Names{"one"});
  EXPECT_EQ(ReadFile(out_ + "/one", 9), "theirs");
  EXPECT_EQ(NamesIn(Path("a/b")), Names{"out"});
}

TEST_P(FreshDirectoryTest, LeftoversOfKilledProcessesBlockNothing) {
  // One is left by an earlier FreshDirectory, one by a first file.
  fs::create_directories(Path("a/b/.out.graft-tmp/sub"));
  temp_.Write("a/b/.out.graft-tmp/sub/half", "ha");
  if (GetParam()) {
    temp_.Write("a/b/out/.files.graft-tmp/half", "ha");
    temp_.Write("a/b/out/.config.json.graft-tmp", "{");
  }
  {
    FreshDirectory fresh(out_);
    EXPECT_EQ(NamesIn(fresh.path()), Names{});
    WriteTwo(fresh.path());
    fresh.Keep();
  }
  EXPECT_EQ(NamesIn(out_), (Names{"one", "sub"}));
}

TEST_P(FreshDirectoryTest, CreatedForALongerWrite) {
  if (GetParam()) temp_.Write("a/b/out/.config.json.graft-tmp", "{");
  CreateFreshDirectory(out_);
  EXPECT_EQ(NamesIn(out_), Names{});
  // This one belongs to a process that lives.
  AtomicFile living(out_ + "/config.json");
  EXPECT_THAT(MessageOf([&] { CreateFreshDirectory(out_); }),
              HasSubstr("another process is writing in this directory"));
  living.Commit();
  EXPECT_THAT(MessageOf([&] { CreateFreshDirectory(out_); }), HasSubstr("is not empty"));
}

INSTANTIATE_TEST_SUITE_P(Exists, FreshDirectoryTest, ::testing::Bool());

TEST(FreshDirectory, PlacesThatCannotBe) {
  const TempDir temp;
  temp.Write("f", "x");
  fs::create_symlink(temp / "nowhere", temp / "link");
  const std::function<void(const std::string&)> kinds[] = {
      [](const std::string& path) { CreateFreshDirectory(path); },
      [](const std::string& path) { FreshDirectory fresh(path); }};
  for (const auto& make : kinds) {
    EXPECT_THAT(MessageOf([&] { make(temp / "f"); }),
                HasSubstr("f: exists and is not a directory"));
    EXPECT_THAT(MessageOf([&] { make(temp / "link"); }),
                HasSubstr("exists and is not a directory"));
    EXPECT_THAT(MessageOf([&] { make(temp / "f/g"); }), HasSubstr("cannot create the directory"));
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(temp.path()), fs::directory_iterator()), 2);
  FreshDirectory slash(temp / "made/");
  WriteFileAtomically(slash.path() + "/one", "1");
  slash.Keep();
  EXPECT_TRUE(fs::exists(temp / "made/one"));
}

}  // namespace
}  // namespace graft::fresh_directory_test
