#include "models/text/tokenizer_file.h"

#include <algorithm>
#include <filesystem>
#include <unordered_map>

#include "models/text/unicode.h"
#include "runtime/error.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/foreign_file.h"
#include "runtime/io/json.h"
#include "runtime/utf8.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

// The largest vocabularies of BERT models have half a million tokens.
constexpr int64_t kMaxId = 1'000'000;
constexpr uint64_t kMaxVocabBytes = 32 << 20;
// Both bound the time that one character of a text can take.
constexpr int64_t kMaxWord = 1000;
constexpr size_t kMaxAddedToken = 256;
constexpr size_t kMaxTemplate = 64;

// tokenizer_config.json, all of it optional.
struct Overrides {
  std::optional<bool> lowercase, strip_accents, chinese;
  std::string unknown = "[UNK]", separator = "[SEP]", start = "[CLS]", pad = "[PAD]",
              mask = "[MASK]", tokenizer_class;
};

// "[UNK]", or {"content": "[UNK]", ...}.
void FindToken(const Json& config, const char* key, const std::string& where, std::string& token) {
  const auto it = config.find(key);
  if (it == config.end() || it->is_null()) return;
  token = it->is_object() ? GetString(*it, "content", fmt::format("{}: {}", where, key))
                          : GetString(config, key, where);
}

Overrides ReadOverrides(const fs::path& directory) {
  Overrides o;
  const fs::path path = directory / "tokenizer_config.json";
  if (!fs::exists(path)) return o;
  const std::string where = path.string();
  const Json config = ReadJson(where);
  o.lowercase = FindBool(config, "do_lower_case", where);
  o.strip_accents = FindBool(config, "strip_accents", where);
  o.chinese = FindBool(config, "tokenize_chinese_chars", where);
  o.tokenizer_class = FindString(config, "tokenizer_class", where).value_or("");
  FindToken(config, "unk_token", where, o.unknown);
  FindToken(config, "sep_token", where, o.separator);
  FindToken(config, "cls_token", where, o.start);
  FindToken(config, "pad_token", where, o.pad);
  FindToken(config, "mask_token", where, o.mask);
  if (!FindBool(config, "do_basic_tokenize", where).value_or(true))
    Fail("{}: 'do_basic_tokenize': false is not supported", where);
  const std::string side = FindString(config, "truncation_side", where).value_or("right");
  if (side != "right")
    Fail("{}: 'truncation_side': expected 'right', found '{}', which is not supported", where,
         side);
  return o;
}

void AddToken(TokenizerSpec& spec, const std::string& token, int64_t id) {
  const size_t index = static_cast<size_t>(id);
  if (index >= spec.tokens.size()) spec.tokens.resize(index + 1);
  if (!spec.tokens[index].empty())
    Fail("{}: the tokens '{}' and '{}' have the same id {}", spec.where, spec.tokens[index], token,
         id);
  spec.tokens[index] = token;
}

// --- vocab.txt

int32_t IdOf(const TokenizerSpec& spec, const std::string& token, const char* role) {
  const auto found = std::find(spec.tokens.begin(), spec.tokens.end(), token);
  if (found == spec.tokens.end() || token.empty())
    Fail("{}: the vocabulary of {} tokens has no {} token '{}'", spec.where, spec.tokens.size(),
         role, token);
  return static_cast<int32_t>(found - spec.tokens.begin());
}

void ReadVocabLines(TokenizerSpec& spec) {
  const std::string text = ReadFile(spec.where, kMaxVocabBytes);
  RefuseForeignText(spec.where, text);
  if (const size_t bad = FirstInvalidUtf8(text); bad < text.size())
    Fail("{}:{}: expected UTF-8, found byte 0x{:02x}", spec.where,
         1 + std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(bad), '\n'),
         static_cast<uint8_t>(text[bad]));
  std::unordered_map<std::string, size_t> lines;
  for (size_t at = 0, line = 1; at < text.size(); ++line) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string token = text.substr(at, end - at);
    at = end + 1;
    if (token.ends_with('\r')) token.pop_back();
    if (line > static_cast<size_t>(kMaxId))
      Fail("{}: expected at most {} tokens", spec.where, kMaxId);
    if (token.empty()) {
      spec.tokens.emplace_back();
      continue;
    }
    const auto [other, is_new] = lines.emplace(token, line);
    if (!is_new)
      Fail("{}:{}: the token '{}' is in line {} too", spec.where, line, token, other->second);
    spec.tokens.push_back(std::move(token));
  }
  if (spec.tokens.empty()) Fail("{}: expected a token in each line, found none", spec.where);
}

// Classes of transformers that read a vocab.txt as BERT's does.
bool IsBertClass(std::string name) {
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  for (const char* known : {"", "BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer",
                            "MobileBertTokenizer", "PreTrainedTokenizer"})
    if (name == known) return true;
  return false;
}

TokenizerSpec ReadVocab(const std::string& path, const Overrides& o) {
  TokenizerSpec spec;
  spec.where = path;
  if (!IsBertClass(o.tokenizer_class))
    Fail("{}: the tokenizer class '{}' is not supported; known: BertTokenizer and its relatives",
         path, o.tokenizer_class);
  ReadVocabLines(spec);
  spec.unknown = o.unknown;
  spec.normalizer.lowercase = o.lowercase.value_or(true);
  spec.normalizer.strip_accents = o.strip_accents.value_or(spec.normalizer.lowercase);
  spec.normalizer.chinese = o.chinese.value_or(true);
  const int32_t start = IdOf(spec, o.start, "start"), end = IdOf(spec, o.separator, "separator");
  using Piece = TemplatePiece;
  spec.single = {{Piece::kTokens, {start}, 0}, {Piece::kFirst, {}, 0}, {Piece::kTokens, {end}, 0}};
  spec.pair = spec.single;
  spec.pair.push_back({Piece::kSecond, {}, 1});
  spec.pair.push_back({Piece::kTokens, {end}, 1});
  for (const std::string& token : {o.pad, o.unknown, o.start, o.separator, o.mask}) {
    const auto found = std::find(spec.tokens.begin(), spec.tokens.end(), token);
    if (found == spec.tokens.end() || token.empty()) continue;
    const auto same = [&](const AddedToken& other) { return other.content == token; };
    if (std::none_of(spec.added.begin(), spec.added.end(), same))
      spec.added.push_back({token, static_cast<int32_t>(found - spec.tokens.begin())});
  }
  return spec;
}

// --- tokenizer.json

// The member's "type"; "null" if the member is absent or null.
std::string TypeOf(const Json& object, const char* key, const std::string& where) {
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return "null";
  return GetString(GetObject(object, key, where), "type", fmt::format("{}: {}", where, key));
}

[[noreturn]] void Unsupported(const std::string& where, const char* key, const char* expected,
                              const std::string& found) {
  Fail("{}: {}: expected {}, found '{}', which is not supported", where, key, expected, found);
}

void ReadModel(const Json& root, TokenizerSpec& spec) {
  const std::string where = spec.where + ": model";
  const std::string type = TypeOf(root, "model", spec.where);
  if (type != "WordPiece") Unsupported(spec.where, "model", "WordPiece", type);
  const Json& model = root.at("model");
  spec.unknown = FindString(model, "unk_token", where).value_or(spec.unknown);
  spec.prefix = FindString(model, "continuing_subword_prefix", where).value_or(spec.prefix);
  spec.max_word = static_cast<size_t>(
      FindInt(model, "max_input_chars_per_word", 1, kMaxWord, where).value_or(100));
  const Json& vocab = GetObject(model, "vocab", where);
  if (vocab.empty()) Fail("{}: 'vocab': expected tokens, found none", where);
  for (const auto& item : vocab.items()) {
    const int64_t id = GetInt(vocab, item.key(), 0, kMaxId - 1, where + ".vocab");
    if (!item.key().empty()) AddToken(spec, item.key(), id);
  }
}

void ReadNormalizer(const Json& root, TokenizerSpec& spec) {
  const std::string where = spec.where + ": normalizer";
  const std::string type = TypeOf(root, "normalizer", spec.where);
  NormalizerOptions& o = spec.normalizer;
  if (type == "null") {
    o = {false, false, false, false};
    return;
  }
  if (type != "BertNormalizer") Unsupported(spec.where, "normalizer", "BertNormalizer", type);
  const Json& normalizer = root.at("normalizer");
  o.clean = GetBool(normalizer, "clean_text", where);
  o.chinese = GetBool(normalizer, "handle_chinese_chars", where);
  o.lowercase = GetBool(normalizer, "lowercase", where);
  o.strip_accents = FindBool(normalizer, "strip_accents", where).value_or(o.lowercase);
}

// "BertProcessing" has ["[SEP]", 102].
int32_t TokenOfPair(const Json& processor, const char* key, const TokenizerSpec& spec) {
  const std::string where = fmt::format("{}: post_processor", spec.where);
  const Json& pair = GetArray(processor, key, where);
  const int64_t ids = static_cast<int64_t>(spec.tokens.size());
  if (pair.size() != 2 || !pair[1].is_number_integer() || pair[1] < 0 || pair[1] >= ids)
    Fail("{}: '{}': expected [token, id], found {}", where, key, DumpJson(pair));
  return pair[1].get<int32_t>();
}

std::vector<TemplatePiece> ReadTemplate(const Json& processor, const char* key,
                                        const TokenizerSpec& spec) {
  const std::string where = fmt::format("{}: post_processor: {}", spec.where, key);
  const bool pair = std::string_view(key) == "pair";
  const int64_t ids = static_cast<int64_t>(spec.tokens.size());
  std::vector<TemplatePiece> pieces;
  int seen[2] = {0, 0};
  for (const Json& item : GetArray(processor, key, where)) {
    TemplatePiece piece;
    const bool text = item.is_object() && item.contains("Sequence");
    const Json& body = GetObject(item, text ? "Sequence" : "SpecialToken", where);
    const std::string id = GetString(body, "id", where);
    piece.type = static_cast<int32_t>(GetInt(body, "type_id", 0, kMaxId, where));
    if (text) {
      if (id != "A" && !(id == "B" && pair))
        Fail("{}: expected the sequence A{}, found '{}'", where, pair ? " or B" : "", id);
      piece.source = id == "A" ? TemplatePiece::kFirst : TemplatePiece::kSecond;
      ++seen[id == "B"];
    } else {
      const Json& special = GetObject(processor, "special_tokens", where);
      piece.ids.clear();
      for (int64_t i : GetInts(GetObject(special, id, where), "ids", 0, ids - 1, where))
        piece.ids.push_back(static_cast<int32_t>(i));
    }
    if (pieces.size() == kMaxTemplate || piece.ids.size() > kMaxTemplate)
      Fail("{}: expected at most {} pieces", where, kMaxTemplate);
    pieces.push_back(std::move(piece));
  }
  if (seen[0] != 1 || seen[1] != pair)
    Fail("{}: expected every sequence once, found A {} times and B {} times", where, seen[0],
         seen[1]);
  return pieces;
}

void ReadPostProcessor(const Json& root, TokenizerSpec& spec) {
  using Piece = TemplatePiece;
  const std::string type = TypeOf(root, "post_processor", spec.where);
  if (type == "null") {
    spec.single = {{Piece::kFirst, {}, 0}};
    spec.pair = {{Piece::kFirst, {}, 0}, {Piece::kSecond, {}, 1}};
    return;
  }
  const Json& processor = root.at("post_processor");
  if (type == "TemplateProcessing") {
    spec.single = ReadTemplate(processor, "single", spec);
    spec.pair = ReadTemplate(processor, "pair", spec);
    return;
  }
  if (type != "BertProcessing")
    Unsupported(spec.where, "post_processor", "TemplateProcessing or BertProcessing", type);
  const int32_t start = TokenOfPair(processor, "cls", spec);
  const int32_t end = TokenOfPair(processor, "sep", spec);
  spec.single = {{Piece::kTokens, {start}, 0}, {Piece::kFirst, {}, 0}, {Piece::kTokens, {end}, 0}};
  spec.pair = spec.single;
  spec.pair.push_back({Piece::kSecond, {}, 1});
  spec.pair.push_back({Piece::kTokens, {end}, 1});
}

void CheckAdded(const AddedToken& token, const std::string& where) {
  const std::u32string text = DecodeUtf8(token.content);
  if (text.empty() || text.size() > kMaxAddedToken)
    Fail("{}: 'content': expected 1 to {} characters, found {}", where, kMaxAddedToken,
         text.size());
  const auto is_space = [](char32_t c) { return unicode::Lookup(c).flags & unicode::kSpace; };
  if ((token.left_strip && is_space(text.front())) || (token.right_strip && is_space(text.back())))
    Fail("{}: '{}': lstrip or rstrip of a token with white space there is not supported", where,
         token.content);
}

void ReadAdded(const Json& root, TokenizerSpec& spec) {
  if (!root.contains("added_tokens") || root["added_tokens"].is_null()) return;
  std::unordered_map<std::string, int64_t> ids;
  for (size_t id = 0; id < spec.tokens.size(); ++id)
    if (!spec.tokens[id].empty()) ids.emplace(spec.tokens[id], static_cast<int64_t>(id));
  for (const Json& item : GetArray(root, "added_tokens", spec.where)) {
    const std::string where = fmt::format("{}: added_tokens[{}]", spec.where, spec.added.size());
    AddedToken token;
    token.content = GetString(item, "content", where);
    token.id = static_cast<int32_t>(GetInt(item, "id", 0, kMaxId - 1, where));
    token.left_strip = FindBool(item, "lstrip", where).value_or(false);
    token.right_strip = FindBool(item, "rstrip", where).value_or(false);
    token.normalized = FindBool(item, "normalized", where).value_or(false);
    if (FindBool(item, "single_word", where).value_or(false))
      Fail("{}: '{}': single_word is not supported", where, token.content);
    CheckAdded(token, where);
    const auto [other, is_new] = ids.emplace(token.content, token.id);
    if (!is_new && other->second != token.id)
      Fail("{}: '{}' has id {} here and {} in the vocabulary", where, token.content, token.id,
           other->second);
    if (is_new) AddToken(spec, token.content, token.id);
    spec.added.push_back(std::move(token));
  }
}

TokenizerSpec ReadTokenizerJson(const std::string& path, const Overrides& o) {
  TokenizerSpec spec;
  spec.where = path;
  const Json root = ReadJson(path);
  if (!root.is_object()) Fail("{}: expected an object, found {}", path, root.type_name());
  ReadModel(root, spec);
  ReadNormalizer(root, spec);
  const std::string type = TypeOf(root, "pre_tokenizer", path);
  if (type != "BertPreTokenizer") Unsupported(path, "pre_tokenizer", "BertPreTokenizer", type);
  ReadAdded(root, spec);
  ReadPostProcessor(root, spec);
  // These two classes of transformers take tokenizer.json as it is.
  const bool generic =
      o.tokenizer_class == "PreTrainedTokenizerFast" || o.tokenizer_class == "TokenizersBackend";
  if (generic) return spec;
  NormalizerOptions& n = spec.normalizer;
  n.lowercase = o.lowercase.value_or(n.lowercase);
  if (o.lowercase) n.strip_accents = n.lowercase;
  n.strip_accents = o.strip_accents.value_or(n.strip_accents);
  n.chinese = o.chinese.value_or(n.chinese);
  return spec;
}

}  // namespace

TokenizerSpec ReadTokenizer(const std::string& path) {
  const fs::path file(path);
  std::error_code ignored;
  if (!fs::is_directory(file, ignored)) {
    const Overrides o = ReadOverrides(file.parent_path());
    return file.extension() == ".json" ? ReadTokenizerJson(path, o) : ReadVocab(path, o);
  }
  const Overrides o = ReadOverrides(file);
  const std::string json = file / "tokenizer.json", vocab = file / "vocab.txt";
  if (fs::exists(json, ignored)) return ReadTokenizerJson(json, o);
  if (fs::exists(vocab, ignored)) return ReadVocab(vocab, o);
  for (const char* other : {"vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model"})
    if (fs::exists(file / other, ignored))
      Fail(
          "{}: expected tokenizer.json or vocab.txt, found {} of another kind of tokenizer, which "
          "is not supported",
          path, other);
  Fail("{}: expected tokenizer.json or vocab.txt, found neither", path);
}

}  // namespace graft
