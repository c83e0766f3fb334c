#include "adapters/hf/peft_config.h"

#include <algorithm>
#include <cmath>

#include "runtime/io/json.h"

namespace graft {
namespace {

constexpr int64_t kMaxRank = 65536;
constexpr double kMaxAlpha = 1e6;
constexpr size_t kMaxNames = 10'000;

// Fields that say where an adapter comes from, or how it was started or is run: nothing that
// changes what it computes once its tensors are loaded.
constexpr std::string_view kWithoutEffect[] = {
    "auto_mapping",  "inference_mode", "peft_version",     "revision",
    "megatron_core", "runtime_config", "qalora_group_size"};

// Starts of LoRA that leave the base weights alone. The others (PiSSA, OLoRA, CorDA, LoftQ,
// LoRA-GA) subtract the start from the base, so that A and B alone are not the whole change.
constexpr std::string_view kPlainStarts[] = {"gaussian", "orthogonal", "eva", "mica"};

bool Neutral(const Json& value) {
  return value.is_null() || value == false || value == "" ||
         (value.is_structured() && value.empty());
}

std::vector<std::string> Strings(const Json& json, const char* key, const std::string& path) {
  std::vector<std::string> strings = GetStrings(json, key, path);
  if (strings.size() > kMaxNames)
    Fail("{}: '{}' has {} names; at most {} are read", path, key, strings.size(), kMaxNames);
  for (const std::string& s : strings)
    if (s.empty()) Fail("{}: '{}' holds an empty name", path, key);
  return strings;
}

bool Has(const Json& json, const char* key) { return json.contains(key) && !Neutral(json[key]); }

// A list of names, or a pattern in a string.
ModuleSpec Spec(const Json& json, const char* key, const std::string& path) {
  if (!Has(json, key)) return {};
  if (json[key].is_string()) return {{}, json[key].get<std::string>()};
  return {Strings(json, key, path), ""};
}

// A list, or one value alone.
template <class T, class Read>
std::vector<T> OneOrMore(const Json& json, const char* key, const Read& read) {
  if (!json.contains(key) || json[key].is_null()) return {};
  if (!json[key].is_array()) return read(Json{{key, Json::array({json[key]})}});
  return read(json);
}

std::map<std::string, double> Patterns(const Json& json, const char* key, double min, double max,
                                       const std::string& path) {
  std::map<std::string, double> patterns;
  if (!Has(json, key)) return patterns;
  const Json& object = GetObject(json, key, path);
  if (object.size() > kMaxNames)
    Fail("{}: '{}' has {} patterns; at most {} are read", path, key, object.size(), kMaxNames);
  for (const auto& [pattern, value] : object.items()) {
    const std::string where = fmt::format("{} ({})", path, key);
    patterns[pattern] = key == std::string_view("rank_pattern")
                            ? static_cast<double>(GetInt(object, pattern, static_cast<int64_t>(min),
                                                         static_cast<int64_t>(max), where))
                            : GetNumber(object, pattern, min, max, where);
  }
  return patterns;
}

void CheckStart(const Json& value, const std::string& path) {
  if (value.is_boolean()) return;
  const std::string start = value.is_string() ? value.get<std::string>() : value.dump();
  if (std::find(std::begin(kPlainStarts), std::end(kPlainStarts), start) != std::end(kPlainStarts))
    return;
  Fail(
      "{}: init_lora_weights = '{}' changes the base weights, which Graft does not do; hint: save "
      "the adapter with peft's path_initial_model_for_weight_conversion",
      path, start);
}

void ReadLora(const Json& json, const std::string& path, PeftConfig* config) {
  PeftConfig& c = *config;
  c.r = FindInt(json, "r", 1, kMaxRank, path).value_or(c.r);
  c.alpha = FindNumber(json, "lora_alpha", 0, kMaxAlpha, path).value_or(c.alpha);
  c.dropout = FindNumber(json, "lora_dropout", 0, 0.999999, path).value_or(0);
  c.rslora = FindBool(json, "use_rslora", path).value_or(false);
  c.bias = FindString(json, "bias", path).value_or("none");
  const std::vector<std::string> kinds{"none", "lora_only", "all"};
  if (std::find(kinds.begin(), kinds.end(), c.bias) == kinds.end())
    Fail("{}: bias = '{}'; known: {}", path, c.bias, fmt::join(kinds, ", "));
  c.rank_pattern = Patterns(json, "rank_pattern", 1, kMaxRank, path);
  c.alpha_pattern = Patterns(json, "alpha_pattern", 0, kMaxAlpha, path);
  c.layers = OneOrMore<int64_t>(json, "layers_to_transform", [&](const Json& j) {
    return GetInts(j, "layers_to_transform", 0, 1 << 20, path);
  });
  c.layers_pattern = OneOrMore<std::string>(
      json, "layers_pattern", [&](const Json& j) { return Strings(j, "layers_pattern", path); });
  if (!c.layers.empty() && c.target.names.empty())
    Fail("{}: layers_to_transform goes with a list of target_modules, not with a pattern", path);
  if (json.contains("init_lora_weights") && !json["init_lora_weights"].is_null())
    CheckStart(json["init_lora_weights"], path);
}

void ReadGlora(const Json& json, const std::string& path, PeftConfig* config) {
  PeftConfig& c = *config;
  c.r = FindInt(json, "r", 1, kMaxRank, path).value_or(c.r);
  if (const std::string bias = FindString(json, "bias", path).value_or("none"); bias != "none")
    Fail("{}: bias = '{}' in a GLORA adapter; Graft reads those with none", path, bias);
  const auto form = [&](const char* key, std::vector<std::string> forms, std::string* to) {
    *to = FindString(json, key, path).value_or(*to);
    if (std::ranges::count(forms, *to) == 0)
      Fail("{}: {} = '{}'; known: {}", path, key, *to, fmt::join(forms, ", "));
  };
  form("config_A_B", {"lora", "vector", "constant", "none"}, &c.glora.ab);
  form("config_C", {"lora", "vector", "none"}, &c.glora.c);
  form("config_D_E", {"vector", "constant", "none"}, &c.glora.de);
}

void ReadPrompt(const Json& json, const std::string& path, PeftConfig* config) {
  PeftConfig::Prompt& p = config->prompt;
  p.tokens = GetInt(json, "num_virtual_tokens", 1, kMaxRank, path);
  p.width = FindInt(json, "token_dim", 1, 1 << 20, path).value_or(0);
  p.layers = FindInt(json, "num_layers", 1, 1 << 20, path).value_or(0);
  if (FindInt(json, "num_transformer_submodules", 1, 2, path).value_or(1) != 1)
    Fail("{}: num_transformer_submodules = 2: Graft has no encoders with decoders", path);
  if (config->task_type != "SEQ_CLS")
    Fail("{}: a {} adapter with task_type '{}'; Graft reads those of classifiers (SEQ_CLS)", path,
         config->type, config->task_type);
}

void CheckNothingIsIgnored(const Json& json, const PeftConfig& c, const std::string& path) {
  std::vector<std::string_view> known{
      "peft_type",      "task_type",       "base_model_name_or_path",
      "target_modules", "exclude_modules", "modules_to_save"};
  known.insert(known.end(), std::begin(kWithoutEffect), std::end(kWithoutEffect));
  if (c.type == "LORA")
    known.insert(known.end(),
                 {"r", "lora_alpha", "lora_dropout", "use_rslora", "bias", "rank_pattern",
                  "alpha_pattern", "layers_to_transform", "layers_pattern", "init_lora_weights"});
  if (c.type == "GLORA")
    known.insert(known.end(),
                 {"r", "bias", "config_A_B", "config_C", "config_D_E", "init_weights"});
  if (c.type == "P_TUNING")  // what made the rows is gone
    known.insert(known.end(),
                 {"encoder_reparameterization_type", "encoder_num_layers", "encoder_dropout"});
  if (c.prompt.tokens > 0)  // how it was started and trained says nothing of what it is
    known.insert(known.end(),
                 {"num_virtual_tokens", "token_dim", "num_layers", "num_attention_heads",
                  "num_transformer_submodules", "prompt_tuning_init", "prompt_tuning_init_text",
                  "tokenizer_kwargs", "tokenizer_name_or_path", "encoder_hidden_size",
                  "prefix_projection", "init_weights"});
  if (json.contains("init_lora_weights") && json["init_lora_weights"] == "eva")
    known.emplace_back("eva_config");  // the ranks that it chose are in rank_pattern
  std::vector<std::string> others;
  for (const auto& [key, value] : json.items())
    if (!Neutral(value) && std::find(known.begin(), known.end(), key) == known.end())
      others.push_back(fmt::format("{} = {}", key, value.dump(-1, ' ', true).substr(0, 60)));
  if (!others.empty())
    Fail("{}: Graft does not support {} and will not ignore it", path, fmt::join(others, ", "));
}

}  // namespace

PeftConfig ReadPeftConfig(const std::string& path) {
  const Json json = ReadJson(path, {.bytes = 4 << 20, .depth = 16});
  if (!json.is_object()) Fail("{}: expected an object", path);
  PeftConfig c;
  c.type = GetString(json, "peft_type", path);
  const std::vector<std::string> types{"LORA",          "LN_TUNING", "GLORA",
                                       "PROMPT_TUNING", "P_TUNING",  "PREFIX_TUNING"};
  if (std::find(types.begin(), types.end(), c.type) == types.end())
    Fail("{}: peft_type '{}'; Graft reads {}", path, c.type, fmt::join(types, ", "));
  const bool prompt = c.type.starts_with("P");
  c.task_type = FindString(json, "task_type", path).value_or("");
  c.base = FindString(json, "base_model_name_or_path", path).value_or("");
  c.target = Spec(json, "target_modules", path);
  c.exclude = Spec(json, "exclude_modules", path);
  c.modules_to_save = OneOrMore<std::string>(
      json, "modules_to_save", [&](const Json& j) { return Strings(j, "modules_to_save", path); });
  const std::vector<std::string> tasks{"", "SEQ_CLS", "FEATURE_EXTRACTION"};
  if (std::find(tasks.begin(), tasks.end(), c.task_type) == tasks.end())
    Fail("{}: task_type '{}'; Graft reads adapters of classifiers (SEQ_CLS or null)", path,
         c.task_type);
  if (c.task_type == "SEQ_CLS")  // both usual names of a head, as peft adds them
    for (const char* head : {"classifier", "score"})
      if (std::ranges::find(c.modules_to_save, head) == c.modules_to_save.end())
        c.modules_to_save.emplace_back(head);
  if (c.target.empty() && !prompt)
    Fail("{}: no target_modules; hint: name the modules that the adapter changes", path);
  std::string lower = c.target.pattern;
  for (char& ch : lower) ch = static_cast<char>(ch >= 'A' && ch <= 'Z' ? ch - 'A' + 'a' : ch);
  if (lower == "all-linear") c.all_linear = true, c.target.pattern.clear();
  if (c.all_linear && c.type != "LORA")
    Fail("{}: target_modules = 'all-linear' in a {} adapter", path, c.type);
  if (c.type == "LORA") ReadLora(json, path, &c);
  if (c.type == "GLORA") ReadGlora(json, path, &c);
  if (prompt) ReadPrompt(json, path, &c);
  CheckNothingIsIgnored(json, c, path);
  return c;
}

nlohmann::json ToJson(const PeftConfig& c, const HfClass& of) {
  auto number = [](double v) { return v == std::floor(v) ? Json(std::llround(v)) : Json(v); };
  auto patterns = [&](const std::map<std::string, double>& map) {
    Json json = Json::object();
    for (const auto& [pattern, value] : map) json[pattern] = number(value);
    return json;
  };
  auto or_null = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  auto spec = [&](const ModuleSpec& s) {
    if (!s.pattern.empty()) return Json(s.pattern);
    return s.names.empty() ? Json() : Json(s.names);
  };
  Json json{{"peft_type", c.type},
            {"task_type", or_null(c.task_type)},
            {"base_model_name_or_path", or_null(c.base)},
            {"auto_mapping", {{"base_model_class", of.name}, {"parent_library", of.library}}},
            {"revision", nullptr},
            {"inference_mode", true},
            {"target_modules", c.all_linear ? Json("all-linear") : spec(c.target)},
            {"exclude_modules", spec(c.exclude)},
            {"modules_to_save", c.modules_to_save.empty() ? Json() : Json(c.modules_to_save)}};
  if (!c.task_type.empty() || of.name.empty()) json["auto_mapping"] = nullptr;
  if (c.prompt.tokens > 0) {
    json.erase("target_modules"), json.erase("exclude_modules");
    json.update({{"num_virtual_tokens", c.prompt.tokens},
                 {"token_dim", c.prompt.width ? Json(c.prompt.width) : Json()},
                 {"num_layers", c.prompt.layers ? Json(c.prompt.layers) : Json()},
                 {"num_attention_heads", nullptr},
                 {"num_transformer_submodules", 1}});
    if (c.type == "PROMPT_TUNING")
      json["prompt_tuning_init"] = "RANDOM";
    else if (c.type == "PREFIX_TUNING")
      json["prefix_projection"] = false;
  }
  if (c.type == "GLORA")
    json.update({{"r", c.r},
                 {"bias", "none"},
                 {"config_A_B", c.glora.ab},
                 {"config_C", c.glora.c},
                 {"config_D_E", c.glora.de},
                 {"init_weights", true}});
  if (c.type != "LORA") return json;
  json.update({{"r", c.r},
               {"lora_alpha", number(c.alpha)},
               {"lora_dropout", number(c.dropout)},
               {"use_rslora", c.rslora},
               {"bias", c.bias},
               {"fan_in_fan_out", false},
               {"init_lora_weights", true},
               {"use_dora", false},
               {"rank_pattern", patterns(c.rank_pattern)},
               {"alpha_pattern", patterns(c.alpha_pattern)},
               {"layers_to_transform", c.layers.empty() ? Json() : Json(c.layers)},
               {"layers_pattern", c.layers_pattern.empty() ? Json() : Json(c.layers_pattern)}});
  return json;
}

PeftSelector::PeftSelector(const PeftConfig& config, const std::string& path)
    : config_(config),
      path_(path),
      target_(config.target, path + " (target_modules)"),
      exclude_(config.exclude, path + " (exclude_modules)") {
  for (const std::string& name : config.modules_to_save)
    saved_.emplace_back("(^|.*\\.)" + name + "($|\\..*)", path + " (modules_to_save)");
  if (!config.layers.empty() && config.layers_pattern.empty())
    layers_.emplace_back(R"(.*?\.[^.]*\.(\d+)\.)", path);
  for (const std::string& name : config.layers_pattern)
    layers_.emplace_back("(?:^|.*?\\.)" + name + R"(\.(\d+)\.)", path + " (layers_pattern)");
  auto compile = [&](const std::map<std::string, double>& from, const char* field,
                     std::vector<Pattern>* to) {
    for (const auto& [text, value] : from)
      to->push_back(
          {text, Regex("(.*\\.)?(" + text + ")$", fmt::format("{} ({})", path, field)), value});
  };
  compile(config.rank_pattern, "rank_pattern", &ranks_);
  compile(config.alpha_pattern, "alpha_pattern", &alphas_);
}

bool PeftSelector::Targets(const HfModule& module, bool linear) const {
  const std::string& name = module.name;
  if (!config_.exclude.empty() && exclude_(name)) return false;
  for (const Regex& saved : saved_)
    if (saved.MatchStart(name)) return false;
  if (config_.all_linear)
    return linear && !(module.scope == "head" && config_.task_type == "SEQ_CLS");
  return target_(name) && InLayers(name);
}

// The module itself, or one around it ("pooler" saves pooler.dense).
bool PeftSelector::Saves(const HfModule& module) const {
  const std::string_view name = module.name;
  for (size_t end = name.find('.'); true; end = name.find('.', end + 1)) {
    const std::string_view outer = name.substr(0, end);
    for (const std::string& saved : config_.modules_to_save)
      if (outer.ends_with(saved)) return true;
    if (end == std::string_view::npos) return false;
  }
}

bool PeftSelector::InLayers(std::string_view name) const {
  if (config_.layers.empty()) return true;
  for (const Regex& layer : layers_)
    if (const int64_t number = layer.NumberAtStart(name); number >= 0)
      return std::find(config_.layers.begin(), config_.layers.end(), number) !=
             config_.layers.end();
  return false;
}

// peft takes the first pattern that matches, in an order that JSON does not promise: so two that
// match and disagree are an error.
double PeftSelector::Value(const std::vector<Pattern>& patterns, const HfModule& module,
                           double otherwise, const char* field) const {
  const Pattern* found = nullptr;
  for (const Pattern& p : patterns) {
    if (!p.regex.MatchStart(module.name)) continue;
    if (found && found->value != p.value)
      Fail("{}: '{}' and '{}' of {} both match {} and differ", path_, found->text, p.text, field,
           module.name);
    found = &p;
  }
  return found ? found->value : otherwise;
}

int64_t PeftSelector::Rank(const HfModule& module) const {
  return static_cast<int64_t>(
      Value(ranks_, module, static_cast<double>(config_.r), "rank_pattern"));
}

double PeftSelector::Alpha(const HfModule& module) const {
  return Value(alphas_, module, config_.alpha, "alpha_pattern");
}

}  // namespace graft
