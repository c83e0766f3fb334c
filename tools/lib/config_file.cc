#include "tools/lib/config_file.h"

#include <toml++/toml.h>

#include <algorithm>
#include <sstream>

#include "runtime/io/atomic_file.h"
#include "runtime/io/json.h"

namespace graft {
namespace {

constexpr uint64_t kMostConfigBytes = 1 << 20;

nlohmann::json FromToml(const toml::node& node, const std::string& where) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return number->get();
  if (const auto* number = node.as_floating_point()) return number->get();
  if (const auto* flag = node.as_boolean()) return flag->get();
  nlohmann::json list = nlohmann::json::array();
  if (const auto* array = node.as_array()) {
    for (const toml::node& item : *array) list.push_back(FromToml(item, where));
    return list;
  }
  Fail("{}: expected a string, a number, true, false or a list of them", where);
}

nlohmann::json ReadToml(const std::string& path) {
  toml::table table;
  try {
    table = toml::parse(ReadFile(path, kMostConfigBytes), path);
  } catch (const toml::parse_error& e) {
    Fail("{}:{}: {}", path, e.source().begin.line, std::string(e.description()));
  }
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    if (node.is_table())
      Fail("{}: [{}]: expected options, found a section; hint: leave the section out", path, name);
    json[name] = FromToml(node, fmt::format("{}: '{}'", path, name));
  }
  return json;
}

nlohmann::json ReadConfig(const std::string& path) {
  if (path.ends_with(".toml")) return ReadToml(path);
  if (!path.ends_with(".json"))
    FailUsage("--config {}: expected a name that ends in .json or .toml", path);
  nlohmann::json json = ReadJson(path, {.bytes = kMostConfigBytes});
  if (!json.is_object()) Fail("{}: expected an object, found {}", path, json.type_name());
  return json;
}

// Turns a run's config.json into options. An empty validation split there means that there is none.
nlohmann::json OptionsOfRun(nlohmann::json json) {
  for (const char* fact :
       {"labels", "base_sha256", "examples_sha256", "schedule_epochs", "scale_targets", "trace",
        "read_columns", "texts", "tokenizer_sha256", "contents_sha256"})
    json.erase(fact);
  // `holdout` says what was held out, and makes that split again.
  const auto held = json.find("holdout");
  const bool holds = held != json.end() && held->is_number() && *held > 0;
  if (const auto it = json.find("val_split"); it != json.end()) {
    if (*it == "") *it = "none";
    if (holds) json.erase(it);
  }
  const bool images = json.value("preprocess", nlohmann::json()) != "";
  if (const auto it = json.find("max_length"); it != json.end() && (images || *it == 0))
    json.erase(it);  // of texts
  if (const auto it = json.find("disabled_passes"); it != json.end()) {
    const nlohmann::json passes = *it;
    json.erase(it);
    json["disable_pass"] = passes;
  }
  return json;
}

// The words of one value as a command line would have them; none if it is not given.
std::vector<std::string> WordsOf(const nlohmann::json& value, const CLI::Option& option,
                                 const std::string& where) {
  const bool flag = option.get_items_expected_max() == 0;
  const auto wrong = [&](const char* expected) {
    Fail("{}: expected {}, found {}", where, expected, ShowJson(value));
  };
  if (value.is_null() || value == "") return {};
  if (flag && !value.is_boolean()) wrong("true or false");
  if (!flag && value.is_boolean()) wrong("a string or a number");
  if (value.is_boolean())
    return value.get<bool>() ? std::vector<std::string>{"true"} : std::vector<std::string>{};
  if (value.is_string()) return {value.get<std::string>()};
  if (value.is_number()) return {value.dump()};
  if (!value.is_array() || option.get_items_expected_max() <= 1) wrong("one value");
  std::vector<std::string> words;
  for (const nlohmann::json& item : value) {
    if (!item.is_string()) wrong("a list of strings");
    words.push_back(item.get<std::string>());
  }
  return words;
}

// Whether the command line replaces an option, by itself or by another option that says the same
// and excludes it.
bool Replaced(const CLI::App& command, const std::string& name) {
  const char* other = name == "val-split" ? "--holdout"
                      : name == "holdout" ? "--val-split"
                                          : nullptr;
  const CLI::Option* option = other ? command.get_option_no_throw(other) : nullptr;
  return option && option->count() > 0;
}

}  // namespace

void ApplyConfigFile(CLI::App& command, const std::string& path) {
  nlohmann::json json = ReadConfig(path);
  if (json.contains("base_sha256")) json = OptionsOfRun(std::move(json));
  std::vector<std::string> known;
  for (const CLI::Option* option : command.get_options())
    for (const std::string& name : option->get_lnames())
      if (name != "help" && name != "config" && name != "resume") known.push_back(name);
  // Asked before the file's own options are there: in one file the two contradict each other.
  std::vector<std::string> replaced;
  for (const std::string& name : known)
    if (Replaced(command, name)) replaced.push_back(name);
  for (const auto& [key, value] : json.items()) {
    std::string name = key;
    std::ranges::replace(name, '_', '-');
    if (std::ranges::find(known, name) == known.end())
      Fail("{}: no option '{}'{}", path, key, DidYouMean(name, known));
    CLI::Option* option = command.get_option("--" + name);
    const std::vector<std::string> words =
        WordsOf(value, *option, fmt::format("{}: '{}'", path, key));
    if (option->count() > 0 || words.empty()) continue;
    if (std::ranges::find(replaced, name) != replaced.end()) continue;
    try {
      for (const std::string& word : words) option->add_result(word);
      option->run_callback();
    } catch (const CLI::ParseError& e) {
      Fail("{}: {}", path, e.what());
    }
  }
}

}  // namespace graft
