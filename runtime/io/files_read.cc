#include "runtime/io/files_read.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <map>
#include <mutex>
#include <set>
#include <tuple>

#include "runtime/error.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

std::atomic<bool> g_recording{false}, g_keep{false};
std::mutex g_mutex;

// The key has the modification time, too, as the number of a file that is gone goes to another
// file.
using FileKey = std::tuple<dev_t, ino_t, int64_t, int64_t>;
std::set<FileKey>& Files() {
  static std::set<FileKey> files;
  return files;
}
std::set<FileKey>& Written() {
  static std::set<FileKey> files;
  return files;
}
// Directories that are read, and those that were made here, whose name is "". Their times change
// with every file in them, so these cannot tell them apart. As they are few, each is held open, so
// that its number goes to no other.
struct DirectoryRecord {
  std::string path;
  int fd = -1;
};
std::map<std::pair<dev_t, ino_t>, DirectoryRecord>& Directories() {
  static std::map<std::pair<dev_t, ino_t>, DirectoryRecord> directories;
  return directories;
}

FileKey KeyOf(const struct stat& s) {
  return {s.st_dev, s.st_ino, s.st_mtim.tv_sec, s.st_mtim.tv_nsec};
}

// The nearest directory that was read or made here and is `path` or above it; "" if that one was
// made here, or if there is none.
std::string RecordedAbove(fs::path path) {
  for (;; path = path.parent_path()) {
    struct stat s;
    if (stat(path.c_str(), &s) == 0)
      if (const auto it = Directories().find({s.st_dev, s.st_ino}); it != Directories().end())
        return it->second.path;
    if (path == path.parent_path()) return "";
  }
}

}  // namespace

void ProtectWhatIsRead() { g_recording = true; }

void RecordRead(const std::string& path) {
  struct stat s;
  if (!g_recording || stat(path.c_str(), &s) != 0) return;
  const std::scoped_lock lock(g_mutex);
  if (!S_ISDIR(s.st_mode)) {
    Files().insert(KeyOf(s));
    return;
  }
  const int fd = open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0 && fstat(fd, &s) == 0 &&
      Directories().try_emplace({s.st_dev, s.st_ino}, DirectoryRecord{path, fd}).second)
    return;
  if (fd >= 0) close(fd);
}

void RecordRead(int fd) {
  struct stat s;
  if (!g_recording || fstat(fd, &s) != 0) return;
  const std::scoped_lock lock(g_mutex);
  Files().insert(KeyOf(s));
}

void RecordWritten(int fd) {
  struct stat s;
  if (!g_recording || fstat(fd, &s) != 0) return;
  const std::scoped_lock lock(g_mutex);
  if (!S_ISDIR(s.st_mode)) {
    Written().insert(KeyOf(s));
    return;
  }
  DirectoryRecord& record = Directories()[{s.st_dev, s.st_ino}];
  record.path.clear();
  if (record.fd < 0) record.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

void ProtectWhatExists(bool protect) { g_keep = protect; }

void RefuseReplacing(const std::string& out) {
  struct stat s;
  if (!g_keep || stat(out.c_str(), &s) != 0 || !S_ISREG(s.st_mode)) return;
  const std::scoped_lock lock(g_mutex);
  if (!Written().contains(KeyOf(s)))
    Fail("{}: the file exists; choose another name, or --force to replace it", out);
}

void CheckOutput(const std::string& out) {
  RefuseOverwriting(out);
  RefuseReplacing(out);
}

void RefuseOverwriting(const std::string& out) {
  struct stat s;
  if (!g_recording || lstat(out.c_str(), &s) != 0) return;
  const std::scoped_lock lock(g_mutex);
  const bool there = stat(out.c_str(), &s) == 0;
  if (there && Written().contains(KeyOf(s))) return;
  if (there && Files().contains(KeyOf(s)))
    FailUsage("{}: this would overwrite a file that is read; expected another name", out);
  std::error_code error;
  const fs::path whole = fs::absolute(out, error).lexically_normal();
  // A link stands for two things: its own place, and the file it leads to.
  for (const fs::path& place :
       {fs::canonical(whole, error), fs::canonical(whole.parent_path(), error) / whole.filename()})
    if (const std::string read = RecordedAbove(place); !place.empty() && !read.empty())
      FailUsage("{}: this would overwrite what is in {}, which is read; expected another name", out,
                read);
}

}  // namespace graft
