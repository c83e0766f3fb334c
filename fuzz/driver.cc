#include "fuzz/driver.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>

#include "fuzz/coverage.h"
#include "fuzz/mutator.h"
#include "fuzz/targets.h"
#include "runtime/error.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/listing.h"

// What the sanitizers do unless the environment says otherwise: end in abort(), so that the handler
// below sees it, and take a huge allocation for a finding.
extern "C" const char* __asan_default_options() {
  return "abort_on_error=1:max_allocation_size_mb=1024:detect_stack_use_after_return=1";
}
extern "C" const char* __ubsan_default_options() {
  return "abort_on_error=1:halt_on_error=1:print_stacktrace=1";
}
// libgomp keeps its threads, and what they own, to the end of the process.
extern "C" const char* __lsan_default_suppressions() {
  return "leak:libgomp\nleak:GOMP_parallel\n";
}

namespace graft::fuzz {
namespace {

namespace fs = std::filesystem;
constexpr uint64_t kMostSeedBytes = 1 << 20;

// What the signal handlers know.
struct Current {
  const uint8_t* data = nullptr;
  size_t size = 0;
  char artifact[512], hint[1200];
  volatile std::sig_atomic_t seconds = 0;  // of processor time, on this input
  int most_seconds = 0;
};
Current g_current;

void Say(const char* text) {
  [[maybe_unused]] const ssize_t ignored = write(STDERR_FILENO, text, std::strlen(text));
}

// Only what a signal handler may call.
void SaveInput() {
  if (g_current.data == nullptr) return;
  const int file = open(g_current.artifact, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  [[maybe_unused]] const ssize_t ignored = write(file, g_current.data, g_current.size);
  close(file);
  g_current.data = nullptr;
  Say(g_current.hint);
}

void OnCrash(int signal) {
  SaveInput();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void OnSecond(int) {
  g_current.seconds = g_current.seconds + 1;
  if (g_current.data == nullptr || g_current.seconds < g_current.most_seconds) return;
  Say("fuzz: the input takes too long\n");
  std::abort();
}

void Handle(int signal, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_ONSTACK | SA_RESTART;
  sigaction(signal, &action, nullptr);
}

// The handlers need a stack of their own where the input has used up the other one.
void InstallHandlers() {
  static std::vector<char> stack(1 << 16);
  stack_t alternative{};
  alternative.ss_sp = stack.data(), alternative.ss_size = stack.size();
  sigaltstack(&alternative, nullptr);
  Handle(SIGABRT, OnCrash);
#ifndef __SANITIZE_ADDRESS__  // which reports these itself, then aborts
  for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) Handle(signal, OnCrash);
#endif
  Handle(SIGPROF, OnSecond);
  const itimerval second{{1, 0}, {1, 0}};
  setitimer(ITIMER_PROF, &second, nullptr);
}

void StopHandlers() {
  const itimerval never{};
  setitimer(ITIMER_PROF, &never, nullptr);
  for (int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGPROF})
    std::signal(signal, signal == SIGPROF ? SIG_IGN : SIG_DFL);
}

int64_t ResidentMiB() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024;
}

class Fuzzer {
 public:
  Fuzzer(const Target& target, const Options& options)
      : target_(target),
        options_(options),
        mutator_(options.seed, options.dictionary.empty() ? std::vector<std::string>()
                                                          : ReadDictionary(options.dictionary)) {
    const std::string artifact =
        options.artifact.empty() ? fmt::format("crash-{}", target.name) : options.artifact;
    std::snprintf(g_current.artifact, sizeof g_current.artifact, "%s", artifact.c_str());
    std::snprintf(g_current.hint, sizeof g_current.hint,
                  "fuzz: the input is in %s; again: fuzz %s %s\n", artifact.c_str(), target.name,
                  artifact.c_str());
    g_current.most_seconds = options.input_seconds;
  }

  Result Run() {
    const auto started = std::chrono::steady_clock::now();
    const auto seconds = [&] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    };
    InstallHandlers();
    ReadSeeds();
    Result result;
    result.seeds = corpus_.size();
    const bool endless = options_.runs == 0 && options_.seconds > 0;
    while ((endless || result.runs < options_.runs) &&
           (options_.seconds == 0 || seconds() < options_.seconds)) {
      Step();
      ++result.runs;
    }
    StopHandlers();
    result.corpus = corpus_.size();
    result.edges = SeenCoverage().edges, result.features = SeenCoverage().features;
    result.seconds = seconds();
    return result;
  }

 private:
  void ReadSeeds() {
    std::vector<std::string> paths;
    std::vector<std::string> all = options_.seeds;
    if (!options_.keep.empty()) fs::create_directories(options_.keep), all.push_back(options_.keep);
    for (const std::string& seed : all) {
      if (!fs::is_directory(seed)) {
        paths.push_back(seed);
        continue;
      }
      for (const DirectoryEntry& entry : ListDirectory(seed))
        if (entry.is_file()) paths.push_back((fs::path(seed) / entry.name).string());
    }
    std::sort(paths.begin(), paths.end());  // the order of a directory is any
    for (const std::string& path : paths) {
      std::string text = ReadFile(path, kMostSeedBytes);
      most_bytes_ = std::max(most_bytes_, text.size());
      Test(text);
      TakeNewFeatures();
      corpus_.push_back(std::move(text));
    }
    most_bytes_ = std::max(most_bytes_, options_.most_bytes);
    if (corpus_.empty()) corpus_.emplace_back();
  }

  // Chooses the newest inputs more often, as what is behind them is not explored yet.
  const std::string& Choose() {
    const size_t n = corpus_.size(), recent = std::max<size_t>(n / 8, 1);
    return corpus_[mutator_.Below(3) == 0 ? n - 1 - mutator_.Below(recent) : mutator_.Below(n)];
  }

  void Step() {
    std::string input = mutator_.Mutate(Choose(), Choose(), LastComparisons(), most_bytes_);
    Test(input);
    if (TakeNewFeatures() == 0) return;
    if (!options_.keep.empty())
      WriteFileAtomically(fmt::format("{}/{:06}", options_.keep, corpus_.size()), input);
    corpus_.push_back(std::move(input));
  }

  void Test(const std::string& input) {
    // A copy of the exact size, so that the sanitizers see every byte read behind the end.
    const auto copy = std::make_unique<uint8_t[]>(input.size());
    std::copy(input.begin(), input.end(), copy.get());
    g_current.seconds = 0;
    g_current.size = input.size(), g_current.data = copy.get();
    BeginInput();
    try {
      target_.test(copy.get(), input.size());
    } catch (const std::exception& e) {
      Say("fuzz: an exception left the target: ");
      Say(e.what()), Say("\n");
      std::abort();
    }
    if (const int64_t used = ResidentMiB(); used > options_.memory_mib) {
      Say(fmt::format("fuzz: {} MiB of memory\n", used).c_str());
      std::abort();
    }
    g_current.data = nullptr;
  }

  const Target& target_;
  const Options& options_;
  Mutator mutator_;
  std::vector<std::string> corpus_;
  size_t most_bytes_ = 0;
};

}  // namespace

const std::vector<Target>& Targets() {
#define GRAFT_FUZZ_TARGET(name) {#name, GraftFuzz_##name},
  static const std::vector<Target> kTargets = {GRAFT_FUZZ_TARGETS(GRAFT_FUZZ_TARGET)};
#undef GRAFT_FUZZ_TARGET
  return kTargets;
}

const Target& FindTarget(const std::string& name) {
  std::vector<std::string> names;
  for (const Target& target : Targets()) {
    if (name == target.name) return target;
    names.emplace_back(target.name);
  }
  Fail("no fuzz target '{}'{}", name, DidYouMean(name, names));
}

Result RunTarget(const Target& target, const Options& options) {
  return Fuzzer(target, options).Run();
}

}  // namespace graft::fuzz
