#include "models/text/tokenizer_config.h"

#include <algorithm>
#include <filesystem>

#include "runtime/error.h"
#include "runtime/io/json.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

// The order in which tokens of these names are added, and what BertTokenizer has if the files do
// not say.
constexpr std::pair<const char*, const char*> kUsualNames[] = {
    {"bos_token", ""},      {"eos_token", ""},      {"unk_token", "[UNK]"},  {"sep_token", "[SEP]"},
    {"pad_token", "[PAD]"}, {"cls_token", "[CLS]"}, {"mask_token", "[MASK]"}};

// Returns null if there is no such file.
Json ReadObject(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return {};
  Json json = ReadJson(path.string());
  if (!json.is_object()) Fail("{}: expected an object, found {}", path.string(), json.type_name());
  return json;
}

// --- the class

// Classes of transformers that are BertTokenizer under another name.
const std::vector<std::string> kBertClasses = {"BertTokenizer",
                                               "ConvBertTokenizer",
                                               "DistilBertTokenizer",
                                               "ElectraTokenizer",
                                               "LayoutLMTokenizer",
                                               "LxmertTokenizer",
                                               "MobileBertTokenizer",
                                               "SqueezeBertTokenizer",
                                               "DPRReaderTokenizer",
                                               "DPRContextEncoderTokenizer",
                                               "DPRQuestionEncoderTokenizer"};
// Classes that take tokenizer.json as it is.
const std::vector<std::string> kGenericClasses = {"PreTrainedTokenizer", "TokenizersBackend"};
// Models whose tokenizer is BertTokenizer if no class is named.
const std::vector<std::string> kBertModels = {"bert",       "distilbert",    "electra",    "ernie",
                                              "layoutlm",   "megatron-bert", "mobilebert", "nezha",
                                              "nomic_bert", "squeezebert"};

bool Contains(const std::vector<std::string>& names, const std::string& name) {
  return std::ranges::find(names, name) != names.end();
}

// The class without "Fast", which names the same one; "" if no file names any and the model's is
// BertTokenizer.
std::string ReadClass(const Json& config, const fs::path& directory) {
  std::string where = (directory / "tokenizer_config.json").string(), name, model;
  if (!config.is_null()) name = FindString(config, "tokenizer_class", where).value_or("");
  if (name.empty()) {
    where = (directory / "config.json").string();
    if (const Json json = ReadObject(where); !json.is_null()) {
      name = FindString(json, "tokenizer_class", where).value_or("");
      model = FindString(json, "model_type", where).value_or("");
    }
  }
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  if (!name.empty() && !Contains(kBertClasses, name) && !Contains(kGenericClasses, name))
    Fail(
        "{}: the tokenizer class '{}' is not supported; known: BertTokenizer and its relatives, "
        "PreTrainedTokenizerFast",
        where, name);
  if (name.empty() && !model.empty() && !Contains(kBertModels, model))
    Fail(
        "{}: the tokenizer of model_type '{}' is not supported; known: {}; hint: name the class "
        "in tokenizer_config.json, as 'tokenizer_class'",
        where, model, fmt::join(kBertModels, ", "));
  return name;
}

void ReadKind(const Json& config, const fs::path& directory, TokenizerConfig& c) {
  const std::string name = ReadClass(config, directory);
  c.bert = !Contains(kGenericClasses, name);
  c.types = c.bert && name != "DistilBertTokenizer";
  if (config.contains("model_input_names"))
    c.types = Contains(GetStrings(config, "model_input_names", c.where), "token_type_ids");
}

// --- settings

void ReadSettings(const Json& config, TokenizerConfig& c) {
  const std::string& where = c.where;
  c.lowercase = FindBool(config, "do_lower_case", where);
  c.strip_accents = FindBool(config, "strip_accents", where);
  c.chinese = FindBool(config, "tokenize_chinese_chars", where);
  c.split_special = FindBool(config, "split_special_tokens", where).value_or(false);
  if (!FindBool(config, "do_basic_tokenize", where).value_or(true))
    Fail("{}: 'do_basic_tokenize': false is not supported", where);
  if (const auto side = FindString(config, "truncation_side", where)) {
    if (*side != "left" && *side != "right")
      Fail("{}: 'truncation_side': expected 'left' or 'right', found '{}'", where, *side);
    c.truncate_left = *side == "left";
  }
  for (const char* key : {"model_max_length", "max_len"}) {
    // Where there is no limit, the files have a number that is no 64-bit integer.
    const auto length = FindNumber(config, key, 0, 1e300, where);
    if (length && *length <= INT32_MAX) c.max_length = static_cast<int64_t>(*length);
    if (length) break;
  }
  if (config.contains("fast_tokenizer_files"))
    for (const std::string& file : GetStrings(config, "fast_tokenizer_files", where))
      if (file != "tokenizer.json")
        Fail("{}: 'fast_tokenizer_files': expected tokenizer.json alone, found '{}'", where, file);
}

// --- tokens

ListedTokens ReadDecoder(const Json& object, const std::string& where) {
  ListedTokens tokens;
  for (const auto& [key, value] : object.items()) {
    if (key.empty() || key.size() > 7 || key.find_first_not_of("0123456789") != key.npos)
      Fail("{}: expected ids from 0 to {}, found '{}'", where, kMaxTokens - 1, key);
    const std::string of = fmt::format("{}: {}", where, key);
    if (!value.is_object()) Fail("{}: expected an object, found {}", of, value.type_name());
    ListedToken token = ReadListedToken(value, of);
    token.id = std::stoll(key);
    if (!tokens.emplace(token.id, token).second) Fail("{}: there twice", of);
  }
  return tokens;
}

// Reads added_tokens.json, such as {"covid19": 30522}. Other files tell which tokens are special.
ListedTokens ReadAddedTokens(const Json& object, const std::string& where,
                             const std::vector<std::string>& special) {
  ListedTokens tokens;
  for (const auto& [content, value] : object.items()) {
    ListedToken token{.content = content, .id = GetInt(object, content, 0, kMaxTokens - 1, where)};
    token.special = Contains(special, content);
    token.normalized = !token.special;
    if (const auto [other, is_new] = tokens.emplace(token.id, token); !is_new)
      Fail("{}: '{}' and '{}' have the same id {}", where, other->second.content, content,
           token.id);
  }
  return tokens;
}

using NamedTokens = std::map<std::string, ListedToken>;

bool IsUsualName(const std::string& key) {
  return std::ranges::any_of(kUsualNames, [&](const auto& usual) { return usual.first == key; });
}

// Reads a list of tokens, or an object of named ones, which go to `named`.
void ReadExtra(const Json& value, const std::string& where, std::vector<ListedToken>& list,
               NamedTokens& named) {
  if (value.is_null()) return;
  if (!value.is_array() && !value.is_object())
    Fail("{}: expected an array or an object of tokens, found {}", where, value.type_name());
  for (const auto& [key, token] : value.items())
    if (value.is_array())
      list.push_back(ReadListedToken(token, where));
    else
      named[key] = ReadListedToken(token, where);
}

// Collects which tokens are special: those of tokenizer_config.json and, where that lists no added
// tokens, those of the two files that older releases wrote.
class SpecialTokens {
 public:
  SpecialTokens(const Json& config, const std::string& where) {
    for (const auto& [key, value] : config.items()) {
      if (IsUsualName(key))
        usual_[key] = ReadOrNull(value, where + ": " + key);
      else if (key.ends_with("_token") && IsToken(value))
        own_[key] = ReadListedToken(value, where + ": " + key);
      // Objects are not yet tokens when added_tokens.json is read; only names that are given as
      // text count there.
      if (IsUsualName(key) && value.is_string()) plain_.push_back(value.get<std::string>());
    }
    Json extra = config.value("extra_special_tokens", Json());
    Json additional = config.value("additional_special_tokens", Json());
    has_extra_ = config.contains("extra_special_tokens") && !extra.is_object();
    if (config.contains("additional_special_tokens") && extra.empty())
      std::swap(extra, additional), has_extra_ = !extra.is_object();
    ReadExtra(extra, where + ": extra_special_tokens", extra_, own_);
    ReadExtra(additional, where + ": additional_special_tokens", additional_, own_);
    for (const Json& token : extra)
      if (extra.is_array() && token.is_string()) plain_.push_back(token.get<std::string>());
  }

  // Adds what special_tokens_map.json says.
  void Merge(const Json& map, const std::string& where) {
    for (const auto& [key, value] : map.items()) {
      const std::string of = where + ": " + key;
      if (key == "extra_special_tokens") {
        if (value.is_object()) extra_.clear();
        ReadExtra(value, of, extra_, own_);
        has_extra_ = !value.is_object();
      } else if (key == "additional_special_tokens") {
        additional_.clear();
        ReadExtra(value, of, additional_, own_);
      } else if (IsUsualName(key)) {
        ListedToken& token = usual_[key] = ReadOrNull(value, of);
        token.special = true;
        plain_.push_back(token.content);
      } else if (key.ends_with("_token") && (value.is_string() || value.is_object())) {
        own_[key] = ReadListedToken(value, of);
        own_[key].special = true;
      }
    }
  }

  // The contents with which the tokens of added_tokens.json are compared.
  std::vector<std::string> Contents() const { return plain_; }

  void MoveTo(TokenizerConfig& c) {
    for (const auto& [key, content] : kUsualNames) {
      if (const auto it = usual_.find(key); it != usual_.end())
        c.named.emplace_back(*it);
      else if (c.bert && *content)
        c.named.push_back({key, {.content = content, .special = true}});
    }
    c.usual_names = c.named.size();
    for (const auto& token : own_) c.named.emplace_back(token);
    c.extra = has_extra_ ? std::move(extra_) : std::move(additional_);
  }

 private:
  static bool IsToken(const Json& value) {
    return value.is_string() || (value.is_object() && value.contains("__type"));
  }
  static ListedToken ReadOrNull(const Json& value, const std::string& where) {
    return value.is_null() ? ListedToken() : ReadListedToken(value, where);
  }

  NamedTokens usual_, own_;
  std::vector<ListedToken> extra_, additional_;
  std::vector<std::string> plain_;
  bool has_extra_ = false;  // a list, beside which the additional ones do not count
};

}  // namespace

const ListedToken* TokenizerConfig::Named(const std::string& key) const {
  const auto it = std::ranges::find(named, key, &std::pair<std::string, ListedToken>::first);
  return it == named.end() ? nullptr : &it->second;
}

ListedToken ReadListedToken(const Json& value, const std::string& where) {
  if (value.is_string()) return {.content = value.get<std::string>(), .special = true};
  if (!value.is_object())
    Fail("{}: expected a token, a string or an object, found {}", where, value.type_name());
  ListedToken token;
  token.content = GetString(value, "content", where);
  token.left_strip = FindBool(value, "lstrip", where).value_or(false);
  token.right_strip = FindBool(value, "rstrip", where).value_or(false);
  token.single_word = FindBool(value, "single_word", where).value_or(false);
  token.special = FindBool(value, "special", where).value_or(false);
  token.normalized = FindBool(value, "normalized", where);
  return token;
}

TokenizerConfig ReadTokenizerConfig(const std::string& directory, bool vocabulary) {
  const fs::path folder(directory);
  const auto path = [&](const char* name) { return (folder / name).string(); };
  TokenizerConfig c;
  c.where = path("tokenizer_config.json");
  Json config = ReadObject(c.where);
  const Json map = ReadObject(path("special_tokens_map.json"));
  const Json added = ReadObject(path("added_tokens.json"));
  std::error_code ignored;
  const bool alone = config.is_null() && map.is_null() && added.is_null() &&
                     !fs::exists(path("config.json"), ignored);
  if (config.is_null()) config = Json::object();
  if (!alone)
    ReadKind(config, folder, c);
  else
    c.bert = vocabulary;
  if (vocabulary && !c.bert)
    Fail(
        "{}: this tokenizer class is not supported with vocab.txt; hint: BertTokenizer, or "
        "tokenizer.json",
        c.where);
  ReadSettings(config, c);
  SpecialTokens special(config, c.where);
  if (config.contains("added_tokens_decoder")) {
    c.decoder = ReadDecoder(GetObject(config, "added_tokens_decoder", c.where),
                            c.where + ": added_tokens_decoder");
  } else {
    special.Merge(map.is_null() ? Json::object() : map, path("special_tokens_map.json"));
    if (!added.is_null())
      c.added = ReadAddedTokens(added, path("added_tokens.json"), special.Contents());
  }
  special.MoveTo(c);
  return c;
}

}  // namespace graft
