// A whole file mapped read-only and private. It is thread-safe once open. A file that someone else
// cuts short while it is mapped ends the program at the next access (SIGBUS), and one that is
// changed in place has other bytes from then on; our own writers replace files.
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace graft {

class MappedFile {
 public:
  // Throws Error for anything but a readable regular file.
  static std::shared_ptr<const MappedFile> Open(const std::string& path);
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  MappedFile(std::string path, std::span<const std::byte> bytes)
      : path_(std::move(path)), bytes_(bytes) {}

  std::string path_;
  std::span<const std::byte> bytes_;
};

// Says that memory is not read for a while, such as a weight of which there now is a packed copy.
// The whole pages in it that belong to a mapped file leave the process, and come back from the file
// if they are read after all. Other memory is left alone.
void GiveBackPages(const void* data, size_t bytes) noexcept;

// For the main function of a program: from now on SIGBUS at a mapped file that was cut short ends
// the program with exit code 1 and a line on standard error that names the file; with `as_json` an
// object on standard output says so, too.
void ExplainFilesCutShort(bool as_json = false);

}  // namespace graft
