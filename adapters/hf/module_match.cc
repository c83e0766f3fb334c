#include "adapters/hf/module_match.h"

#include <re2/re2.h>

#include <algorithm>

#include "runtime/error.h"

namespace graft {
namespace {

constexpr size_t kMaxPattern = 10'000;

re2::StringPiece AsRe2(std::string_view text) { return {text.data(), text.size()}; }

}  // namespace

Regex::Regex(const std::string& pattern, const std::string& where) {
  if (pattern.size() > kMaxPattern)
    Fail("{}: a pattern of {} characters; at most {} are read", where, pattern.size(), kMaxPattern);
  re2::RE2::Options options;
  options.set_log_errors(false);
  re_ = std::make_shared<re2::RE2>(AsRe2(pattern), options);
  if (!re_->ok())
    Fail("{}: cannot use the pattern '{}': {}; hint: list the modules' names instead", where,
         pattern, re_->error());
}

bool Regex::FullMatch(std::string_view text) const {
  return re2::RE2::FullMatch(AsRe2(text), *re_);
}

bool Regex::MatchStart(std::string_view text) const {
  return re_->Match(AsRe2(text), 0, text.size(), re2::RE2::ANCHOR_START, nullptr, 0);
}

int64_t Regex::NumberAtStart(std::string_view text) const {
  re2::StringPiece groups[2];
  if (re_->NumberOfCapturingGroups() < 1 ||
      !re_->Match(AsRe2(text), 0, text.size(), re2::RE2::ANCHOR_START, groups, 2))
    return -1;
  int64_t number = -1;
  return re2::RE2::FullMatch(groups[1], "(\\d+)", &number) ? number : -1;
}

ModuleMatcher::ModuleMatcher(const ModuleSpec& spec, const std::string& where)
    : names_(spec.names) {
  if (!spec.pattern.empty()) pattern_ = std::make_shared<Regex>(spec.pattern, where);
}

bool ModuleMatcher::operator()(std::string_view module) const {
  if (pattern_) return pattern_->FullMatch(module);
  return std::any_of(names_.begin(), names_.end(),
                     [&](const std::string& name) { return EndsWithName(module, name); });
}

bool EndsWithName(std::string_view module, std::string_view name) {
  if (!module.ends_with(name)) return false;
  return module.size() == name.size() || module[module.size() - name.size() - 1] == '.';
}

}  // namespace graft
