#include "runtime/io/directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "runtime/error.h"

namespace graft {

std::shared_ptr<const Directory> Directory::TryOpen(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return fd < 0 ? nullptr : std::shared_ptr<const Directory>(new Directory(path, fd));
}

std::shared_ptr<const Directory> Directory::Open(const std::string& path) {
  if (auto directory = TryOpen(path)) return directory;
  Fail("{}: cannot open the directory: {}", path, std::strerror(errno));
}

Directory::~Directory() { close(fd_); }

bool Directory::Lock() const {
  // A file system without locks gives another error; the directory then counts as locked.
  return flock(fd_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
}

bool Directory::Named() const {
  struct stat here {
  }, named{};
  return fstat(fd_, &here) == 0 && stat(path_.c_str(), &named) == 0 &&
         here.st_dev == named.st_dev && here.st_ino == named.st_ino;
}

bool Directory::Removed() const {
  struct stat here {};
  // Some file systems keep a link count for a directory that was removed, so the name is looked at,
  // too.
  return fstat(fd_, &here) != 0 || here.st_nlink == 0 || Now().ends_with(" (deleted)");
}

std::string Directory::Now() const {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd_), error).string();
}

bool Directory::Has(const std::string& name) const {
  struct stat status {};
  return fstatat(fd_, name.c_str(), &status, 0) == 0;
}

void Directory::Remove(const std::string& name) const { unlinkat(fd_, name.c_str(), 0); }

}  // namespace graft
