// Runs the built `graft` as a user would. The binary is GRAFT_BINARY of the environment, or the one
// beside the test.
#pragma once
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tests/test_util.h"

namespace graft::cli {

namespace fs = std::filesystem;

inline std::string Slurp(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

inline void Spill(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline fs::path BesideTheTest(const char* name) {
  return fs::read_symlink("/proc/self/exe").parent_path() / name;
}

inline std::string Binary() {
  if (const char* named = std::getenv("GRAFT_BINARY")) return named;
  return BesideTheTest("graft").string();
}

// While there is one, commands take every --dtype, whatever this CPU has instructions for.
class Emulation {
 public:
  Emulation() { setenv("GRAFT_EMULATE", "1", 1); }
  ~Emulation() { unsetenv("GRAFT_EMULATE"); }
  Emulation(const Emulation&) = delete;
  Emulation& operator=(const Emulation&) = delete;
};

struct Outcome {
  int code = 0;
  std::string out, err;
  size_t peak_bytes = 0;  // resident
  nlohmann::json json() const { return nlohmann::json::parse(out); }
};

// What a command finds around it.
struct Surroundings {
  rlim_t most_file_bytes = RLIM_INFINITY;  // writing beyond fails as on a full disk
  rlim_t most_memory = RLIM_INFINITY;      // addresses; what is allocated beyond fails
  std::string standard_output;             // "": a file that is read afterwards
  std::string temporary;                   // TMPDIR, unless ""
  std::string stop_at;                     // "", or where it stops once this path is there
};

// A command that runs in the background.
class Process {
 public:
  explicit Process(std::vector<std::string> args, const Surroundings& around = {}) {
    args.insert(args.begin(), "graft");
    const std::string binary = Binary();
    std::vector<char*> argv;
    for (std::string& arg : args) argv.push_back(arg.data());
    argv.push_back(nullptr);
    const std::string err = files_ / "err";
    const std::string out =
        around.standard_output.empty() ? files_ / "out" : around.standard_output;
    const rlimit limit{around.most_file_bytes, around.most_file_bytes};
    const rlimit memory{around.most_memory, around.most_memory};
    pid_ = fork();
    if (pid_ != 0) return;
    setrlimit(RLIMIT_FSIZE, &limit);
    if (!around.temporary.empty()) setenv("TMPDIR", around.temporary.c_str(), 1);
    if (!around.stop_at.empty()) {
      setenv("LD_PRELOAD", BesideTheTest("libgraft_stop_at.so").c_str(), 1);
      setenv("GRAFT_TEST_STOP_AT", around.stop_at.c_str(), 1);
    }
    // Permissions hold for root, too: the right to read and write everything goes.
    for (int right : {CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH}) prctl(PR_CAPBSET_DROP, right);
    const int mode = O_WRONLY | O_CREAT | O_TRUNC;
    dup2(open(out.c_str(), mode, 0644), STDOUT_FILENO);
    dup2(open(err.c_str(), mode, 0644), STDERR_FILENO);
    setrlimit(RLIMIT_AS, &memory);
    execv(binary.c_str(), argv.data());
    _exit(127);
  }
  void Signal(int signal) const { kill(pid_, signal); }
  // Waits until it has stopped itself (Surroundings.stop_at); it may end before, which is a
  // failure.
  void WaitUntilStopped() const {
    siginfo_t info{};
    const int options = WSTOPPED | WEXITED | WNOWAIT;
    ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid_), &info, options), 0);
    ASSERT_EQ(info.si_code, CLD_STOPPED) << Slurp(files_ / "err");
  }
  void Continue() const { Signal(SIGCONT); }
  Outcome Wait() {
    int status = 0;
    rusage used{};
    wait4(pid_, &status, 0, &used);
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    return {code, Slurp(files_ / "out"), Slurp(files_ / "err"),
            static_cast<size_t>(used.ru_maxrss) << 10};
  }
  bool Running() const {
    siginfo_t info{};
    return waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == 0;
  }

 private:
  TempDir files_;
  pid_t pid_ = -1;
};

// A command that is ended by a signal at the moment when this path is there.
inline Outcome SignalAt(std::vector<std::string> args, const std::string& path, int signal) {
  Process process(std::move(args), {.stop_at = path});
  process.WaitUntilStopped();
  process.Signal(signal);
  process.Continue();
  return process.Wait();
}

inline Outcome Graft(std::vector<std::string> args, const Surroundings& around = {}) {
  return Process(std::move(args), around).Wait();
}

// Does the same with --json; the exit code must be 0.
inline nlohmann::json GraftJson(std::vector<std::string> args) {
  args.push_back("--json");
  const Outcome o = Graft(args);
  EXPECT_EQ(o.code, 0) << args[0] << ": " << o.err;
  const nlohmann::json json = nlohmann::json::parse(o.out, nullptr, false);
  EXPECT_TRUE(json.is_object()) << args[0] << ": " << o.out;
  return json;
}

inline void ExpectKeys(const nlohmann::json& json, const std::vector<std::string>& keys) {
  for (const std::string& key : keys)
    EXPECT_TRUE(json.contains(key)) << "no '" << key << "' in " << json.dump();
}

inline void ExpectRefused(const std::vector<std::string>& args, int code,
                          const std::string& words) {
  const Outcome o = Graft(args);
  EXPECT_EQ(o.code, code) << o.err;
  EXPECT_NE(o.err.find(words), std::string::npos) << words << " in:\n" << o.err;
}

constexpr const char* kNano = "init:vit_nano_patch8_32";
constexpr const char* kNanoBert =
    "init:bert(vocab=260,width=64,depth=2,heads=2,mlp=128,positions=32)";

// A tiny data set; every command of a test run then takes well under a second.
inline void MakeData(const std::string& out, const std::string& task = "shapes") {
  const Outcome o = Graft({"data", "make", task, "--out", out, "--size", "32", "--train", "48",
                           "--val", "16", "--test", "24"});
  ASSERT_EQ(o.code, 0) << o.err;
}

// The same of texts, with two classes.
inline void MakeTexts(const std::string& out, int train, int dev) {
  fs::create_directory(out);
  Spill(out + "/labels.txt", "odd\neven\n");
  for (const auto& [split, count] : {std::pair{"train", train}, {"dev", dev}}) {
    std::string lines;
    for (int i = 0; i < count; ++i)
      lines += fmt::format("the {} of {} {}\t{}\n", split, 3 * i, std::string(i % 5, 'a'), i % 2);
    Spill(fmt::format("{}/{}.tsv", out, split), lines);
  }
}

inline std::vector<std::string> TrainArgs(const std::string& data, const std::string& out,
                                          const std::vector<std::string>& more = {}) {
  std::vector<std::string> args{"train",    "--model",   kNano,      "--data", data,
                                "--method", "lora(r=2)", "--epochs", "2",      "--batch-size",
                                "16",       "--out",     out};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

}  // namespace graft::cli
