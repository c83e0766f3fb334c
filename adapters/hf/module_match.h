// How peft chooses modules by name: a list of endings, or a regular expression. RE2 runs in time
// linear in the name whatever the pattern, so a hostile file cannot hang the program.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace re2 {
class RE2;
}

namespace graft {

class Regex {
 public:
  // Throws Error, naming `where`, for what RE2 does not accept: broken patterns, and Python's
  // look-around and back references.
  Regex(const std::string& pattern, const std::string& where);
  bool FullMatch(std::string_view text) const;   // re.fullmatch
  bool MatchStart(std::string_view text) const;  // re.match
  // The first group of a match at the start, as a number; -1 without a match.
  int64_t NumberAtStart(std::string_view text) const;

 private:
  std::shared_ptr<const re2::RE2> re_;
};

// A field such as target_modules: names, or one pattern.
struct ModuleSpec {
  std::vector<std::string> names;
  std::string pattern;
  bool empty() const { return names.empty() && pattern.empty(); }
};

// What a ModuleSpec chooses: a listed name itself or `*.NAME`; or the pattern matches all of it.
class ModuleMatcher {
 public:
  ModuleMatcher(const ModuleSpec& spec, const std::string& where);
  bool operator()(std::string_view module) const;

 private:
  std::vector<std::string> names_;
  std::shared_ptr<const Regex> pattern_;
};

// Whether `module` is `name` or ends with it after a dot.
bool EndsWithName(std::string_view module, std::string_view name);

}  // namespace graft
