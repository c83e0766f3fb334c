#include "tools/lib/output.h"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <set>

#include "data/augment.h"
#include "data/preprocess.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/files_read.h"
#include "runtime/io/json.h"
#include "runtime/utf8.h"
#include "tools/lib/progress_meter.h"
#include "tools/lib/terminal.h"

namespace graft {

namespace {
bool json_printed = false;
}  // namespace

void Say(const CommonOptions& o, const std::string& line) {
  if (o.quiet) return;
  EndProgressLine();
  std::FILE* out = o.json ? stderr : stdout;
  std::fprintf(out, "%s\n", EscapeControls(line, "\n\t").c_str());
  std::fflush(out);
}

std::function<void(const std::string&)> SayOnce(const CommonOptions& o) {
  const auto said = std::make_shared<std::set<std::string>>();
  return [o, said](const std::string& line) {
    if (said->insert(line).second) Say(o, line);
  };
}

size_t ShownColumns(const CommonOptions& o) {
  return TerminalColumns(o.json ? STDERR_FILENO : STDOUT_FILENO);
}

void SayDtype(const CommonOptions& options) {
  const std::string why = ChooseDtype(options.dtype).why;
  if (!why.empty()) Say(options, "note: " + why);
}

void CheckDtypeOfRun(const std::string& run, const std::string& dtype) {
  if (ChooseDtype(dtype).dtype != dtype)
    Fail(
        "{}/config.json: the run is in {}, for which this CPU (or --isa) has no instruction, and "
        "in f32 it would be another run; hint: GRAFT_EMULATE=1 goes on in {}, slower",
        run, dtype, dtype);
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
  EndProgressLine();
  std::fprintf(stderr, "graft: %s\n", line.c_str());
}

void SayNotices(const CommonOptions& o, const std::vector<std::string>& notices) {
  for (const std::string& notice : notices) Say(o, "note: " + notice);
}

void PrintJson(const CommonOptions& o, const nlohmann::json& json) {
  if (!o.json) return;
  json_printed = true;
  std::printf("%s\n", ShowJson(json).c_str());
}

void PrintText(const std::string& text) {
  EndProgressLine();
  std::fwrite(text.data(), 1, text.size(), stdout);
}

const char* KindName(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kUser:
      return "user";
    case ErrorKind::kUsage:
      return "usage";
    case ErrorKind::kProof:
      return "proof";
    case ErrorKind::kNotFoldable:
      return "not_foldable";
    case ErrorKind::kNonFinite:
      return "non_finite";
    case ErrorKind::kInterrupted:
      break;
  }
  return "interrupted";
}

void PrintErrorJson(const std::string& message, ErrorKind kind) {
  if (json_printed) return;
  json_printed = true;
  const nlohmann::json json{
      {"error", message}, {"kind", KindName(kind)}, {"exit_code", static_cast<int>(kind)}};
  std::printf("%s\n", ShowJson(json).c_str());
}

void PrintPreprocessPresets(const CommonOptions& o) {
  nlohmann::json presets = nlohmann::json::array();
  for (const PreprocessPreset& p : PreprocessPresets())
    presets.push_back({{"name", p.name}, {"about", p.about}, {"preprocess", ToString(p.value)}});
  PrintJson(o, {{"presets", presets}});
  Say(o, ListPreprocess());
}

void PrintAugmentPresets(const CommonOptions& o) {
  nlohmann::json presets = nlohmann::json::array();
  for (const AugmentPreset& p : AugmentPresets())
    presets.push_back({{"name", p.name}, {"about", p.about}, {"augment", p.text}});
  PrintJson(o, {{"presets", presets}});
  Say(o, ListAugment());
}

void CheckOutputFile(const std::string& out) {
  CheckOutput(out);
  const std::string parent = std::filesystem::path(out).parent_path().string();
  std::error_code ignored;
  if (parent.empty() || std::filesystem::is_directory(parent, ignored)) return;
  if (std::filesystem::exists(parent, ignored)) Fail("{}: {} is a file, no directory", out, parent);
  Fail("{}: there is no directory {}; hint: mkdir -p {}", out, parent, ShellWord(parent));
}

void CheckOutputFiles(const std::vector<std::pair<const char*, std::string>>& files) {
  namespace fs = std::filesystem;
  std::map<std::string, const char*> seen;
  for (const auto& [option, file] : files) {
    if (file.empty()) continue;
    CheckOutputFile(file);
    const fs::path path = fs::absolute(file).lexically_normal();
    Directory::Open(path.parent_path().string());  // or an error that says why not
    const std::string where = (fs::canonical(path.parent_path()) / path.filename()).string();
    const auto [at, first] = seen.emplace(where, option);
    if (!first) FailUsage("{} and {} name one file: {}", at->second, option, file);
  }
}

}  // namespace graft
