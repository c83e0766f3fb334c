#include "runtime/error.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace graft {
namespace {

// A comparison takes the product of the lengths, and the names of hostile files may be megabytes
// long.
constexpr size_t kMaxName = 200;
constexpr size_t kMaxList = 1000;  // characters

// Levenshtein distance with two rows.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> previous(b.size() + 1), current(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) previous[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    current[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replace = previous[j - 1] + (a[i - 1] != b[j - 1]);
      current[j] = std::min({replace, previous[j] + 1, current[j - 1] + 1});
    }
    std::swap(previous, current);
  }
  return previous[b.size()];
}

}  // namespace

std::string Nearest(std::string_view name, const std::vector<std::string>& candidates) {
  std::string best;
  if (name.size() > kMaxName) return best;
  // If a candidate has this very name, it was refused for another reason, and no other one is
  // meant.
  if (std::ranges::find(candidates, name) != candidates.end()) return best;
  size_t best_distance = std::max<size_t>(2, name.size() / 2) + 1, best_common = 0;
  for (const std::string& candidate : candidates) {
    if (candidate.size() > kMaxName) continue;
    size_t distance = EditDistance(name, candidate);
    if (distance >= std::max(name.size(), candidate.size())) continue;  // nothing in common
    // A beginning typed for the whole ("attn" for "attn.q") is nearer than its length suggests.
    if (!name.empty() && candidate.starts_with(name)) distance = std::min<size_t>(distance, 1);
    const auto common =
        static_cast<size_t>(std::ranges::mismatch(name, candidate).in1 - name.begin());
    // Of equally near ones, that which begins alike for longer.
    const bool alike = distance == best_distance && !best.empty() && common > best_common;
    if (distance >= best_distance && !alike) continue;
    best_distance = distance, best_common = common, best = candidate;
  }
  return best;
}

std::string DidYouMean(std::string_view name, const std::vector<std::string>& candidates) {
  if (const std::string near = Nearest(name, candidates); !near.empty())
    return fmt::format("; did you mean '{}'?", near);
  if (candidates.empty() || candidates.size() > 24) return "";
  if (std::ranges::find(candidates, name) != candidates.end()) return "";
  std::vector<std::string_view> known;
  for (const std::string& c : candidates)
    if (std::ranges::find(known, c) == known.end()) known.push_back(c);
  const std::string list = fmt::format("{}", fmt::join(known, ", "));
  return list.size() > kMaxList ? "" : "; known: " + list;
}

void CheckFailed(const char* condition, const char* file, int line,
                 const std::string& message) noexcept {
  std::fprintf(stderr, "graft: internal error at %s:%d: %s %s\n", file, line, condition,
               message.c_str());
  std::abort();
}

std::string ShellWord(const std::string& word) {
  const auto plain = [](unsigned char c) {
    return std::isalnum(c) || c >= 0x80 ||
           std::string_view("-_./:=,+@%").find(static_cast<char>(c)) != std::string_view::npos;
  };
  if (!word.empty() && std::ranges::all_of(word, plain)) return word;
  std::string quoted = "'";
  for (char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

}  // namespace graft
