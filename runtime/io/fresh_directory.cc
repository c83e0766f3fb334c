#include "runtime/io/fresh_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "runtime/error.h"
#include "runtime/io/files_read.h"
#include "runtime/io/listing.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kEnding = ".graft-tmp";

bool IsTemporary(const std::string& name) {
  return name.starts_with('.') && name.ends_with(kEnding) && name.size() > 1 + kEnding.size();
}

std::vector<fs::path> Entries(const std::string& directory) {
  std::vector<fs::path> entries;
  for (const DirectoryEntry& entry : ListDirectory(directory))
    entries.push_back(fs::path(directory) / entry.name);
  return entries;
}

// Removes what an earlier write has left, unless a living process is writing it.
void RemoveLeftover(const fs::path& path, const std::string& directory) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0 && errno == ENOENT) return;
  const bool locked = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  std::error_code error;
  if (!locked) fs::remove_all(path, error);
  if (fd >= 0) close(fd);
  if (locked) Fail("{}: another process is writing in this directory", directory);
  if (error) Fail("{}: cannot remove: {}", path.string(), error.message());
}

// Whether the path exists. Throws Error if that is no directory, or one that holds more than
// leftovers.
bool ExistsEmpty(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) {
    if (fs::is_symlink(fs::symlink_status(path, error)))
      Fail("{}: exists and is not a directory", path);
    return false;
  }
  if (!fs::is_directory(status)) Fail("{}: exists and is not a directory", path);
  const std::vector<fs::path> entries = Entries(path);
  for (const fs::path& entry : entries)
    if (!IsTemporary(entry.filename()))
      Fail("{}: the directory exists and is not empty; choose another one", path);
  for (const fs::path& entry : entries) RemoveLeftover(entry, path);
  return true;
}

// Makes what was made or renamed in a directory last beyond a loss of power.
void Sync(const fs::path& directory) {
  const auto opened = Directory::TryOpen(directory.string());
  if (opened && fsync(opened->fd()) != 0 && errno != EINVAL)  // not of every file system
    Fail("{}: fsync: {}", directory.string(), std::strerror(errno));
}

// Makes the directory and those missing above it; returns what it made, the lowest last.
std::vector<std::string> MakeDirectories(const fs::path& path) {
  std::vector<std::string> made;
  fs::path at;
  for (const fs::path& part : path) {
    at /= part;
    if (mkdir(at.c_str(), 0777) == 0) {
      made.push_back(at.string());
      Sync(at.parent_path().empty() ? fs::path(".") : at.parent_path());
      continue;
    }
    const int error = errno;  // a file, or no permission to make what may be there
    std::error_code ignored;
    if (!fs::is_directory(at, ignored))
      Fail("{}: cannot create the directory: {}", path.string(),
           std::strerror(error == EEXIST ? ENOTDIR : error));
  }
  return made;
}

// Renames, but never over something that is there. On a file system that cannot promise that, at
// most an empty directory is replaced.
bool Rename(const std::string& from, const std::string& to) {
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return true;
  if (errno != EINVAL && errno != ENOSYS) return false;
  if (fs::exists(fs::symlink_status(to))) return errno = EEXIST, false;
  return rename(from.c_str(), to.c_str()) == 0;
}

}  // namespace

void CreateFreshDirectory(const std::string& path) {
  if (!ExistsEmpty(path)) MakeDirectories(path);
}

FreshDirectory::FreshDirectory(const std::string& path) : path_(path) {
  RefuseOverwriting(path);
  existed_ = ExistsEmpty(path);
  if (existed_) {
    MakeTemporary(path + "/.files.graft-tmp");
    return;
  }
  const fs::path whole = fs::absolute(path).lexically_normal();
  const fs::path target = whole.has_filename() ? whole : whole.parent_path();
  made_ = MakeDirectories(target.parent_path());
  path_ = target.string();
  MakeTemporary(
      (target.parent_path() / fmt::format(".{}.graft-tmp", target.filename().string())).string());
}

void FreshDirectory::MakeTemporary(const std::string& path) {
  while (true) {
    struct stat status {};
    if (mkdir(path.c_str(), 0777) != 0 && errno != EEXIST)
      Fail("{}: cannot create the directory: {}", path_, std::strerror(errno));
    if (lstat(path.c_str(), &status) != 0) continue;
    if (!S_ISDIR(status.st_mode) || status.st_uid != geteuid())
      Fail("{}: {} is in the way and not ours", path_, path);
    temporary_ = Directory::TryOpen(path);
    if (!temporary_) Fail("{}: cannot create the directory: {}", path_, std::strerror(errno));
    if (!temporary_->Lock()) {
      temporary_ = nullptr;
      Fail("{}: another process is writing it", path_);
    }
    if (temporary_->Named()) break;  // else it was moved or removed before we had the lock
  }
  RecordWritten(temporary_->fd());
  std::error_code error;
  for (const fs::path& entry : Entries(path)) fs::remove_all(entry, error);
  if (error) Fail("{}: cannot remove: {}", path, error.message());
}

FreshDirectory::~FreshDirectory() {
  if (kept_) return;
  std::error_code ignored;
  if (temporary_) fs::remove_all(temporary_->path(), ignored);
  for (; !made_.empty(); made_.pop_back()) rmdir(made_.back().c_str());  // if it is empty
}

// Moves all files up or, if another process has put one of these names there meanwhile, none.
void FreshDirectory::MoveUp() {
  std::vector<std::pair<std::string, std::string>> moved;
  for (const fs::path& entry : Entries(temporary_->path())) {
    const std::string to = path_ + "/" + entry.filename().string();
    if (Rename(entry.string(), to)) {
      moved.emplace_back(entry.string(), to);
      continue;
    }
    const int error = errno;
    for (const auto& [before, now] : moved) Rename(now, before);
    Fail("{}: cannot move what was written there: {}", to, std::strerror(error));
  }
  rmdir(temporary_->path().c_str());
}

void FreshDirectory::Keep() {
  if (existed_)
    MoveUp();
  else if (!Rename(temporary_->path(), path_))
    Fail("{}: {}", path_,
         errno == EEXIST ? "another process has made it meanwhile; choose another name"
                         : std::strerror(errno));
  kept_ = true;
  Sync(existed_ ? fs::path(path_) : fs::path(path_).parent_path());
}

}  // namespace graft
