#include "runtime/io/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "runtime/error.h"
#include "runtime/io/files_read.h"
#include "runtime/io/near_path.h"

namespace graft {
namespace {

// write(2) takes a little less than 2 GiB at once on Linux; this is below.
constexpr size_t kLargestWrite = size_t{1} << 30;

template <class F>
auto Retry(F call) {  // while a signal interrupts it
  decltype(call()) result;
  do result = call();
  while (result == -1 && errno == EINTR);
  return result;
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

// Whether the name still leads to the open file: another writer may have renamed it since.
bool SameFile(int fd, int directory, const std::string& name) {
  struct stat open_file {
  }, named{};
  return fstat(fd, &open_file) == 0 &&
         fstatat(directory, name.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 &&
         open_file.st_dev == named.st_dev && open_file.st_ino == named.st_ino;
}

}  // namespace

AtomicFile::AtomicFile(FilePlace place) : place_(std::move(place)) {
  const bool named = !place_.directory;  // by the user, and not in a directory that a command has
  if (named) {
    const size_t slash = place_.path.rfind('/') + 1;  // 0 if there is none
    place_.name = place_.path.substr(slash);
    if (place_.name.empty() || place_.name == "." || place_.name == "..")
      Fail("cannot write '{}': expected the path of a file", path());
    place_.directory = Directory::TryOpen(slash == 0 ? "./" : place_.path.substr(0, slash));
    if (!place_.directory) FailWith("create", errno);
  }
  struct stat status {};
  // Renaming over a device such as /dev/full would replace it.
  if (fstatat(directory(), place_.name.c_str(), &status, 0) == 0 && !S_ISREG(status.st_mode))
    Fail("cannot write {}: it exists and is not a regular file", path());
  if (!place_.owned) RefuseOverwriting(path());
  if (named) RefuseReplacing(path());
  OpenTemporary();
}

void AtomicFile::OpenTemporary() {
  const std::string temporary = "." + place_.name + ".graft-tmp";
  while (true) {
    temporary_.clear();  // not ours to remove until we hold the lock
    fd_ = Retry([&] {
      return openat(directory(), temporary.c_str(),
                    O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    });
    if (fd_ < 0) FailWith("create", errno);
    // A file system without locks gives another error than EWOULDBLOCK; writing then goes on
    // without a lock.
    if (flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      close(fd_);
      fd_ = -1;
      Fail("cannot write {}: another process is writing it", path());
    }
    if (SameFile(fd_, directory(), temporary)) break;
    close(fd_);
  }
  struct stat status {};
  // The file may belong to someone else, or be a second name of a file that would be overwritten.
  if (fstat(fd_, &status) != 0 || !S_ISREG(status.st_mode) || status.st_nlink != 1 ||
      status.st_uid != geteuid()) {
    close(fd_);
    fd_ = -1;
    Fail("cannot write {}: {} is in the way and not ours", path(), temporary);
  }
  temporary_ = temporary;
  if (Retry([&] { return ftruncate(fd_, 0); }) != 0) FailWith("create", errno);
}

AtomicFile::~AtomicFile() { Discard(); }

void AtomicFile::Discard() noexcept {
  // The file is unlinked while it is locked, so that it cannot be the temporary of the next writer.
  if (!temporary_.empty()) unlinkat(directory(), temporary_.c_str(), 0);
  temporary_.clear();
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

void AtomicFile::FailWith(const char* step, int error) {
  Discard();
  Fail("cannot write {}: {}: {}; the file of before, if any, is unchanged", path(), step,
       std::strerror(error));
}

void AtomicFile::Write(std::span<const std::byte> bytes) {
  GRAFT_CHECK(fd_ >= 0, "{} is already written", path());
  while (!bytes.empty()) {
    const size_t size = std::min(bytes.size(), kLargestWrite);
    const ssize_t written = Retry([&] { return write(fd_, bytes.data(), size); });
    if (written < 0) FailWith("write", errno);
    if (written == 0) FailWith("write", EIO);
    bytes = bytes.subspan(written);
    position_ += static_cast<uint64_t>(written);
  }
}

void AtomicFile::Commit() {
  GRAFT_CHECK(fd_ >= 0, "{} is already written", path());
  if (Retry([&] { return fsync(fd_); }) != 0) FailWith("fsync", errno);
  if (!place_.owned) RecordWritten(fd_);
  if (renameat(directory(), temporary_.c_str(), directory(), place_.name.c_str()) != 0)
    FailWith("rename", errno);
  temporary_.clear();  // it is the target now
  const int error = close(fd_) == 0 ? 0 : errno;
  fd_ = -1;
  // Network file systems report a full disk as late as here.
  if (error != 0 && error != EINTR) Fail("{}: close: {}", path(), std::strerror(error));
  // EINVAL comes from a file system that has nothing to sync for directories.
  if (Retry([&] { return fsync(directory()); }) != 0 && errno != EINVAL)
    Fail("{} is written, but its directory: fsync: {}", path(), std::strerror(errno));
}

void WriteFileAtomically(const FilePlace& place, std::span<const std::byte> bytes) {
  AtomicFile file(place);
  file.Write(bytes);
  file.Commit();
}

void WriteFileAtomically(const FilePlace& place, std::string_view text) {
  WriteFileAtomically(place, std::as_bytes(std::span(text)));
}

std::string ReadFile(const std::string& path, uint64_t max_bytes) {
  // Opening must not block: a named pipe is refused below, and not waited for.
  const Descriptor file(
      Retry([&] { return open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); }));
  if (file.get() < 0) FailToOpen(path, errno);
  struct stat status {};
  if (fstat(file.get(), &status) != 0) Fail("{}: cannot stat: {}", path, std::strerror(errno));
  if (S_ISDIR(status.st_mode)) Fail("{}: expected a file, found a directory", path);
  if (!S_ISREG(status.st_mode)) Fail("{}: expected a regular file, found a device or pipe", path);
  const auto size = static_cast<uint64_t>(status.st_size);
  if (size > max_bytes) Fail("{}: expected at most {} bytes, found {}", path, max_bytes, size);
  std::string text(size, '\0');
  size_t done = 0;
  while (done < text.size()) {
    const size_t want = std::min(text.size() - done, kLargestWrite);
    const ssize_t n = Retry([&] { return read(file.get(), text.data() + done, want); });
    if (n < 0) Fail("{}: cannot read: {}", path, std::strerror(errno));
    if (n == 0) Fail("{}: ended after {} of {} bytes; is it being changed?", path, done, size);
    done += static_cast<size_t>(n);
  }
  RecordRead(file.get());
  return text;
}

}  // namespace graft
