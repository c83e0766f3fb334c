// What a regular expression (of RE2) finds in a text.
#pragma once
#include <re2/re2.h>

#include <string>
#include <vector>

namespace graft {

// The groups of each match, in order.
inline std::vector<std::vector<std::string>> Matches(const std::string& text,
                                                     const std::string& expression) {
  const RE2 pattern(expression);
  const int groups = pattern.NumberOfCapturingGroups();
  std::vector<re2::StringPiece> found(static_cast<size_t>(groups) + 1);
  std::vector<std::vector<std::string>> matches;
  const re2::StringPiece whole(text);
  for (size_t at = 0; pattern.Match(whole, at, whole.size(), RE2::UNANCHORED, found.data(),
                                    static_cast<int>(found.size()));
       at = static_cast<size_t>(found[0].data() + found[0].size() - whole.data())) {
    std::vector<std::string>& match = matches.emplace_back();
    for (size_t i = 1; i < found.size(); ++i) match.emplace_back(found[i].data(), found[i].size());
    if (found[0].empty()) break;
  }
  return matches;
}

// The first group of the first match; empty if there is none.
inline std::string FirstMatch(const std::string& text, const std::string& expression) {
  const auto matches = Matches(text, expression);
  return matches.empty() ? std::string() : matches[0].at(0);
}

}  // namespace graft
