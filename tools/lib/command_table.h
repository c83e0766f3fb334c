// The commands and their options as tables, from which help, the man page and completions are made.
#pragma once
#include <string>
#include <vector>

#include "tools/lib/options.h"

namespace graft {

struct OptionEntry {
  std::string name;        // "--epochs"
  std::string short_name;  // "-h", or ""
  std::string value;       // "INT"; "" of a flag
  std::string help;
  std::string default_value;
  bool repeats = false;  // may be given several times
};

struct CommandEntry {
  std::vector<std::string> words;  // {"data", "make"}
  std::string help, examples;      // examples: the text behind the options
  std::vector<OptionEntry> options;
  std::vector<std::string> arguments;    // without a dash, as "inputs"
  std::vector<std::string> subcommands;  // of `data`: make, check

  std::string Words(const std::string& separator = " ") const {
    return fmt::format("{}", fmt::join(words, separator));
  }
};

// Every command of the program, each followed by its sub-commands.
std::vector<CommandEntry> CommandTable(const CLI::App& app);
// The options that every command with --threads has.
std::vector<OptionEntry> CommonEntries(const std::vector<CommandEntry>& table);
// The words that an option takes, if they are few; else none.
std::vector<std::string> ValuesOf(const std::string& option);

// The man page graft(1) in roff.
std::string ManPage(const CLI::App& app, const std::string& version);
// The completions of bash, zsh or fish. Throws Error (kUsage) for another shell.
std::string Completions(const CLI::App& app, const std::string& shell);

}  // namespace graft
