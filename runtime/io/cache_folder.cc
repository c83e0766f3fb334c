#include "runtime/io/cache_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace graft {

namespace fs = std::filesystem;

std::optional<size_t> BytesIn(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string unit(end, text.data() + text.size());
  const std::vector<std::pair<std::string, double>> units{
      {"", 1},         {"B", 1},    {"KiB", 0x1p10}, {"MiB", 0x1p20},
      {"GiB", 0x1p30}, {"KB", 1e3}, {"MB", 1e6},     {"GB", 1e9}};
  for (const auto& [name, factor] : units)
    if (error == std::errc() && unit == name && value > 0 && value * factor < 1e18)
      return static_cast<size_t>(value * factor);
  return std::nullopt;
}

size_t CacheBound(const char* variable, size_t otherwise) {
  const char* given = std::getenv(variable);
  if (!given) return otherwise;
  if (std::string_view(given) == "0") return 0;
  const std::optional<size_t> bytes = BytesIn(given);
  if (!bytes)
    FailUsage("{}='{}': expected bytes, such as 2GiB, or 0 for no cache", variable, given);
  return *bytes;
}

namespace {

struct CacheEntry {
  int64_t used_ns;
  uint64_t bytes;
  std::string name;
};

// The regular files of a folder, links left out.
std::vector<CacheEntry> FilesOf(const fs::path& folder, uint64_t least) {
  std::vector<CacheEntry> entries;
  const std::unique_ptr<DIR, int (*)(DIR*)> open(opendir(folder.c_str()), closedir);
  if (!open) return entries;
  while (const dirent* at = readdir(open.get())) {
    struct stat status {};
    // Another process may have removed it.
    if (fstatat(dirfd(open.get()), at->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (!S_ISREG(status.st_mode)) continue;
    entries.push_back({int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec,
                       std::max(static_cast<uint64_t>(status.st_size), least), at->d_name});
  }
  return entries;
}

}  // namespace

void KeepNewest(const fs::path& folder, uint64_t bytes, uint64_t least) {
  std::vector<CacheEntry> entries = FilesOf(folder, least);
  uint64_t all = 0;
  for (const CacheEntry& entry : entries) all += entry.bytes;
  std::ranges::sort(entries, {}, &CacheEntry::used_ns);
  for (const CacheEntry& entry : entries) {
    if (all <= bytes) return;
    if (unlink((folder / entry.name).c_str()) == 0) all -= entry.bytes;
  }
}

}  // namespace graft
