// Writes completions for shells (command_table.h).
#include <algorithm>

#include "tools/lib/command_table.h"

namespace graft {
namespace {

std::string JoinedWords(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, " "));
}

std::vector<std::string> TopCommands(const std::vector<CommandEntry>& table) {
  std::vector<std::string> names;
  for (const CommandEntry& c : table)
    if (c.words.size() == 1) names.push_back(c.words[0]);
  return names;
}

std::vector<std::string> OptionNames(const CommandEntry& c) {
  std::vector<std::string> names;
  for (const OptionEntry& o : c.options) names.push_back(o.name);
  return names;
}

// The commands that have sub-commands, joined: "data|bench".
std::string Parents(const std::vector<CommandEntry>& table) {
  std::vector<std::string> names;
  for (const CommandEntry& c : table)
    if (!c.subcommands.empty()) names.push_back(c.words[0]);
  return fmt::format("{}", fmt::join(names, "|"));
}

// The words that an argument may be; none if it is a file.
std::vector<std::string> Arguments(const CommandEntry& c, const std::vector<CommandEntry>& table) {
  if (!c.subcommands.empty()) return c.subcommands;
  if (c.words[0] == "help") {
    std::vector<std::string> others = TopCommands(table);
    std::erase(others, "help");
    return others;
  }
  if (c.words[0] == "completions") return {"bash", "zsh", "fish"};
  return {};
}

std::string Bash(const std::vector<CommandEntry>& table) {
  std::vector<std::string> with_value;
  std::string values, options, arguments;
  for (const CommandEntry& c : table) {
    options += fmt::format("    '{}') options='{}' ;;\n", c.Words(), JoinedWords(OptionNames(c)));
    if (const auto words = Arguments(c, table); !words.empty())
      arguments += fmt::format("    '{}') words='{}' ;;\n", c.Words(), JoinedWords(words));
    for (const OptionEntry& o : c.options) {
      if (o.value.empty() || std::ranges::find(with_value, o.name) != with_value.end()) continue;
      with_value.push_back(o.name);
      if (const auto words = ValuesOf(o.name); !words.empty())
        values += fmt::format("    {}) words='{}' ;;\n", o.name, JoinedWords(words));
    }
  }
  return fmt::format(
      R"(# bash completion of graft, made by: graft completions bash
_graft() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}}
  local command=${{COMP_WORDS[1]}} options='' words=''
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W '{} --help --version' -- "$cur"))
    return
  fi
  if [[ $command == @({}) ]] && ((COMP_CWORD > 2)); then
    command="$command ${{COMP_WORDS[2]}}"
  fi
  case $prev in
{}    {}) return ;;
  esac
  if [[ -n $words ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    return
  fi
  case $command in
{}  esac
  case $command in
{}  esac
  if [[ $cur == -* ]]; then words=$options; fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
complete -o default -o bashdefault -F _graft graft
)",
      JoinedWords(TopCommands(table)), Parents(table), values, fmt::join(with_value, "|"), options,
      arguments);
}

// The text as zsh takes it inside of '...' and [...].
std::string ZshText(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\'')
      out += "'\\''";
    else if (c == '[' || c == ']' || c == ':' || c == '\\')
      out += std::string("\\") + c;
    else
      out += c;
  }
  return out;
}

std::string ZshCommand(const CommandEntry& c, const std::vector<CommandEntry>& table) {
  std::string text = "_arguments -S";
  for (const OptionEntry& o : c.options) {
    text += fmt::format(" \\\n        '{}{}[{}]", o.repeats ? "*" : "", o.name, ZshText(o.help));
    if (!o.value.empty()) {
      const std::vector<std::string> words = ValuesOf(o.name);
      text += fmt::format(":{}:{}", o.value,
                          words.empty() ? "_files" : fmt::format("({})", JoinedWords(words)));
    }
    text += "'";
  }
  const std::vector<std::string> words = Arguments(c, table);
  return text + fmt::format(" \\\n        '*:argument:{}'",
                            words.empty() ? "_files" : fmt::format("({})", JoinedWords(words)));
}

std::string Zsh(const std::vector<CommandEntry>& table) {
  std::string commands, cases;
  for (const CommandEntry& c : table) {
    if (c.words.size() == 1)
      commands += fmt::format("      '{}:{}'\n", c.words[0], ZshText(c.help));
    cases += fmt::format("    '{}')\n      {} ;;\n", c.Words(), ZshCommand(c, table));
  }
  return fmt::format(R"(#compdef graft
# zsh completion of graft, made by: graft completions zsh
_graft() {{
  local -a commands
  local command=$words[2]
  if (( CURRENT == 2 )); then
    commands=(
{}    )
    _describe command commands
    return
  fi
  shift words
  (( CURRENT-- ))
  if [[ $command == ({}) ]] && (( CURRENT > 2 )); then
    command="$command $words[2]"
    shift words
    (( CURRENT-- ))
  fi
  case $command in
{}  esac
}}
if [[ $funcstack[1] == _graft ]]; then _graft "$@"; else compdef _graft graft; fi
)",
                     commands, Parents(table), cases);
}

std::string FishText(const std::string& text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out + "'";
}

std::string Fish(const std::vector<CommandEntry>& table) {
  std::string text = "# fish completion of graft, made by: graft completions fish\n";
  for (const CommandEntry& c : table) {
    if (c.words.size() == 1)
      text += fmt::format("complete -c graft -f -n __fish_use_subcommand -a {} -d {}\n", c.words[0],
                          FishText(c.help));
    std::string when;
    for (const std::string& word : c.words)
      when += (when.empty() ? "" : "; and ") + ("__fish_seen_subcommand_from " + word);
    if (const auto words = Arguments(c, table); !words.empty())
      text += fmt::format(
          "complete -c graft -f -n '{}; and not __fish_seen_subcommand_from {}' "
          "-a '{}'\n",
          when, JoinedWords(words), JoinedWords(words));
    for (const OptionEntry& o : c.options) {
      text += fmt::format("complete -c graft -n '{}' -l {}", when, o.name.substr(2));
      if (const auto words = ValuesOf(o.name); !words.empty() && !o.value.empty())
        text += fmt::format(" -x -a '{}'", JoinedWords(words));
      else if (!o.value.empty())
        text += " -r";
      text += fmt::format(" -d {}\n", FishText(o.help));
    }
  }
  return text;
}

}  // namespace

std::string Completions(const CLI::App& app, const std::string& shell) {
  const std::vector<CommandEntry> table = CommandTable(app);
  if (shell == "bash") return Bash(table);
  if (shell == "zsh") return Zsh(table);
  if (shell == "fish") return Fish(table);
  FailUsage("completions: no shell '{}'{}", shell, DidYouMean(shell, {"bash", "zsh", "fish"}));
}

}  // namespace graft
