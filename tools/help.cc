// graft help, graft completions: made from the table of commands and options.
#include <sstream>

#include "tools/commands.h"
#include "tools/lib/command_table.h"
#include "tools/lib/output.h"

namespace graft {
namespace {

// Breaks descriptions into lines that a usual terminal does not break again.
class HelpFormat : public CLI::Formatter {
 public:
  std::string make_option_desc(const CLI::Option* option) const override {
    return Wrapped(option->get_description());
  }
  std::string make_subcommand(const CLI::App* command) const override {
    std::stringstream out;
    CLI::detail::format_help(out, command->get_display_name(true),
                             Wrapped(command->get_description()), get_column_width());
    return out.str();
  }

 private:
  // The text broken at blanks; a word that is longer than a line stays whole.
  std::string Wrapped(const std::string& text) const {
    constexpr size_t kColumns = 80;
    std::string wrapped, line;
    std::istringstream words(text);
    for (std::string word; words >> word;) {
      if (!line.empty() && get_column_width() + line.size() + 1 + word.size() > kColumns) {
        wrapped += line + "\n";
        line.clear();
      }
      line += (line.empty() ? "" : " ") + word;
    }
    return wrapped + line;
  }
};

std::string TopHelp(const CLI::App& app) {
  return app.get_formatter()->make_help(&app, app.get_name(), CLI::AppFormatMode::Normal);
}

// The help of a command, or of one of its sub-commands.
std::string HelpOf(const CLI::App& app, const std::vector<std::string>& words) {
  const CLI::App* at = &app;
  std::string before = app.get_name();
  for (size_t i = 0; i < words.size(); ++i) {
    std::vector<std::string> names;
    const CLI::App* found = nullptr;
    for (const CLI::App* sub : at->get_subcommands({})) {
      names.push_back(sub->get_name());
      if (sub->get_name() == words[i]) found = sub;
    }
    if (!found) FailUsage("help: no command '{}'{}", words[i], DidYouMean(words[i], names));
    if (i > 0) before += " " + at->get_name();
    at = found;
  }
  return at == &app ? TopHelp(app) : at->help(before);
}

}  // namespace

std::shared_ptr<CLI::FormatterBase> MakeHelpFormat() { return std::make_shared<HelpFormat>(); }

std::string HelpText(const CLI::App& app) { return TopHelp(app); }

void AddHelpCommands(CLI::App& app, const std::string& version) {
  CLI::App* help = app.add_subcommand("help", "help for a command: graft help train");
  auto words = std::make_shared<std::vector<std::string>>();
  auto man = std::make_shared<bool>(false);
  help->add_option("command", *words, "a command, and a command of it: data make");
  help->add_flag("--man", *man, "print the man page, in roff");
  help->footer("Example:\n  graft help data make\n  graft help --man > graft.1");
  help->callback([&app, words, man, version] {
    if (*man && !words->empty()) FailUsage("help: expected --man or a command, found both");
    PrintText(*man ? ManPage(app, version) : HelpOf(app, *words));
  });
  CLI::App* completions =
      app.add_subcommand("completions", "print the completions of a shell: bash, zsh or fish");
  auto shell = std::make_shared<std::string>();
  completions->add_option("shell", *shell, "bash, zsh or fish")->required();
  completions->footer(
      "Example:\n  source <(graft completions bash)\n"
      "  graft completions fish > ~/.config/fish/completions/graft.fish");
  completions->callback([&app, shell] { PrintText(Completions(app, *shell)); });
}

}  // namespace graft
