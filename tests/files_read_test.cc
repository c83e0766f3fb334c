// What is read is not overwritten. The record is of the process, so this program has it alone.
#include "runtime/io/files_read.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>

#include "runtime/io/atomic_file.h"
#include "runtime/io/directory.h"
#include "runtime/io/fresh_directory.h"
#include "runtime/io/mapped_file.h"
#include "runtime/io/near_path.h"
#include "tests/test_util.h"

namespace graft::files_read_test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class FilesRead : public ::testing::Test {
 protected:
  static std::string Overwrite(const FilePlace& place) {
    return MessageOf([&] { WriteFileAtomically(place, "new"); });
  }
  std::string Text(const std::string& name) const { return ReadFile(temp_ / name, 100); }
  TempDir temp_;
};

TEST_F(FilesRead, ALibraryRecordsNothing) {
  temp_.Write("f", "old");
  EXPECT_EQ(Text("f"), "old");
  RecordRead(temp_.path().string());
  EXPECT_EQ(Overwrite(temp_ / "f"), "no error");
  ProtectWhatIsRead();  // for all that follows
  EXPECT_EQ(Overwrite(temp_ / "f"), "no error");
}

TEST_F(FilesRead, ByAnyName) {
  ProtectWhatIsRead();
  for (const bool mapped : {false, true}) {
    const std::string name = mapped ? "mapped" : "read";
    temp_.Write("sub/" + name, "old");
    temp_.Write("sub/other", "old");
    fs::create_symlink(temp_ / ("sub/" + name), temp_ / (name + "_link"));
    fs::create_hard_link(temp_ / ("sub/" + name), temp_ / (name + "_hard"));
    if (!mapped) fs::create_directory_symlink(temp_ / "sub", temp_ / "sub_link");
    if (mapped)
      MappedFile::Open(temp_ / ("sub/" + name));
    else
      Text("sub/" + name);
    for (const std::string& out : {"sub/" + name, "sub/../sub/./" + name, "sub_link/" + name,
                                   name + "_link", name + "_hard"}) {
      EXPECT_THAT(Overwrite(temp_ / out), HasSubstr("this would overwrite a file that is read"))
          << out;
      EXPECT_THAT(Overwrite(temp_ / out), HasSubstr(out));
    }
    EXPECT_EQ(Text("sub/" + name), "old");
    EXPECT_EQ(Overwrite(temp_ / ("sub/new_" + name)), "no error");
    EXPECT_EQ(Overwrite(temp_ / "sub/other"), "no error");
  }
}

TEST_F(FilesRead, WhatIsInADirectory) {
  ProtectWhatIsRead();
  temp_.Write("model/config.json", "old");
  temp_.Write("model/deep/er/file", "old");
  temp_.Write("beside", "old");
  fs::create_symlink(temp_ / "beside", temp_ / "model/link");
  fs::create_symlink(temp_ / "nowhere", temp_ / "model/dangling");
  RecordRead(temp_ / "model");
  for (const std::string name :
       {"model/config.json", "model/deep/er/file", "model/link", "model/dangling"})
    EXPECT_THAT(Overwrite(temp_ / name), HasSubstr("this would overwrite what is in ")) << name;
  EXPECT_THAT(MessageOf([&] { FreshDirectory fresh(temp_ / "model"); }),
              HasSubstr("this would overwrite"));
  EXPECT_EQ(Overwrite(temp_ / "beside"), "no error");
  EXPECT_EQ(Overwrite(temp_ / "model/new"), "no error");
  EXPECT_EQ(Overwrite(temp_ / "model/new"), "no error");  // that was written here
  FreshDirectory fresh(temp_ / "model/made");
  EXPECT_EQ(Overwrite(fresh.path() + "/one"), "no error");
  EXPECT_EQ(Overwrite(fresh.path() + "/one"), "no error");
}

TEST_F(FilesRead, OwnFilesMayBeReplaced) {
  ProtectWhatIsRead();
  EXPECT_EQ(Overwrite(temp_ / "f"), "no error");
  Text("f");
  EXPECT_EQ(Overwrite(temp_ / "f"), "no error");
  // A run's state, which it has read when it began.
  temp_.Write("state", "old");
  Text("state");
  const auto directory = Directory::Open(temp_.path().string());
  EXPECT_THAT(Overwrite({directory, "state"}), HasSubstr("this would overwrite"));
  EXPECT_EQ(Overwrite({directory, "state", true}), "no error");
}

// The number of a file that is gone goes to another.
TEST_F(FilesRead, OthersOfTheSameNumberAreFree) {
  ProtectWhatIsRead();
  for (int i = 0; i < 50; ++i) {
    temp_.Write("read", "old");
    Text("read");
    fs::remove(temp_ / "read");
    temp_.Write("mine", "old");
    fs::last_write_time(temp_ / "mine", fs::file_time_type::clock::now() + std::chrono::hours(1));
    EXPECT_EQ(Overwrite(temp_ / "mine"), "no error");
    fs::remove(temp_ / "mine");
  }
}

// What exists stays, unless this process has made it.
TEST_F(FilesRead, WhatExistsIsNotReplaced) {
  temp_.Write("theirs", "old");
  ProtectWhatIsRead();
  ProtectWhatExists(true);
  EXPECT_THAT(Overwrite(temp_ / "theirs"), HasSubstr("the file exists; choose another name"));
  EXPECT_THAT(MessageOf([&] { CheckOutput(temp_ / "theirs"); }), HasSubstr("the file exists"));
  EXPECT_EQ(Text("theirs"), "old");
  for (int i = 0; i < 2; ++i) EXPECT_EQ(Overwrite(temp_ / "ours"), "no error");
  ProtectWhatExists(false);
  EXPECT_THAT(Overwrite(temp_ / "theirs"), HasSubstr("a file that is read"));
  temp_.Write("others", "old");
  EXPECT_EQ(Overwrite(temp_ / "others"), "no error");
}

TEST_F(FilesRead, NearPaths) {
  fs::create_directories(temp_ / "photos/cats");
  temp_.Write("photos/cats/one.jpg", "");
  struct Row {
    std::string path, near;
  };
  for (const Row& row : {Row{"photo", "photos"},
                         {"photos/cat", "photos/cats"},
                         {"photo/cats", "photos/cats"},
                         {"photo/cats/one.jpg", "photos/cats/one.jpg"},
                         {"photo/dogs", "photos"},
                         {"photos/cats/one.jpgg", "photos/cats/one.jpg"},
                         {"photos/cats/", ""},
                         {"photos/cats/quite/else", ""},
                         {"x/y", ""},
                         {"", ""}}) {
    const std::string hint = DidYouMeanPath(temp_ / row.path);
    EXPECT_EQ(hint, row.near.empty() ? "" : "; did you mean '" + (temp_ / row.near) + "'?")
        << row.path;
  }
  EXPECT_EQ(DidYouMeanPath(std::string(100000, 'x') + "/" + std::string(300, 'y')), "");
  EXPECT_THAT(MessageOf([&] { ReadFile(temp_ / "photos/cats/two.jpg", 1); }),
              HasSubstr("No such file or directory; did you mean '" + (temp_ / "photos/cats/one")));
}

}  // namespace
}  // namespace graft::files_read_test
