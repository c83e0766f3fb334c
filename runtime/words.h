// Taking apart what people write in options, lists and lines.
#pragma once
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

inline std::string_view Trim(std::string_view text, std::string_view blanks = " ") {
  const size_t first = text.find_first_not_of(blanks);
  if (first == text.npos) return "";
  return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

// Cuts at each separator: one part more than there are of these, and parts may be empty.
inline std::vector<std::string> SplitAt(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    parts.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

}  // namespace graft
