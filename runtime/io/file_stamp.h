// Tells whether a file is still the one it was, without reading it; also the place of a user's
// caches.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace graft {

struct FileStamp {
  std::string path;  // without links
  int64_t size = 0, modified_ns = 0, changed_ns = 0;
  bool operator==(const FileStamp&) const = default;

  // Whether the stamp can be trusted. The clocks of file systems are coarse: a file that changed
  // less than two seconds ago may change again without a trace.
  bool Settled() const;
};
// Returns nothing if the path leads to no regular file, or to one that cannot be seen.
std::optional<FileStamp> StampOf(const std::string& path);

// $XDG_CACHE_HOME/graft or ~/.cache/graft, which may not exist yet; "" where there is no place for
// a cache.
std::string CacheDirectory();

}  // namespace graft
