#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "runtime/io/atomic_file.h"
#include "runtime/io/safetensors.h"
#include "tests/test_util.h"

namespace graft::io_atomic_file_test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class AtomicFileTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return temp_ / name; }
  int Files() const {
    return static_cast<int>(std::distance(fs::directory_iterator(dir_), fs::directory_iterator()));
  }
  TempDir temp_;
  const std::string dir_ = temp_.path().string();
};

// No file of this process may grow above `bytes`; write(2) then fails as on a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    handler_ = signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{bytes, old_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &old_);
    signal(SIGXFSZ, handler_);
  }

 private:
  rlimit old_{};
  sighandler_t handler_;
};

TEST_F(AtomicFileTest, WritesReplacesAndReads) {
  WriteFileAtomically(Path("f"), "one");
  EXPECT_EQ(ReadFile(Path("f"), 3), "one");
  AtomicFile file(Path("f"));
  file.Write("tw");
  file.Write("o");
  EXPECT_EQ(file.position(), 3u);
  EXPECT_EQ(ReadFile(Path("f"), 100), "one");  // not before Commit
  file.Commit();
  EXPECT_EQ(ReadFile(Path("f"), 100), "two");
  WriteFileAtomically(Path("empty"), "");
  EXPECT_EQ(ReadFile(Path("empty"), 0), "");
  EXPECT_EQ(Files(), 2);
}

TEST_F(AtomicFileTest, WithoutCommitNothingChanges) {
  WriteFileAtomically(Path("f"), "old");
  { AtomicFile(Path("f")).Write("new"); }
  EXPECT_EQ(ReadFile(Path("f"), 100), "old");
  EXPECT_EQ(Files(), 1);
}

TEST_F(AtomicFileTest, FullDiskLeavesTheOldFile) {
  WriteFileAtomically(Path("f"), "old");
  const std::string large(100000, 'x');
  const FileSizeLimit limit(50000);
  EXPECT_THAT(MessageOf([&] { WriteFileAtomically(Path("f"), large); }),
              ::testing::AllOf(HasSubstr(Path("f") + ": write: File too large"),
                               HasSubstr("the file of before, if any, is unchanged")));
  EXPECT_EQ(ReadFile(Path("f"), 100), "old");
  EXPECT_EQ(Files(), 1);
}

TEST_F(AtomicFileTest, FullDiskAtEveryByteOfASafetensorsFile) {
  ParamStore old_store, new_store;
  old_store.Set("w", {2}, std::vector<float>{1, 2});
  new_store.Set("w", {4}, std::vector<float>{3, 4, 5, 6});
  WriteSafetensors(Path("f"), new_store, {});
  const uint64_t size = fs::file_size(Path("f"));
  WriteSafetensors(Path("f"), old_store, {});
  for (uint64_t bytes = 0; bytes < size; ++bytes) {
    const FileSizeLimit limit(bytes);
    EXPECT_THROW(WriteSafetensors(Path("f"), new_store, {}), Error) << bytes;
    EXPECT_EQ(SafetensorsFile::Open(Path("f")).LoadAll().shape("w"), (Extents{2}));
    EXPECT_EQ(Files(), 1);
  }
}

TEST_F(AtomicFileTest, LeftoverOfAKilledWriterIsOverwritten) {
  std::ofstream(Path(".f.graft-tmp")) << "half of something long";
  WriteFileAtomically(Path("f"), "new");
  EXPECT_EQ(ReadFile(Path("f"), 100), "new");
  EXPECT_EQ(Files(), 1);
}

TEST_F(AtomicFileTest, TwoWritersOfOneFile) {
  AtomicFile first(Path("f"));
  first.Write("first");
  EXPECT_THAT(MessageOf([&] { AtomicFile second(Path("f")); }),
              HasSubstr("another process is writing it"));
  first.Commit();
  EXPECT_EQ(ReadFile(Path("f"), 100), "first");
  WriteFileAtomically(Path("f"), "second");
  EXPECT_EQ(ReadFile(Path("f"), 100), "second");
}

TEST_F(AtomicFileTest, TemporaryThatIsNotOurs) {
  WriteFileAtomically(Path("victim"), "precious");
  fs::create_hard_link(Path("victim"), Path(".f.graft-tmp"));
  EXPECT_THAT(MessageOf([&] { WriteFileAtomically(Path("f"), "x"); }), HasSubstr("not ours"));
  fs::remove(Path(".f.graft-tmp"));
  fs::create_symlink(Path("victim"), Path(".f.graft-tmp"));
  EXPECT_THAT(MessageOf([&] { WriteFileAtomically(Path("f"), "x"); }), HasSubstr("create"));
  EXPECT_EQ(ReadFile(Path("victim"), 100), "precious");
}

TEST_F(AtomicFileTest, PathsThatCannotBeWritten) {
  EXPECT_THAT(MessageOf([&] { WriteFileAtomically(Path("no/f"), "x"); }),
              HasSubstr("create: No such file or directory"));
  EXPECT_THAT(MessageOf([&] { WriteFileAtomically(Path(""), "x"); }), HasSubstr("path of a file"));
  EXPECT_THAT(MessageOf([&] { WriteFileAtomically("", "x"); }), HasSubstr("path of a file"));
  EXPECT_THAT(MessageOf([&] { WriteFileAtomically("/dev/full", "x"); }),
              HasSubstr("is not a regular file"));
  EXPECT_THAT(MessageOf([&] { WriteFileAtomically(dir_, "x"); }),
              HasSubstr("is not a regular file"));
  if (geteuid() != 0) {
    fs::permissions(dir_, fs::perms::owner_read | fs::perms::owner_exec);
    EXPECT_THAT(MessageOf([&] { WriteFileAtomically(Path("f"), "x"); }), HasSubstr("denied"));
    fs::permissions(dir_, fs::perms::owner_all);
  }
}

TEST_F(AtomicFileTest, SymbolicLinkIsReplacedAndItsTargetKept) {
  WriteFileAtomically(Path("blob"), "blob");
  fs::create_symlink("blob", Path("link"));
  WriteFileAtomically(Path("link"), "new");
  EXPECT_EQ(ReadFile(Path("blob"), 100), "blob");
  EXPECT_EQ(ReadFile(Path("link"), 100), "new");
}

TEST_F(AtomicFileTest, ReadFileRefuses) {
  WriteFileAtomically(Path("f"), "12345");
  EXPECT_THAT(MessageOf([&] { ReadFile(Path("f"), 4); }),
              HasSubstr("expected at most 4 bytes, found 5"));
  EXPECT_THAT(MessageOf([&] { ReadFile(dir_, 4); }), HasSubstr("found a directory"));
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  EXPECT_THAT(MessageOf([&] { ReadFile(Path("pipe"), 4); }), HasSubstr("regular file"));
}

TEST_F(AtomicFileTest, GetsWhereItWasBegun) {
  fs::create_directory(Path("here"));
  AtomicFile file(Path("here/f"));
  file.Write("text");
  fs::rename(Path("here"), Path("there"));
  fs::create_directory(Path("here"));
  file.Commit();
  EXPECT_TRUE(fs::is_empty(Path("here")));
  EXPECT_EQ(ReadFile(Path("there/f"), 100), "text");
  AtomicFile gone(Path("here/f"));
  fs::remove_all(Path("here"));
  fs::create_directory(Path("here"));
  gone.Write("text");
  EXPECT_THAT(MessageOf([&] { gone.Commit(); }), HasSubstr("rename: No such file or directory"));
  EXPECT_TRUE(fs::is_empty(Path("here")));
}

}  // namespace
}  // namespace graft::io_atomic_file_test
