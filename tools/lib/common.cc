#include "tools/lib/common.h"

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "data/preprocess.h"
#include "graft/method_graph.h"
#include "ops/isa.h"
#include "runtime/cpu.h"
#include "runtime/io/json.h"
#include "runtime/threads.h"
#include "tools/lib/run_config.h"

namespace graft {
namespace {

// CLI11 takes the nearest number for one that is too large.
std::string CheckFits64(const std::string& text) {
  errno = 0;
  std::strtoll(text.c_str(), nullptr, 0);
  return errno == ERANGE ? fmt::format("expected a whole number of 64 bits, found {}", text) : "";
}

void CheckCommonOptions(const CommonOptions& o) {
  if (!o.isa.empty()) CheckIsa(o.isa);
  if (o.dtype != "f32" && o.dtype != "auto")
    FailUsage("--dtype '{}': this version computes in f32 only{}", o.dtype,
              DidYouMean(o.dtype, {"f32", "auto"}));
  if (!o.memory_budget.empty()) ParseBytes(o.memory_budget);
  CheckPassNames(o.disabled_passes);
}

}  // namespace

void AddCommonOptions(CLI::App& command, CommonOptions& o) {
  command
      .add_option("--threads", o.threads,
                  "threads (default: physical cores that this process may use)")
      ->check(CLI::Range(1, 1024));
  command.add_option("--seed", o.seed, "seed of all random streams")
      ->check(CheckFits64)
      ->capture_default_str();
  command.add_flag("--json", o.json, "print one JSON object on standard output");
  command.add_flag("--quiet", o.quiet, "print errors only");
  command.add_option("--isa", o.isa, "a lower SIMD target than the CPU's: avx512, avx2, sse4");
  command.add_option("--dtype", o.dtype, "f32")->capture_default_str();
  command.add_option("--memory-budget", o.memory_budget, "bound on planned memory, e.g. 1.5GiB");
  command.add_option("--disable-pass", o.disabled_passes,
                     "an optimising pass to leave out; may be repeated");
  command.parse_complete_callback([&o] { CheckCommonOptions(o); });
}

void ApplyCommonOptions(const CommonOptions& o) {
  SetThreads(o.threads > 0 ? o.threads : DefaultThreads());
  if (!o.isa.empty()) LimitIsa(o.isa);
}

void RefuseOverwriting(const std::string& out, const std::string& read) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const bool inside = fs::is_directory(read, ignored) && fs::exists(out, ignored) &&
                      fs::equivalent(fs::absolute(out).parent_path(), read, ignored);
  if (inside || fs::equivalent(out, read, ignored))
    FailUsage("{}: this would overwrite {}, which is read; expected another name", out, read);
}

void Say(const CommonOptions& o, const std::string& line) {
  if (o.quiet) return;
  std::FILE* out = o.json ? stderr : stdout;
  std::fprintf(out, "%s\n", line.c_str());
  std::fflush(out);
}

void PrintJson(const CommonOptions& o, const nlohmann::json& json) {
  if (o.json) std::printf("%s\n", ShowJson(json).c_str());
}

std::string Quoted(const std::string& word) {
  const auto plain = [](unsigned char c) {
    return std::isalnum(c) || c >= 0x80 ||
           std::string_view("-_./:=,+@%").find(static_cast<char>(c)) != std::string_view::npos;
  };
  if (!word.empty() && std::ranges::all_of(word, plain)) return word;
  std::string quoted = "'";
  for (char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

void PrintPreprocessPresets(const CommonOptions& o) {
  nlohmann::json presets = nlohmann::json::array();
  for (const PreprocessPreset& p : PreprocessPresets())
    presets.push_back({{"name", p.name}, {"about", p.about}, {"preprocess", ToString(p.value)}});
  PrintJson(o, {{"presets", presets}});
  Say(o, ListPreprocess());
}

namespace {
std::atomic<int> interrupts{0};
void OnSignal(int) {
  if (interrupts.fetch_add(1) > 0) std::_Exit(130);
}
}  // namespace

void CatchInterrupts() {
  std::signal(SIGINT, OnSignal);
  std::signal(SIGTERM, OnSignal);
}

bool Interrupted() { return interrupts.load() > 0; }

}  // namespace graft
