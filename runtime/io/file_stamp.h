// What tells that a file is still the one it was, without reading it, and where a user's caches
// are.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace graft {

struct FileStamp {
  std::string path;  // without links
  int64_t size = 0, modified_ns = 0, changed_ns = 0;
  bool operator==(const FileStamp&) const = default;

  // Clocks of file systems are coarse: a file that changed less than two seconds ago may change
  // again without a trace.
  bool Settled() const;
};
// Returns nothing for what is no regular file or cannot be seen.
std::optional<FileStamp> StampOf(const std::string& path);

// $XDG_CACHE_HOME/graft or ~/.cache/graft; "" where there is no place for a cache. It may not exist
// yet.
std::string CacheDirectory();

}  // namespace graft
