// Writes files that are either the old one or the whole new one, after any crash, kill or full
// disk: a temporary next to the target is written and synced, renamed, and the directory is synced.
// Whole files are read here, too. Errors name the path, the step and the system's reason.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "runtime/io/directory.h"

namespace graft {

// One new version of one file. The temporary is called `.NAME.graft-tmp`: one that a killed process
// has left is overwritten by the next writer of the same file, so leftovers do not pile up. It is
// locked while it is written: a second writer of the same file gets an Error. The directory is held
// open meanwhile, so that the file gets to where it was begun, whatever happens to the names above
// it.
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

// Returns the contents of a regular file. Throws Error for one of more than `max_bytes`, before it
// is read.
std::string ReadFile(const std::string& path, uint64_t max_bytes);

}  // namespace graft
