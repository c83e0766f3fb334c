// Bounds of a user's caches, which are folders in CacheDirectory() (file_stamp.h).
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace graft {

// "1.5GiB", "800MiB", "2e9" -> bytes; nothing for other texts.
std::optional<size_t> BytesIn(const std::string& text);

// What the environment variable says, else `otherwise`. Throws Error for what is no size.
size_t CacheBound(const char* variable, size_t otherwise);

// Removes the files of a folder that were used longest ago, by their times of modification, until
// the others take at most `bytes` together; a file counts as at least `least`. Other processes may
// do the same at the same time. What cannot be seen or removed is left.
void KeepNewest(const std::filesystem::path& folder, uint64_t bytes, uint64_t least = 0);

}  // namespace graft
