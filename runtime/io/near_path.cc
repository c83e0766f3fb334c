#include "runtime/io/near_path.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <vector>

#include "runtime/error.h"
#include "runtime/io/listing.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostNames = 4096;

std::vector<std::string> NamesIn(const fs::path& directory) {
  std::vector<std::string> names;
  for (const DirectoryEntry& entry : ListIfReadable(directory.string(), kMostNames))
    names.push_back(entry.name);
  return names;
}

}  // namespace

std::string DidYouMeanPath(const std::string& path) {
  std::error_code ignored;
  fs::path there;
  for (const fs::path& part : fs::path(path)) {
    const fs::path next = there / part;
    if (part.empty() || fs::exists(next, ignored)) {
      there = next;
      continue;
    }
    const std::string near = Nearest(part.string(), NamesIn(there));
    if (near.empty()) return "";
    // The rest of the path, if it is there, too.
    const fs::path rest = fs::path(path).lexically_relative(next);
    const fs::path found = there / near, whole = found / rest;
    return fmt::format("; did you mean '{}'?",
                       (rest != "." && fs::exists(whole, ignored) ? whole : found).string());
  }
  return "";
}

void FailToOpen(const std::string& path, int error) {
  Fail("{}: cannot open: {}{}", path, std::strerror(error),
       error == ENOENT ? DidYouMeanPath(path) : "");
}

}  // namespace graft
