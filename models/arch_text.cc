#include "models/arch_text.h"

#include <algorithm>
#include <charconv>

namespace graft {
namespace {

// Short names of fields, for texts that people write.
constexpr std::pair<std::string_view, std::string_view> kShort[] = {
    {"mlp", "mlp_width"}, {"patch", "patch_size"}, {"image", "image_size"}};

std::string FieldOf(std::string_view key, bool bert) {
  for (const auto& [name, field] : kShort)
    if (key == name) return std::string(field);
  if (key == "gelu" || key == "activation") return bert ? "activation" : "gelu";
  return std::string(key);
}

std::string KeyOf(std::string_view field) {
  for (const auto& [name, of] : kShort)
    if (field == of) return std::string(name);
  return std::string(field);
}

template <class T>
T ParseValue(const std::string& key, const std::string& text) {
  if constexpr (std::is_same_v<T, std::string>) {
    return text;
  } else if constexpr (std::is_same_v<T, bool>) {
    if (text == "true" || text == "1") return true;
    if (text == "false" || text == "0") return false;
    Fail("'{}={}': expected true or false", key, text);
  } else {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
      Fail("'{}={}': expected a number", key, text);
    return value;
  }
}

// Calls f(member) for the field of this name; returns false if there is none.
template <class Config, class F>
bool WithField(Config& config, const std::string& field, const F& f) {
  bool found = false;
  std::visit(
      [&](auto& c) {
        c.Visit(c, [&](const char* name, auto& member) {
          if (field == name) f(member), found = true;
        });
      },
      config);
  return found;
}

std::vector<std::string> Keys(const ModelConfig& config) {
  std::vector<std::string> keys;
  std::visit(
      [&](const auto& c) {
        c.Visit(c, [&](const char* name, const auto&) { keys.push_back(KeyOf(name)); });
      },
      config);
  return keys;
}

std::string_view Trimmed(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

}  // namespace

ArchText ParseArch(const std::string& text) {
  const size_t open = text.find('(');
  ArchText arch;
  if (open == std::string::npos) {
    arch.config = ModelByName(text), arch.named = true;
    return arch;
  }
  const std::string kind = text.substr(0, open);
  if (kind == "bert")
    arch.config = BertConfig();
  else if (kind != "vit")
    Fail("architecture '{}': expected a name, vit(...) or bert(...)", text);
  if (!text.ends_with(')')) Fail("architecture '{}': expected ')' at the end", text);
  std::string_view rest = std::string_view(text).substr(open + 1, text.size() - open - 2);
  while (!Trimmed(rest).empty()) {
    const size_t comma = std::min(rest.find(','), rest.size());
    const std::string_view pair = Trimmed(rest.substr(0, comma));
    rest.remove_prefix(std::min(comma + 1, rest.size()));
    const size_t equals = std::min(pair.find('='), pair.size());
    const std::string key(Trimmed(pair.substr(0, equals)));
    if (equals == pair.size())
      Fail("architecture '{}': expected key=value, found '{}'", text, pair);
    const std::string value(Trimmed(pair.substr(equals + 1)));
    const std::string field = FieldOf(key, kind == "bert");
    const bool known = WithField(arch.config, field, [&](auto& member) {
      member = ParseValue<std::decay_t<decltype(member)>>(key, value);
    });
    if (!known)
      Fail("architecture '{}': no key '{}'; known: {}", text, key,
           fmt::join(Keys(arch.config), ", "));
    if (!arch.given.emplace(field, value).second)
      Fail("architecture '{}': '{}' is given twice", text, key);
  }
  return arch;
}

void SetField(ModelConfig& config, const std::string& field, const std::string& text) {
  const bool known = WithField(config, field, [&](auto& member) {
    member = ParseValue<std::decay_t<decltype(member)>>(field, text);
  });
  GRAFT_CHECK(known, "no field {}", field);
}

std::string FieldText(const ModelConfig& config, const std::string& field) {
  std::string text;
  WithField(config, field, [&](const auto& member) { text = fmt::format("{}", member); });
  return text;
}

std::string DescribeArch(const ModelConfig& config) {
  return std::visit(
      [](const auto& c) {
        using Config = std::decay_t<decltype(c)>;
        const Config usual;
        std::map<std::string, std::string> usual_text;
        Config::Visit(usual, [&](const char* name, const auto& value) {
          usual_text[name] = fmt::format("{}", value);
        });
        std::string text;
        Config::Visit(c, [&](const char* name, const auto& value) {
          const std::string shown = fmt::format("{}", value);
          if (shown != usual_text[name] && std::string_view(name) != "classes")
            text += fmt::format("{}{}={}", text.empty() ? "" : ",", KeyOf(name), shown);
        });
        return fmt::format("{}({})", std::is_same_v<Config, BertConfig> ? "bert" : "vit", text);
      },
      config);
}

}  // namespace graft
