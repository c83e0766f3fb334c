// graft: a thin client of the library, one file per sub-command.
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "tools/commands.h"

namespace graft {
namespace {

std::vector<std::string> CommandsOf(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* sub : app.get_subcommands({})) names.push_back(sub->get_name());
  return names;
}

std::vector<std::string> FlagsOf(const CLI::App& app) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
  return flags;
}

// CLI11 says what is wrong; this adds the nearest valid flag or command.
std::string Hint(const CLI::App& app, int argc, char** argv) {
  const CLI::App* active = &app;  // the command, or the one of its commands that was reached
  const auto contains = [](const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i], flag = word.substr(0, word.find('='));
    const std::vector<std::string> commands = CommandsOf(*active), flags = FlagsOf(*active);
    if (flag.starts_with("--") && !contains(flags, flag)) {
      for (const CLI::App* sub : active->get_subcommands({}))
        if (contains(FlagsOf(*sub), flag))
          return fmt::format("; {} follows the command: {}", flag, fmt::join(commands, ", "));
      return DidYouMean(flag, flags);
    }
    if (commands.empty() || word.starts_with('-')) continue;
    if (!contains(commands, word)) return DidYouMean(word, commands);
    active = active->get_subcommand(word);
  }
  return CommandsOf(*active).empty() ? "" : DidYouMean("", CommandsOf(*active));
}

// One line, whatever a hostile file has put into names: no control characters, and of a long
// message the two ends.
void Complain(std::string_view message) {
  constexpr size_t kBegin = 1500, kEnd = 1000;
  std::string line;
  for (const char c : message) {
    const bool control = static_cast<uint8_t>(c) < 32 || c == 127;
    line += c == '\n' ? "\\n" : control ? fmt::format("\\x{:02x}", c) : std::string(1, c);
  }
  if (line.size() > kBegin + kEnd) {
    const auto inside = [&](size_t at) { return (static_cast<uint8_t>(line[at]) & 0xC0) == 0x80; };
    size_t begin = kBegin, end = line.size() - kEnd;  // not inside of a character
    while (begin > 0 && inside(begin)) --begin;
    while (end < line.size() && inside(end)) ++end;
    line = fmt::format("{} [{} bytes] {}", line.substr(0, begin), end - begin, line.substr(end));
  }
  std::fprintf(stderr, "graft: %s\n", line.c_str());
}

int Main(int argc, char** argv) {
  CLI::App app("Fine-tune and serve vision transformers and BERT on CPUs.", "graft");
  app.require_subcommand(1);
  app.set_version_flag("--version", "graft 0.1.0");
  app.footer("Start with: graft demo\nHelp and an example for a command: graft train --help");
  CommonOptions common;
  AddDemoCommand(app, common);
  AddTrainCommand(app, common);
  AddEvalCommand(app, common);
  AddPredictCommand(app, common);
  AddFuseCommand(app, common);
  AddExportCommand(app, common);
  AddInspectCommand(app, common);
  AddProfileCommand(app, common);
  AddDataCommand(app, common);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    Complain(e.what() + Hint(app, argc, argv));
    return static_cast<int>(ErrorKind::kUsage);
  } catch (const Error& e) {
    Complain(e.what());
    return static_cast<int>(e.kind);
  } catch (const std::bad_alloc&) {
    Complain("out of memory; hint: --memory-budget, or a smaller --batch-size");
    return static_cast<int>(ErrorKind::kUser);
  } catch (const std::filesystem::filesystem_error& e) {
    Complain(fmt::format("{}: {}", e.path1().string(), e.code().message()));
    return static_cast<int>(ErrorKind::kUser);
  } catch (const std::exception& e) {
    Complain(e.what());
    return static_cast<int>(ErrorKind::kUser);
  }
  // A result that was not printed is no success: the disk behind a redirection may be full.
  if (std::fflush(stdout) != 0 || std::ferror(stdout)) {
    Complain(fmt::format("cannot write the standard output: {}", std::strerror(errno)));
    return static_cast<int>(ErrorKind::kUser);
  }
  return 0;
}

}  // namespace
}  // namespace graft

namespace {

// libgomp's threads spin for milliseconds between parallel loops. Where another program wants the
// same cores, each loop then waits for a thread that waits for nothing, and a step takes ten times
// as long. A short spin costs nothing on an idle machine. libgomp reads the variable before main,
// hence the exec.
void ShortenSpinning(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") || std::getenv("OMP_WAIT_POLICY")) return;
  setenv("GOMP_SPINCOUNT", "20000", 1);
  execv("/proc/self/exe", argv);
  // Without /proc the program just goes on as it is.
}

}  // namespace

int main(int argc, char** argv) {
  ShortenSpinning(argv);
  // A limit on the size of files is then an error of write(2), like a full disk.
  std::signal(SIGXFSZ, SIG_IGN);
  return graft::Main(argc, argv);
}
