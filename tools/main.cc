// graft: a thin client of the library, one file per sub-command.
#include <execinfo.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <new>
#include <system_error>

#include "runtime/io/files_read.h"
#include "runtime/io/mapped_file.h"
#include "runtime/process_group.h"
#include "runtime/version.h"
#include "tools/commands.h"
#include "tools/lib/output.h"

namespace graft {

bool wants_json = false;  // --json is on the command line, whether the rest is in order or not

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

// What options are called in other programs.
std::string FlagElsewhere(const std::string& flag) {
  static const std::vector<std::pair<std::string_view, const char*>> kFlags{
      {"--learning-rate", "--lr"},
      {"--rate", "--lr"},
      {"--output", "--out"},
      {"--output-dir", "--out"},
      {"--output-directory", "--out"},
      {"--wd", "--weight-decay"},
      {"--dataset", "--data"},
      {"--data-dir", "--data"},
      {"--max-seq-length", "--max-length"}};
  for (const auto& [elsewhere, ours] : kFlags)
    if (flag == elsewhere) return ours;
  return "";
}

// A word of the command line that is no flag and no command where it stands, and the nearest that
// is; all empty if there is none.
struct Unknown {
  std::string flag, command, hint;
};
Unknown FindUnknown(const CLI::App& app, int argc, char** argv) {
  const CLI::App* active = &app;  // the command, or the one of its commands that was reached
  const auto contains = [](const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i], flag = word.substr(0, word.find('='));
    const std::vector<std::string> commands = CommandsOf(*active), flags = FlagsOf(*active);
    if (flag.size() > 2 && flag[0] == '-' && std::isalpha(static_cast<unsigned char>(flag[1])) &&
        contains(flags, "-" + flag))
      return {flag, "", fmt::format("; did you mean '-{}'?", flag)};
    if (flag.starts_with("--") && !contains(flags, flag)) {
      if (const std::string ours = FlagElsewhere(flag); contains(flags, ours))
        return {flag, "", fmt::format("; did you mean '{}'?", ours)};
      for (const CLI::App* sub : active->get_subcommands({}))
        if (contains(FlagsOf(*sub), flag))
          return {flag, "",
                  fmt::format("; {} follows the command: {}", flag, fmt::join(commands, ", "))};
      return {flag, "", DidYouMean(flag, flags)};
    }
    if (commands.empty() || word.starts_with('-')) continue;
    if (!contains(commands, word)) return {"", word, DidYouMean(word, commands)};
    active = active->get_subcommand(word);
  }
  return {"", "", CommandsOf(*active).empty() ? "" : DidYouMean("", CommandsOf(*active))};
}

// A word that belongs to no option of the command that was reached.
std::string UnexpectedWord(const CLI::App& app) {
  const CLI::App* active = &app;
  std::string name = app.get_name();
  while (!active->get_subcommands().empty()) {
    active = active->get_subcommands().front();
    name += " " + active->get_name();
  }
  const std::vector<std::string> words = app.remaining(true);
  const std::string word = words.empty() ? "" : words.front();
  std::error_code ignored;
  const std::vector<std::string> flags = FlagsOf(*active);
  const bool data = std::ranges::find(flags, "--data") != flags.end();
  return fmt::format("'{}' belongs to no option{}; example: {} --help", word,
                     data && std::filesystem::exists(word, ignored)
                         ? fmt::format("; did you mean --data {}?", ShellWord(word))
                         : "",
                     name);
}

// What CLI11 found wrong, in our words where its own are in another order or say no kind.
std::string UsageMessage(const CLI::App& app, const CLI::ParseError& e, int argc, char** argv) {
  const Unknown unknown = FindUnknown(app, argc, argv);
  const std::string said = e.what();
  if (dynamic_cast<const CLI::ExtrasError*>(&e)) {
    if (!unknown.flag.empty()) return fmt::format("no option '{}'{}", unknown.flag, unknown.hint);
    if (!unknown.command.empty())
      return fmt::format("no command '{}'{}", unknown.command, unknown.hint);
    return UnexpectedWord(app);
  }
  constexpr std::string_view kNumber = "Could not convert: ";  // a word is no number, and converts
  const size_t equals = said.find(" = ");
  if (dynamic_cast<const CLI::ConversionError*>(&e) && said.starts_with(kNumber) &&
      equals != said.npos)
    return fmt::format("{}: expected a number, found '{}'",
                       said.substr(kNumber.size(), equals - kNumber.size()),
                       said.substr(equals + 3));
  return said + unknown.hint;
}

// Tells people what went wrong and, with --json, programs.
int EndWith(const std::string& message, ErrorKind kind) {
  Complain(message);
  if (wants_json) PrintErrorJson(message, kind);
  return static_cast<int>(kind);
}

// Whether a launcher has started this process beside a first one, which has the same words and so
// finds the same wrong with them. That one tells; the others end with 0, as a launcher kills all
// processes when one ends with an error.
bool OthersTell() { return ReadLaunch().rank > 0 && LaunchedAlike(); }

// The command's name, "bench vtab"; empty without one.
std::string CommandOf(const CLI::App& app) {
  std::string name;
  const CLI::App* active = &app;
  while (!active->get_subcommands().empty()) {
    active = active->get_subcommands().front();
    name += (name.empty() ? "" : " ") + active->get_name();
  }
  return name;
}

// Several processes divide the work of some commands. Any other one would be done by each of them,
// and each would write the same files: the first does it alone.
void LeaveToFirst(const CLI::App& app, const CommonOptions& common) {
  constexpr std::string_view kDivided[] = {
      "train", "search", "ablate", "bench vtab", "bench few-shot", "bench text", "bench shift"};
  const std::string name = CommandOf(app);
  if (std::ranges::find(kDivided, name) != std::end(kDivided) || !LaunchedAlike()) return;
  if (OthersTell()) throw CLI::RuntimeError(0);
  if (!common.quiet && !name.empty())
    std::fprintf(stderr, "note: %d processes were started; the first alone runs %s, on its cores\n",
                 ReadLaunch().size, name.c_str());
  ForgetLaunch();
}

// Says what ended the command, and returns its exit code.
int Explain(const CLI::App& app, int argc, char** argv) {
  try {
    throw;
  } catch (const CLI::RuntimeError& e) {
    return e.get_exit_code();  // the command has said what it found
  } catch (const CLI::ParseError& e) {
    if (OthersTell()) return 0;
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    return EndWith(UsageMessage(app, e, argc, argv), ErrorKind::kUsage);
  } catch (const Error& e) {
    if (e.kind == ErrorKind::kUsage && OthersTell()) return 0;
    return EndWith(e.what(), e.kind);
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::filesystem::filesystem_error& e) {
    return EndWith(fmt::format("{}: {}", e.path1().string(), e.code().message()), ErrorKind::kUser);
  } catch (const std::system_error& e) {  // of std::thread and std::async
    return EndWith(fmt::format("cannot start a thread: {}; hint: --threads 1, or a higher limit of "
                               "processes (ulimit -u) and memory (ulimit -v)",
                               e.code().message()),
                   ErrorKind::kUser);
  } catch (const std::exception& e) {
    return EndWith(e.what(), ErrorKind::kUser);
  }
}

int Main(int argc, char** argv) {
  CLI::App app("Fine-tune and serve vision transformers and BERT on CPUs.", "graft");
  app.formatter(MakeHelpFormat());  // also of the commands that follow
  app.require_subcommand(0, 1);
  const std::string version = fmt::format("graft {}", kVersion);
  app.set_version_flag("--version", version);
  app.footer("Start with: graft demo\nHelp and an example for a command: graft train --help");
  ProtectWhatIsRead();
  ProtectWhatExists(true);
  CommonOptions common;
  AddDemoCommand(app, common);
  AddTrainCommand(app, common);
  AddEvalCommand(app, common);
  AddPredictCommand(app, common);
  AddFuseCommand(app, common);
  AddExportCommand(app, common);
  AddInspectCommand(app, common);
  AddProfileCommand(app, common);
  AddPlanCommand(app, common);
  AddDataCommand(app, common);
  AddBenchCommand(app, common);
  AddAblateCommand(app, common);
  AddRunsCommand(app, common);
  AddSearchCommand(app, common);
  AddModelsCommand(app, common);
  AddHelpCommands(app, version);
  app.parse_complete_callback([&] { LeaveToFirst(app, common); });
  int code = 0;
  try {
    app.parse(argc, argv);
    if (app.get_subcommands().empty()) PrintText(HelpText(app));
  } catch (...) {
    code = Explain(app, argc, argv);
  }
  if (code != 0) return code;
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
// as long. A short spin costs nothing on an idle machine. libgomp reads the variable as it is
// loaded, hence the exec: before any library has started, so that this happens once.
void ShortenSpinning(int, char** argv, char** environment) {
  size_t count = 0;
  for (; environment[count]; ++count) {
    for (const char* set : {"GOMP_SPINCOUNT=", "OMP_WAIT_POLICY="}) {
      if (std::strncmp(environment[count], set, std::strlen(set)) == 0) return;
    }
  }
  char spins[] = "GOMP_SPINCOUNT=20000";
  const auto longer = static_cast<char**>(__builtin_alloca((count + 2) * sizeof(char*)));
  std::copy_n(environment, count, longer);
  longer[count] = spins;
  longer[count + 1] = nullptr;
  execve("/proc/self/exe", argv, longer);
  // Without /proc the program just goes on as it is.
}

[[gnu::section(".preinit_array"),
  gnu::used]] void (*const kBeforeLibraries)(int, char**, char**) = ShortenSpinning;

#define GRAFT_OUT_OF_MEMORY "out of memory; hint: --memory-budget, or a smaller --batch-size"
constexpr char kOutOfMemory[] = "graft: " GRAFT_OUT_OF_MEMORY "\n";
constexpr char kOutOfMemoryJson[] =
    "{\"error\":\"" GRAFT_OUT_OF_MEMORY "\",\"exit_code\":1,\"kind\":\"user\"}\n";

// Allocates nothing.
void SayOutOfMemory() {
  std::fputs(kOutOfMemory, stderr);
  if (graft::wants_json) std::fputs(kOutOfMemoryJson, stdout), std::fflush(stdout);
}

// Memory may end where no exception can leave: in a destructor, a kernel, before main.
[[noreturn]] void OnTerminate() {
  try {
    if (std::current_exception()) throw;
  } catch (const std::bad_alloc&) {
    SayOutOfMemory();
    std::_Exit(static_cast<int>(graft::ErrorKind::kUser));
  } catch (const std::exception& e) {  // a bug: what must not throw has
    std::fprintf(stderr, "graft: internal error: %s\n", e.what());
  } catch (...) {
  }
  std::abort();
}

// A thread that ends, of OpenMP's too, wants libgcc's unwinder, which the C library opens when it
// is first wanted; without memory for that, it would abort.
void OpenUnwinder() {
  void* caller = nullptr;
  backtrace(&caller, 1);
}

// Before any initial value that is computed.
[[gnu::constructor(101)]] void CatchTerminate() { std::set_terminate(OnTerminate); }

}  // namespace

int main(int argc, char** argv) {
  OpenUnwinder();
  // A limit on the size of files is then an error of write(2), like a full disk.
  std::signal(SIGXFSZ, SIG_IGN);
  for (int i = 1; i < argc; ++i) graft::wants_json |= std::strcmp(argv[i], "--json") == 0;
  graft::ExplainFilesCutShort(graft::wants_json);
  try {
    return graft::Main(argc, argv);
  } catch (const std::bad_alloc&) {  // nothing that could allocate any more
    SayOutOfMemory();
    return static_cast<int>(graft::ErrorKind::kUser);
  }
}
