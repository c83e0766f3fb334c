#include "runtime/io/listing.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "runtime/error.h"

namespace graft {
namespace {

DirectoryEntry::Kind EntryKind(mode_t mode) {
  using Kind = DirectoryEntry::Kind;
  return S_ISREG(mode) ? Kind::kFile : S_ISDIR(mode) ? Kind::kDirectory : Kind::kOther;
}

DirectoryEntry MakeEntry(DIR* directory, const dirent& at) {
  DirectoryEntry entry{.name = at.d_name};
  const auto look = [&](int flags) {
    struct stat status {};
    return fstatat(dirfd(directory), at.d_name, &status, flags) == 0 ? status.st_mode : mode_t{0};
  };
  // Most file systems say the kind with the name, so that few entries need a look.
  unsigned char type = at.d_type;
  if (type == DT_UNKNOWN) {
    const mode_t mode = look(AT_SYMLINK_NOFOLLOW);
    type = static_cast<unsigned char>(S_ISLNK(mode) ? unsigned{DT_LNK} : IFTODT(mode));
  }
  entry.link = type == DT_LNK;
  entry.kind = EntryKind(entry.link ? look(0) : static_cast<mode_t>(DTTOIF(type)));
  return entry;
}

// Appends the entries; returns the error that ended it, or 0.
int ReadEntries(const std::string& path, size_t most, std::vector<DirectoryEntry>* entries) {
  const std::unique_ptr<DIR, int (*)(DIR*)> open(opendir(path.empty() ? "." : path.c_str()),
                                                 closedir);
  if (!open) return errno;
  while (entries->size() < most) {
    errno = 0;
    const dirent* at = readdir(open.get());
    if (!at) return errno;
    if (std::strcmp(at->d_name, ".") != 0 && std::strcmp(at->d_name, "..") != 0)
      entries->push_back(MakeEntry(open.get(), *at));
  }
  return 0;
}

}  // namespace

std::vector<DirectoryEntry> ListDirectory(const std::string& path) {
  std::vector<DirectoryEntry> entries;
  if (const int error = ReadEntries(path, SIZE_MAX, &entries))
    Fail("{}: cannot read the directory: {}", path, std::strerror(error));
  std::ranges::sort(entries, {}, &DirectoryEntry::name);
  return entries;
}

std::vector<DirectoryEntry> ListIfReadable(const std::string& path, size_t most) {
  std::vector<DirectoryEntry> entries;
  if (ReadEntries(path, most, &entries) != 0) return {};
  std::ranges::sort(entries, {}, &DirectoryEntry::name);
  return entries;
}

}  // namespace graft
