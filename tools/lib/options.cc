#include "tools/lib/options.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <latch>
#include <system_error>
#include <thread>
#include <vector>

#include "adapters/method_graph.h"
#include "ops/isa.h"
#include "runtime/cpu.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/files_read.h"
#include "runtime/threads.h"
#include "train/run_config.h"

namespace graft {
namespace {

// CLI11 would take the nearest number for one that is too large.
std::string CheckFits64(const std::string& text) {
  errno = 0;
  std::strtoll(text.c_str(), nullptr, 0);
  return errno == ERANGE ? fmt::format("expected a whole number of 64 bits, found {}", text) : "";
}

// Checks that so many threads can run at once: OpenMP starts them when they are needed, and ends
// the program if that fails.
void CheckThreads(int threads) {
  std::latch all(1);
  std::vector<std::jthread> started;
  struct Release {  // before they are joined
    std::latch& latch;
    ~Release() { latch.count_down(); }
  } release{all};
  try {
    for (int i = 1; i < threads; ++i) started.emplace_back([&all] { all.wait(); });
  } catch (const std::system_error& e) {
    Fail("cannot start {} threads, the system gives {}: {}; hint: --threads {}, or higher limits",
         threads, started.size() + 1, e.code().message(), started.size() + 1);
  }
}

bool TakesDtype(const std::string& command) {
  constexpr std::string_view kCommands[] = {"train",   "search", "eval",  "predict",
                                            "profile", "plan",   "vtab",  "few-shot",
                                            "text",    "shift",  "ablate"};
  return std::ranges::find(kCommands, command) != std::end(kCommands);
}

}  // namespace

CLI::Option* TextOrFile(CLI::Option* option) {
  return option->transform([](const std::string& value) {
    if (!value.starts_with('@')) return value;
    constexpr uint64_t kMost = uint64_t{1} << 24;
    const std::string text = ReadFile(value.substr(1), kMost);
    const size_t begin = text.find_first_not_of(" \t\r\n"), end = text.find_last_not_of(" \t\r\n");
    if (begin == text.npos) Fail("{}: the file is empty", value.substr(1));
    return text.substr(begin, end + 1 - begin);
  });
}

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
  CLI::Option* dtype = command.add_option(
      "--dtype", o.dtype,
      "of products with the model's weights: f32, bf16, int8, or auto (bf16 if the CPU has it)");
  dtype->capture_default_str();
  if (TakesDtype(command.get_name()))
    command.add_option("--keep", o.keep,
                       "with --dtype: scopes that stay in f32, e.g. \"patch_embed|blocks.0.*\"");
  else
    dtype->group("");  // f32 alone, which need not be asked for
  command.add_option("--memory-budget", o.memory_budget, "bound on planned memory, e.g. 1.5GiB");
  command.add_option("--disable-pass", o.disabled_passes,
                     "an optimising pass to leave out; may be repeated");
  command.parse_complete_callback([&o, name = command.get_name()] {
    CheckCommonOptions(o);
    if (o.dtype != "f32" && o.dtype != "auto" && !TakesDtype(name))
      FailUsage(
          "--dtype {}: {} computes in f32; train, search, eval, predict, profile, plan and suites "
          "take others",
          o.dtype, name);
  });
}

void HideModelOptions(CLI::App& command) {
  for (const char* name : {"--isa", "--dtype", "--memory-budget", "--disable-pass"})
    if (CLI::Option* option = command.get_option_no_throw(name)) option->group("");
}

void CheckCommonOptions(const CommonOptions& o) {
  if (!o.isa.empty()) CheckIsa(o.isa);
  ParsePrecision(o.dtype, o.keep);
  if (!o.keep.empty() && o.dtype == "f32") FailUsage("--keep goes with --dtype bf16 or int8");
  if (o.dtype != "f32" && std::ranges::count(o.disabled_passes, "low_precision"))
    FailUsage("--disable-pass low_precision leaves all in f32; --dtype {} asks for another",
              o.dtype);
  if (!o.memory_budget.empty()) ParseBytes(o.memory_budget);
  CheckPassNames(o.disabled_passes);
}

void AddForceOption(CLI::App& command, bool* force, const std::string& what) {
  command.add_flag_callback(
      "--force",
      [force] {
        if (force) *force = true;
        ProtectWhatExists(false);
      },
      what);
}

PassOptions PassesOf(const CommonOptions& o) {
  return {o.disabled_passes, ParsePrecision(o.dtype, o.keep)};
}

void TakePrecision(const CommonOptions& o, RunConfig* run) {
  run->dtype = ChooseDtype(o.dtype).dtype;
  run->keep = run->dtype == "f32" ? "" : o.keep;
}

void ApplyCommonOptions(const CommonOptions& o) {
  SetThreads(o.threads > 0 ? o.threads : DefaultThreads());
  CheckThreads(Threads());
  if (!o.isa.empty()) LimitIsa(o.isa);
}

}  // namespace graft
