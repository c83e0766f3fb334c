// Commands under mpirun.
#pragma once
#include "tests/cli_testing.h"

namespace graft::cli {

// While it lives, commands of the test run under mpirun.
class UnderMpi {
 public:
  explicit UnderMpi(int processes, const std::string& program = Binary()) {
    const std::string script = files_ / "mpi";
    // What MPI itself keeps to its end is no leak of ours.
    Spill(script,
          fmt::format("#!/bin/sh\nexport ASAN_OPTIONS=\"$ASAN_OPTIONS:detect_leaks=0\"\n"
                      "exec mpirun --allow-run-as-root --oversubscribe --bind-to none -n {} '{}' "
                      "\"$@\"\n",
                      processes, program));
    fs::permissions(script, fs::perms::owner_all);
    if (const char* before = std::getenv("GRAFT_BINARY")) before_ = before;
    setenv("GRAFT_BINARY", script.c_str(), 1);
  }
  ~UnderMpi() {
    before_.empty() ? unsetenv("GRAFT_BINARY") : setenv("GRAFT_BINARY", before_.c_str(), 1);
  }

 private:
  TempDir files_;
  std::string before_;
};

// Finds the process of this rank whose words have this one in them, a path; 0 if there is none.
inline pid_t FindProcess(const std::string& path, int rank) {
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != name.npos) continue;
    const std::string words = Slurp(entry.path() / "cmdline");
    const std::string variables = Slurp(entry.path() / "environ");
    if (words.find(path) != words.npos &&
        variables.find(fmt::format("OMPI_COMM_WORLD_RANK={}", rank)) != variables.npos)
      return std::stoi(name);
  }
  return 0;
}

// A job whose second process gets this signal while the first one waits in this file of the run.
inline Outcome SignalSecondAt(std::vector<std::string> args, const std::string& run,
                              const std::string& file, int signal) {
  Process job(std::move(args), {.stop_at = run + "/" + file});
  pid_t first = 0;
  const auto stopped = [&] {
    first = FindProcess(run, 0);
    return first && Slurp(fmt::format("/proc/{}/stat", first)).find(") T ") != std::string::npos;
  };
  while (job.Running() && !stopped()) usleep(1000);
  const pid_t second = FindProcess(run, 1);
  EXPECT_TRUE(first > 0 && second > 0);
  if (second > 0) kill(second, signal);
  if (first > 0) kill(first, SIGCONT);
  return job.Wait();
}

}  // namespace graft::cli
