#include "tools/lib/child.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "runtime/error.h"

namespace graft {
namespace {

struct Pipe {
  int ends[2] = {-1, -1};
  Pipe() {
    if (pipe2(ends, O_CLOEXEC) != 0) Fail("cannot make a pipe: {}", std::strerror(errno));
  }
  ~Pipe() { Close(0), Close(1); }
  Pipe(const Pipe&) = delete;
  void Close(int end) {
    if (ends[end] >= 0) close(ends[end]);
    ends[end] = -1;
  }
  // Appends what is there; returns false at the end.
  bool Read(std::string& text) {
    char buffer[4096];
    const ssize_t n = read(ends[0], buffer, sizeof(buffer));
    if (n > 0) text.append(buffer, static_cast<size_t>(n));
    return n > 0 || (n < 0 && errno == EINTR);
  }
};

void TakeLines(std::string& text, ChildResult& result,
               const std::function<void(const std::string&)>& on_line) {
  for (size_t end; (end = text.find('\n')) != std::string::npos; text.erase(0, end + 1)) {
    result.last_line = text.substr(0, end);
    if (on_line) on_line(result.last_line);
  }
}

// Reads both pipes until the child has closed them.
void Drain(Pipe& out, Pipe& err, std::string& out_text, ChildResult& result,
           const std::function<void(const std::string&)>& on_line) {
  std::string err_text;
  while (out.ends[0] >= 0 || err.ends[0] >= 0) {
    pollfd polls[] = {{out.ends[0], POLLIN, 0}, {err.ends[0], POLLIN, 0}};
    if (poll(polls, 2, -1) < 0 && errno != EINTR) Fail("poll: {}", std::strerror(errno));
    if (polls[0].revents && !out.Read(out_text)) out.Close(0);
    if (polls[1].revents && !err.Read(err_text)) err.Close(0);
    TakeLines(err_text, result, on_line);
  }
}

}  // namespace

ChildResult RunSelf(std::vector<std::string> args,
                    const std::function<void(const std::string&)>& on_line) {
  args.insert(args.begin(), "graft");
  args.push_back("--json");
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);
  Pipe out, err;
  const pid_t child = fork();
  if (child < 0) Fail("cannot start a process: {}", std::strerror(errno));
  if (child == 0) {
    dup2(out.ends[1], STDOUT_FILENO);
    dup2(err.ends[1], STDERR_FILENO);
    execv("/proc/self/exe", argv.data());
    _exit(127);
  }
  out.Close(1), err.Close(1);
  ChildResult result;
  std::string text;
  Drain(out, err, text, result, on_line);
  int status = 0;
  rusage usage{};
  while (wait4(child, &status, 0, &usage) < 0 && errno == EINTR) {
  }
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.peak_memory_bytes = static_cast<size_t>(usage.ru_maxrss) << 10;
  result.json = nlohmann::json::parse(text, nullptr, false);
  if (result.json.is_discarded()) result.json = nullptr;
  return result;
}

}  // namespace graft
