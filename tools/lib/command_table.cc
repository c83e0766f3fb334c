#include "tools/lib/command_table.h"

#include <algorithm>

#include "peft/method.h"
#include "train/run_config.h"

namespace graft {
namespace {

OptionEntry EntryOf(const CLI::Option& option) {
  OptionEntry e;
  e.name = "--" + option.get_lnames().front();
  if (!option.get_snames().empty()) e.short_name = "-" + option.get_snames().front();
  if (option.get_items_expected_max() > 0) {
    const std::string type = option.get_type_name();
    e.value = type.substr(0, type.find(':'));
    if (e.value.empty()) e.value = "VALUE";
  }
  e.help = option.get_description();
  e.default_value = option.get_default_str();
  e.repeats = option.get_items_expected_max() > 1;
  return e;
}

void Add(const CLI::App& app, std::vector<std::string> words, std::vector<CommandEntry>* table) {
  CommandEntry e;
  e.words = words;
  e.help = app.get_description(), e.examples = app.get_footer();
  for (const CLI::Option* option : app.get_options())
    if (option->get_lnames().empty())
      e.arguments.push_back(option->get_name(true));
    else
      e.options.push_back(EntryOf(*option));
  for (const CLI::App* sub : app.get_subcommands({})) e.subcommands.push_back(sub->get_name());
  table->push_back(std::move(e));
  for (const CLI::App* sub : app.get_subcommands({})) {
    std::vector<std::string> below = words;
    below.push_back(sub->get_name());
    Add(*sub, std::move(below), table);
  }
}

// --- roff

// The text as part of a line that begins no request and has no escapes.
std::string Roff(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else
      out += c;
  }
  return out.starts_with('.') || out.starts_with('\'') ? "\\&" + out : out;
}

std::string RoffLines(const std::string& text) {
  std::string out;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    out += Roff(text.substr(begin, end - begin)) + "\n";
    begin = end + 1;
  }
  return out;
}

std::string RoffOption(const OptionEntry& o) {
  std::string head = "\\fB" + Roff(o.name) + "\\fR";
  if (!o.short_name.empty()) head = "\\fB" + Roff(o.short_name) + "\\fR, " + head;
  if (!o.value.empty()) head += " \\fI" + Roff(o.value) + "\\fR";
  std::string text = o.help;
  if (!o.default_value.empty()) text += fmt::format(" [{}]", o.default_value);
  if (o.repeats && text.find("repeated") == text.npos) text += "; may be repeated";
  return fmt::format(".TP\n{}\n{}\n", head, Roff(text));
}

}  // namespace

std::vector<CommandEntry> CommandTable(const CLI::App& app) {
  std::vector<CommandEntry> table;
  for (const CLI::App* sub : app.get_subcommands({})) Add(*sub, {sub->get_name()}, &table);
  return table;
}

std::vector<OptionEntry> CommonEntries(const std::vector<CommandEntry>& table) {
  const auto has = [](const CommandEntry& c, const std::string& name) {
    return std::ranges::find(c.options, name, &OptionEntry::name) != c.options.end();
  };
  std::vector<OptionEntry> common;
  for (const CommandEntry& first : table) {
    if (!has(first, "--threads")) continue;
    for (const OptionEntry& o : first.options)
      if (std::ranges::all_of(
              table, [&](const CommandEntry& c) { return !has(c, "--threads") || has(c, o.name); }))
        common.push_back(o);
    break;
  }
  return common;
}

std::vector<std::string> ValuesOf(const std::string& option) {
  if (option == "--method" || option == "--methods") {
    std::vector<std::string> names;
    for (const MethodRecord* record : AllMethods()) names.emplace_back(record->name);
    return names;
  }
  if (option == "--best-metric") return MetricNames();
  static const std::vector<std::pair<std::string, std::vector<std::string>>> kValues{
      {"--schedule", {"cosine", "linear", "constant"}},
      {"--task", TaskNames()},
      {"--optimizer", {"adamw", "sgd"}},
      {"--class-weights", {"balanced"}},
      {"--checkpoint", {"best", "last"}},
      {"--format", {"hf-peft", "hf", "timm", "graft"}},
      {"--weights", {"f32", "f16", "bf16", "base"}},
      {"--graph", {"text", "dot", "svg"}},
      {"--head", {"mlm"}},
      {"--objective", {"mlm", "nsp", "nss"}},
      {"--pool", {"pooler", "cls", "mean"}},
      {"--isa", {"avx512", "avx2", "sse4"}},
      {"--dtype", {"f32", "bf16", "int8", "auto"}}};
  for (const auto& [name, values] : kValues)
    if (name == option) return values;
  return {};
}

std::string ManPage(const CLI::App& app, const std::string& version) {
  const std::vector<CommandEntry> table = CommandTable(app);
  const std::vector<OptionEntry> common = CommonEntries(table);
  const auto is_common = [&](const OptionEntry& o) {
    return std::ranges::find(common, o.name, &OptionEntry::name) != common.end();
  };
  std::string page = fmt::format(".TH GRAFT 1 \"\" \"{}\" \"User Commands\"\n", version);
  page += ".SH NAME\ngraft \\- " + Roff(app.get_description()) + "\n";
  page += ".SH SYNOPSIS\n.B graft\n\\fICOMMAND\\fR [\\fIOPTIONS\\fR]\n.SH COMMANDS\n";
  for (const CommandEntry& c : table) {
    page += fmt::format(".SS graft {}", Roff(c.Words()));
    for (const std::string& argument : c.arguments) page += " " + Roff(argument);
    page += "\n" + Roff(c.help) + "\n";
    for (const OptionEntry& o : c.options)
      if (!is_common(o)) page += RoffOption(o);
    if (!c.examples.empty()) page += ".PP\n.nf\n" + RoffLines(c.examples) + ".fi\n";
  }
  page += ".SH COMMON OPTIONS\nOf all commands that compute or read files:\n";
  for (const OptionEntry& o : common) page += RoffOption(o);
  page +=
      ".SH EXIT STATUS\n0 done; 1 user or file error, or no memory or threads left; 2 wrong usage; "
      "3 the merge is not proved; 4 the method cannot be folded; 5 the loss is no longer finite; "
      "6 a profile is slower than --fail-over allows; "
      "130 interrupted, saved, resumable.\n";
  return page;
}

}  // namespace graft
