#include "tools/lib/output.h"

#include <cstdio>

#include "data/preprocess.h"
#include "runtime/io/json.h"

namespace graft {

void Say(const CommonOptions& o, const std::string& line) {
  if (o.quiet) return;
  std::FILE* out = o.json ? stderr : stdout;
  std::fprintf(out, "%s\n", line.c_str());
  std::fflush(out);
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
