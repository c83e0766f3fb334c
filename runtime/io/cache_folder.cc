#include "runtime/io/cache_folder.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
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
  return given ? BytesIn(given).value_or(0) : otherwise;
}

void KeepNewest(const fs::path& folder, uint64_t bytes, uint64_t least) {
  struct Entry {
    fs::file_time_type used;
    uint64_t bytes;
    fs::path path;
  };
  std::vector<Entry> entries;
  uint64_t all = 0;
  std::error_code error;  // another process may remove a file that is looked at here
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    std::error_code gone;
    if (!at->is_regular_file(gone)) continue;
    const uint64_t size = std::max<uint64_t>(at->file_size(gone), least);
    const fs::file_time_type used = gone ? fs::file_time_type() : at->last_write_time(gone);
    if (gone) continue;
    entries.push_back({used, size, at->path()});
    all += size;
  }
  std::ranges::sort(entries, {}, &Entry::used);
  for (const Entry& entry : entries) {
    if (all <= bytes) return;
    fs::remove(entry.path, error);
    if (!error) all -= entry.bytes;
  }
}

}  // namespace graft
