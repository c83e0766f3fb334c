#include "tools/lib/output.h"

#include <cstdio>

#include "data/preprocess.h"
#include "runtime/io/json.h"
#include "runtime/utf8.h"

namespace graft {

void Say(const CommonOptions& o, const std::string& line) {
  if (o.quiet) return;
  std::FILE* out = o.json ? stderr : stdout;
  std::fprintf(out, "%s\n", EscapeControls(line, "\n\t").c_str());
  std::fflush(out);
}

void Complain(std::string_view message) {
  constexpr size_t kBegin = 1500, kEnd = 1000;
  std::string line = EscapeControls(message);
  if (line.size() > kBegin + kEnd) {
    const auto inside = [&](size_t at) { return (static_cast<uint8_t>(line[at]) & 0xC0) == 0x80; };
    size_t begin = kBegin, end = line.size() - kEnd;  // not inside of a character
    while (begin > 0 && inside(begin)) --begin;
    while (end < line.size() && inside(end)) ++end;
    line = fmt::format("{} [{} bytes] {}", line.substr(0, begin), end - begin, line.substr(end));
  }
  std::fprintf(stderr, "graft: %s\n", line.c_str());
}

void SayNotices(const CommonOptions& o, const std::vector<std::string>& notices) {
  for (const std::string& notice : notices) Say(o, "note: " + notice);
}

void PrintJson(const CommonOptions& o, const nlohmann::json& json) {
  if (o.json) std::printf("%s\n", ShowJson(json).c_str());
}

void PrintPreprocessPresets(const CommonOptions& o) {
  nlohmann::json presets = nlohmann::json::array();
  for (const PreprocessPreset& p : PreprocessPresets())
    presets.push_back({{"name", p.name}, {"about", p.about}, {"preprocess", ToString(p.value)}});
  PrintJson(o, {{"presets", presets}});
  Say(o, ListPreprocess());
}

}  // namespace graft
