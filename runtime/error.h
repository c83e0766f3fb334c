// Mistakes of the user are graft::Error, thrown at build or load time and never inside a step; our
// own bugs are GRAFT_CHECK, which aborts with the place. A message says what was expected, what was
// found and where; Nearest() supplies the "did you mean".
#pragma once
#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

// What the command's exit code will be; see docs/cli.md.
enum class ErrorKind {
  kUser = 1,
  kUsage = 2,
  kProof = 3,
  kNotFoldable = 4,
  kNonFinite = 5,
  kInterrupted = 130
};

class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, ErrorKind kind = ErrorKind::kUser)
      : std::runtime_error(message), kind(kind) {}
  ErrorKind kind;
};

// Throws Error with a formatted message: Fail("{}: expected {} columns, found {}", ...).
template <class... Args>
[[noreturn]] void Fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}
// The same for flags and arguments that make no sense: the command ends with exit code 2.
template <class... Args>
[[noreturn]] void FailUsage(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...), ErrorKind::kUsage);
}

// The place of the caller, as a default argument (std::source_location is missing from clang 14).
struct Where {
  const char* file = "";
  int line = 0;
  static constexpr Where Here(const char* f = __builtin_FILE(), int l = __builtin_LINE()) {
    return {f, l};
  }
};

// The candidate with the smallest edit distance to `name`, or "" if none is near.
std::string Nearest(std::string_view name, const std::vector<std::string>& candidates);

// "; did you mean 'x'?" or, when nothing is near and the list is short, "; known: a, b, c".
std::string DidYouMean(std::string_view name, const std::vector<std::string>& candidates);

// A word as it is copied into a command line: in quotes if a shell would take it apart.
std::string ShellWord(const std::string& word);

[[noreturn]] void CheckFailed(const char* condition, const char* file, int line,
                              const std::string& message) noexcept;

}  // namespace graft

#define GRAFT_CHECK(condition, ...)                                                        \
  do {                                                                                     \
    if (!(condition))                                                                      \
      ::graft::CheckFailed(#condition, __FILE__, __LINE__, ::fmt::format("" __VA_ARGS__)); \
  } while (0)
