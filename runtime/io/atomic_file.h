// Files that are either the old one or the whole new one, after any crash, kill or full disk: write
// a temporary next to the target, fsync, rename, fsync the directory. Reads of whole files are
// here, too. Errors name the path, the step and the system's reason.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "runtime/io/directory.h"

namespace graft {

// One new version of one file. The temporary is `.NAME.graft-tmp`: one that a killed process left
// is overwritten by the next writer of the same file, so leftovers do not pile up. It is locked
// while written: a second writer of the same file at the same time is an Error. The directory is
// held open meanwhile, so the file gets where it was begun, whatever happens to names above it.
class AtomicFile {
 public:
  explicit AtomicFile(FilePlace place);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();  // without Commit it removes the temporary, and the old file stays

  void Write(std::span<const std::byte> bytes);
  void Write(std::string_view text) { Write(std::as_bytes(std::span(text))); }
  void Commit();  // durable when it returns; nothing may be written afterwards

  uint64_t position() const { return position_; }
  const std::string& path() const { return place_.path; }

 private:
  void OpenTemporary();
  void Discard() noexcept;
  [[noreturn]] void FailWith(const char* step, int error);
  int directory() const { return place_.directory->fd(); }

  FilePlace place_;
  std::string temporary_;  // a name in the directory
  int fd_ = -1;
  uint64_t position_ = 0;
};

void WriteFileAtomically(const FilePlace& place, std::span<const std::byte> bytes);
void WriteFileAtomically(const FilePlace& place, std::string_view text);

// Returns the contents of a regular file. One of more than `max_bytes` is an Error before it is
// read.
std::string ReadFile(const std::string& path, uint64_t max_bytes);

}  // namespace graft
