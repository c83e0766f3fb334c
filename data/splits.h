// What data sets of images and of texts share: lists of names in files, and the choice of a split.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace graft {

// A label beyond this is a broken list, not a data set: a head that large would not fit anywhere.
inline constexpr int kMaxClasses = 100'000;

// Lines without their ends (LF or CRLF) and without a byte order mark.
std::vector<std::string> ReadLines(const std::string& path);

// One class name a line, blank lines at the end left out. Throws Error if there is none.
std::vector<std::string> ReadClassNames(const std::string& path);

bool Contains(const std::vector<std::string>& names, std::string_view name);

// The first of `wanted` that `names` contains, or "".
std::string FirstOf(const std::vector<std::string>& wanted, const std::vector<std::string>& names);

[[noreturn]] void NoSuchSplit(const std::string& directory, std::string_view name,
                              const std::vector<std::string>& names);

}  // namespace graft
