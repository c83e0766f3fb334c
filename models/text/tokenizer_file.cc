#include "models/text/tokenizer_file.h"

#include <algorithm>
#include <filesystem>
#include <unordered_map>

#include "models/text/added_tokens.h"
#include "models/text/unicode.h"
#include "runtime/error.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/foreign_file.h"
#include "runtime/io/json.h"
#include "runtime/utf8.h"

namespace graft {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxVocabBytes = 32 << 20;
// Bounds the time that one character of a text can take.
constexpr int64_t kMaxWord = 1000;
constexpr size_t kMaxTemplate = 64;

// --- vocab.txt

// Cuts white space at the end, which the library's reader does not keep.
void TrimEnd(std::string& token) {
  std::u32string text = DecodeUtf8(token);
  if (text.empty() || !unicode::IsSpace(text.back())) return;
  while (!text.empty() && unicode::IsSpace(text.back())) text.pop_back();
  token.clear();
  for (const char32_t c : text) AppendUtf8(c, token);
}

// Returns the id of the first token that is not there, or -1 if there are gaps. These come from
// blank lines: the library takes all of them for one token, with the number of the last.
int64_t ReadVocabLines(TokenizerSpec& spec) {
  const std::string text = ReadFile(spec.where, kMaxVocabBytes);
  RefuseForeignText(spec.where, text);
  if (const size_t bad = FirstInvalidUtf8(text); bad < text.size())
    Fail("{}:{}: expected UTF-8, found byte 0x{:02x}", spec.where,
         1 + std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(bad), '\n'),
         static_cast<uint8_t>(text[bad]));
  std::unordered_map<std::string, size_t> lines;
  int64_t blank = 0;
  for (size_t at = 0, line = 1; at < text.size(); ++line) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string token = text.substr(at, end - at);
    at = end + 1;
    TrimEnd(token);
    if (line > static_cast<size_t>(kMaxTokens))
      Fail("{}: expected at most {} tokens", spec.where, kMaxTokens);
    if (token.empty()) {
      spec.tokens.emplace_back();
      ++blank;
      continue;
    }
    const auto [other, is_new] = lines.emplace(token, line);
    if (!is_new)
      Fail("{}:{}: the token '{}' is in line {} too", spec.where, line, token, other->second);
    spec.tokens.push_back(std::move(token));
  }
  if (lines.empty()) Fail("{}: expected a token in each line, found none", spec.where);
  return blank > 1 ? -1 : std::ssize(spec.tokens);
}

// --- tokenizer.json

// The member's "type", or "null" if the member is absent or null.
std::string TypeOf(const Json& object, const char* key, const std::string& where) {
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return "null";
  return GetString(GetObject(object, key, where), "type", fmt::format("{}: {}", where, key));
}

[[noreturn]] void Unsupported(const std::string& where, const char* key, const char* expected,
                              const std::string& found) {
  Fail("{}: {}: expected {}, found '{}', which is not supported", where, key, expected, found);
}

// Whether the model is WordPiece; files of the first releases do not name its type.
bool IsWordPiece(const Json& root) {
  const auto model = root.find("model");
  if (model == root.end() || !model->is_object() || model->contains("type")) return false;
  return model->contains("continuing_subword_prefix") &&
         model->contains("max_input_chars_per_word") && !model->contains("merges");
}

// Returns the id of the first token that is not there, or -1 if there are gaps.
int64_t ReadModel(const Json& root, TokenizerSpec& spec) {
  const std::string where = spec.where + ": model";
  const std::string type = IsWordPiece(root) ? "WordPiece" : TypeOf(root, "model", spec.where);
  if (type != "WordPiece") Unsupported(spec.where, "model", "WordPiece", type);
  const Json& model = root.at("model");
  // The library has no defaults for these, nor for the fields of a normalizer or an added token.
  spec.unknown = GetString(model, "unk_token", where);
  spec.prefix = GetString(model, "continuing_subword_prefix", where);
  spec.max_word =
      static_cast<size_t>(GetInt(model, "max_input_chars_per_word", 1, kMaxWord, where));
  const Json& vocab = GetObject(model, "vocab", where);
  if (vocab.empty()) Fail("{}: 'vocab': expected tokens, found none", where);
  int64_t largest = 0;
  for (const auto& item : vocab.items()) {
    const int64_t id = GetInt(vocab, item.key(), 0, kMaxTokens - 1, where + ".vocab");
    if (!item.key().empty()) AddToken(spec, item.key(), id);
    largest = std::max(largest, id);
  }
  return largest + 1 == std::ssize(vocab) ? largest + 1 : -1;
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

// Reads a token of "BertProcessing", such as ["[SEP]", 102].
int32_t TokenOfPair(const Json& processor, const char* key, const TokenizerSpec& spec) {
  const std::string where = fmt::format("{}: post_processor", spec.where);
  const Json& pair = GetArray(processor, key, where);
  const int64_t ids = std::ssize(spec.tokens);
  if (pair.size() != 2 || !pair[1].is_number_integer() || pair[1] < 0 || pair[1] >= ids)
    Fail("{}: '{}': expected [token, id], found {}", where, key, DumpJson(pair));
  return pair[1].get<int32_t>();
}

std::vector<TemplatePiece> ReadTemplate(const Json& processor, const char* key,
                                        const TokenizerSpec& spec) {
  const std::string where = fmt::format("{}: post_processor: {}", spec.where, key);
  const bool pair = std::string_view(key) == "pair";
  const int64_t ids = std::ssize(spec.tokens);
  std::vector<TemplatePiece> pieces;
  int seen[2] = {0, 0};
  for (const Json& item : GetArray(processor, key, where)) {
    TemplatePiece piece;
    const bool text = item.is_object() && item.contains("Sequence");
    const Json& body = GetObject(item, text ? "Sequence" : "SpecialToken", where);
    const std::string id = GetString(body, "id", where);
    piece.type = static_cast<int32_t>(GetInt(body, "type_id", 0, kMaxTokens, where));
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

std::vector<ListedToken> ReadAdded(const Json& root, const std::string& where) {
  std::vector<ListedToken> tokens;
  if (!root.contains("added_tokens") || root["added_tokens"].is_null()) return tokens;
  for (const Json& item : GetArray(root, "added_tokens", where)) {
    const std::string of = fmt::format("{}: added_tokens[{}]", where, tokens.size());
    tokens.push_back(ReadListedToken(item, of));
    for (const char* field : {"single_word", "lstrip", "rstrip", "normalized", "special"})
      GetBool(item, field, of);
    tokens.back().id = GetInt(item, "id", 0, kMaxTokens - 1, of);
  }
  return tokens;
}

// Whether texts are cut on the left: transformers takes nothing else from "truncation".
bool TruncatesLeft(const Json& root, const std::string& where) {
  const auto it = root.find("truncation");
  if (it == root.end() || it->is_null()) return false;
  const Json& truncation = GetObject(root, "truncation", where);
  const std::string side =
      FindString(truncation, "direction", where + ": truncation").value_or("Right");
  if (side != "Left" && side != "Right")
    Fail("{}: truncation: 'direction': expected 'Left' or 'Right', found '{}'", where, side);
  return side == "Left";
}

// Makes the token that fills up batches a special one, if the other files do not name it.
void TakePadding(const Json& root, TokenizerConfig& c) {
  const auto padding = root.find("padding");
  if (padding == root.end() || !padding->is_object() || c.Named("pad_token")) return;
  ListedToken pad{.content = FindString(*padding, "pad_token", c.where).value_or(""),
                  .special = true};
  const auto after = std::ranges::find_if(c.named, [](const auto& token) {
    return token.first == "cls_token" || token.first == "mask_token";
  });
  const auto last = c.named.begin() + static_cast<ptrdiff_t>(c.usual_names);
  c.named.insert(std::min(after, last), {"pad_token", pad});
  ++c.usual_names;
}

// Whether a file gives the token an id.
bool IsListed(const TokenizerConfig& c, std::span<const ListedToken> of_file,
              const std::string& content) {
  const auto is_it = [&](const ListedToken& token) { return token.content == content; };
  const auto in = [&](const ListedTokens& tokens) {
    return std::ranges::any_of(tokens, [&](const auto& token) { return is_it(token.second); });
  };
  return c.decoder ? in(*c.decoder) : in(c.added) || std::ranges::any_of(of_file, is_it);
}

// Builds what BertTokenizer makes of a vocabulary. A start or separator token that no file knows
// gets the next id from it; models have no row for that.
void BuildBert(const TokenizerConfig& c, std::span<const ListedToken> of_file, int64_t next,
               TokenizerSpec& spec) {
  spec.prefix = "##", spec.max_word = 100;
  NormalizerOptions& n = spec.normalizer;
  n.clean = true;
  n.chinese = c.chinese.value_or(true);
  n.lowercase = c.lowercase.value_or(true);
  n.strip_accents = c.strip_accents.value_or(n.lowercase);
  spec.unknown = c.Named("unk_token")->content;
  const size_t size = spec.tokens.size();
  AddTokens(c, of_file, next, spec);
  const auto id = [&](const char* key, const char* role) -> std::vector<int32_t> {
    const std::string& content = c.Named(key)->content;
    const auto found = std::ranges::find(spec.added, content, &AddedToken::content);
    if (found == spec.added.end() || (found->appended && !IsListed(c, of_file, content)))
      Fail("{}: the vocabulary of {} tokens has no {} token '{}'", spec.where, size, role, content);
    return {found->id};
  };
  using Piece = TemplatePiece;
  const std::vector<int32_t> start = id("cls_token", "start"), end = id("sep_token", "separator");
  spec.single = {{Piece::kTokens, start, 0}, {Piece::kFirst, {}, 0}, {Piece::kTokens, end, 0}};
  spec.pair = spec.single;
  spec.pair.push_back({Piece::kSecond, {}, 1});
  spec.pair.push_back({Piece::kTokens, end, 1});
}

// Applies what counts more than the vocabulary's file.
void Finish(const TokenizerConfig& c, TokenizerSpec& spec) {
  spec.truncate_left = c.truncate_left.value_or(spec.truncate_left);
  spec.split_special = c.split_special;
  if (c.types) return;
  for (TemplatePiece& piece : spec.single) piece.type = 0;
  for (TemplatePiece& piece : spec.pair) piece.type = 0;
}

TokenizerSpec ReadTokenizerJson(const std::string& path, TokenizerConfig c) {
  TokenizerSpec spec;
  spec.where = path;
  const Json root = ReadJson(path);
  if (!root.is_object()) Fail("{}: expected an object, found {}", path, root.type_name());
  const int64_t next = ReadModel(root, spec);
  ReadNormalizer(root, spec);
  const std::string type = TypeOf(root, "pre_tokenizer", path);
  if (type != "BertPreTokenizer") Unsupported(path, "pre_tokenizer", "BertPreTokenizer", type);
  const std::vector<ListedToken> added = ReadAdded(root, path);
  spec.truncate_left = TruncatesLeft(root, path);
  if (c.bert) {
    BuildBert(c, added, next, spec);
  } else {
    TakePadding(root, c);
    AddTokens(c, added, next, spec);
    ReadPostProcessor(root, spec);
  }
  Finish(c, spec);
  return spec;
}

TokenizerSpec ReadVocab(const std::string& path, const TokenizerConfig& c) {
  TokenizerSpec spec;
  spec.where = path;
  const int64_t next = ReadVocabLines(spec);
  BuildBert(c, {}, next, spec);
  Finish(c, spec);
  return spec;
}

// The file to read: in a directory tokenizer.json first; else the file itself, whatever its name
// is.
std::optional<fs::path> FindTokenizer(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return path;
  for (const char* name : {"tokenizer.json", "vocab.txt"})
    if (fs::exists(path / name, ignored)) return path / name;
  return std::nullopt;
}

}  // namespace

std::optional<int64_t> TokenizerMaxLength(const std::string& path) {
  const auto file = FindTokenizer(path);
  if (!file) return std::nullopt;
  try {
    return ReadTokenizerConfig(file->parent_path(), file->extension() != ".json").max_length;
  } catch (const Error&) {
    return std::nullopt;  // who reads texts will be told
  }
}

TokenizerSpec ReadTokenizer(const std::string& path) {
  if (const auto file = FindTokenizer(path)) {
    const bool json = file->extension() == ".json";
    const TokenizerConfig c = ReadTokenizerConfig(file->parent_path(), !json);
    return json ? ReadTokenizerJson(*file, c) : ReadVocab(*file, c);
  }
  std::error_code ignored;
  for (const char* other : {"vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model"})
    if (fs::exists(fs::path(path) / other, ignored))
      Fail(
          "{}: expected tokenizer.json or vocab.txt, found {} of another kind of tokenizer, which "
          "is not supported",
          path, other);
  Fail("{}: expected tokenizer.json or vocab.txt, found neither", path);
}

}  // namespace graft
