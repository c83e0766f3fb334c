#include "tools/lib/common.h"

#include <atomic>
#include <csignal>
#include <cstdio>

#include "ops/isa.h"
#include "runtime/cpu.h"
#include "runtime/io/json.h"
#include "runtime/threads.h"

namespace graft {

void AddCommonOptions(CLI::App& command, CommonOptions& o) {
  command
      .add_option("--threads", o.threads,
                  "threads (default: physical cores that this process may use)")
      ->check(CLI::Range(1, 1024));
  command.add_option("--seed", o.seed, "seed of all random streams")->capture_default_str();
  command.add_flag("--json", o.json, "print one JSON object on standard output");
  command.add_flag("--quiet", o.quiet, "print errors only");
  command.add_option("--isa", o.isa, "a lower SIMD target than the CPU's: avx512, avx2, sse4");
  command.add_option("--dtype", o.dtype, "f32")->capture_default_str();
  command.add_option("--memory-budget", o.memory_budget, "bound on planned memory, e.g. 1.5GiB");
  command.add_option("--disable-pass", o.disabled_passes,
                     "an optimising pass to leave out; may be repeated");
}

void ApplyCommonOptions(const CommonOptions& o) {
  SetThreads(o.threads > 0 ? o.threads : DefaultThreads());
  if (!o.isa.empty()) LimitIsa(o.isa);
  if (o.dtype != "f32" && o.dtype != "auto")
    FailUsage("--dtype '{}': this version computes in f32 only{}", o.dtype,
              DidYouMean(o.dtype, {"f32", "auto"}));
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
