#include "runtime/io/file_stamp.h"

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>

namespace graft {

bool FileStamp::Settled() const {
  constexpr int64_t kSettledNs = 2'000'000'000;
  const int64_t now = std::chrono::duration_cast<std::chrono::nanoseconds>(
                          std::chrono::system_clock::now().time_since_epoch())
                          .count();
  return now - std::max(modified_ns, changed_ns) >= kSettledNs;
}

std::optional<FileStamp> StampOf(const std::string& path) {
  std::error_code error;
  const std::filesystem::path real = std::filesystem::canonical(path, error);
  struct stat s;
  if (error || stat(real.c_str(), &s) != 0 || !S_ISREG(s.st_mode)) return std::nullopt;
  auto ns = [](const timespec& t) {
    return static_cast<int64_t>(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
  };
  return FileStamp{real, static_cast<int64_t>(s.st_size), ns(s.st_mtim), ns(s.st_ctim)};
}

std::string CacheDirectory() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  if (cache && cache[0] == '/') return std::string(cache) + "/graft";
  if (home && home[0] == '/') return std::string(home) + "/.cache/graft";
  return "";
}

}  // namespace graft
