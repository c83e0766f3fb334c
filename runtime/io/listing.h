// What a directory holds. Not by std::filesystem, whose iterators end the program where there is no
// memory for a name, and throw errors of another kind as they go on.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

struct DirectoryEntry {
  enum class Kind { kFile, kDirectory, kOther };
  std::string name;
  Kind kind = Kind::kOther;  // of what a link leads to; kOther if that is nothing
  bool link = false;

  bool is_file() const { return kind == Kind::kFile; }
  bool is_directory() const { return kind == Kind::kDirectory; }
};

// Hidden files are nobody's data: a Mac leaves copies of metadata, called ._train.csv, on the disks
// of others.
inline bool IsHidden(std::string_view name) { return name.starts_with('.'); }

// Returns what is in a directory, "." and ".." aside, in the order of the names' bytes. Throws
// Error that names the directory if it cannot be read to its end.
std::vector<DirectoryEntry> ListDirectory(const std::string& path);
// Returns the same where it can be read, else nothing; of more than `most` any of them.
std::vector<DirectoryEntry> ListIfReadable(const std::string& path, size_t most = SIZE_MAX);

}  // namespace graft
