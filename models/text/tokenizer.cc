#include "models/text/tokenizer.h"

#include <algorithm>
#include <map>
#include <set>

#include "models/text/tokenizer_file.h"
#include "models/text/unicode.h"
#include "runtime/error.h"
#include "runtime/utf8.h"

namespace graft {
namespace {

// Offsets have 32 bits.
constexpr size_t kMaxTextBytes = size_t{1} << 30;
// A bound of all tokens together, and so of the trie. The largest vocabularies of BERT models have
// 5 million characters.
constexpr size_t kMaxVocabChars = 8'000'000;

bool IsPunctuation(char32_t c) { return unicode::Lookup(c).flags & unicode::kPunctuation; }
// These end a word in every normalizer and are starters of canonical decomposition, so that what
// lies between two of them can be normalized by itself.
bool IsAsciiBlank(char32_t c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

}  // namespace

// Makes the tokens of one text, without those of the template.
class TextEncoder {
 public:
  // The encoder may stop when it has `limit` tokens.
  TextEncoder(const Tokenizer& tokenizer, size_t limit) : t_(tokenizer), limit_(limit) {}

  void Run(std::u32string_view text) {
    const size_t guess = std::min(text.size() / 4 + 8, limit_);
    ids.reserve(guess);
    offsets.reserve(guess);
    SplitAtAdded(
        t_.added_, text, [&](size_t begin, size_t end) { Plain(text, begin, end); },
        [&](int32_t id, size_t begin, size_t end) { Push(id, begin, end); });
  }

  std::vector<int32_t> ids;
  std::vector<TextSpan> offsets;

 private:
  void Push(int32_t id, size_t begin, size_t end) {
    ids.push_back(id);
    offsets.push_back({static_cast<int32_t>(begin), static_cast<int32_t>(end)});
  }

  // Calls between(begin, end) and token(id, begin, end) for the pieces of `text`, in order. Of the
  // added tokens that begin first the longest is taken; the search then goes on after its end.
  template <class Between, class Token>
  void SplitAtAdded(const TokenTrie& trie, std::u32string_view text, const Between& between,
                    const Token& token) const {
    size_t done = 0;
    for (size_t at = 0; at < text.size() && !full_;) {
      while (at < text.size() && trie.Child(TokenTrie::kRoot, text[at]) == TokenTrie::kNone) ++at;
      const TokenTrie::Match match = trie.Longest(text.substr(at));
      if (match.length == 0) {
        ++at;
        continue;
      }
      const AddedToken& added = t_.spec_.added[match.value];
      size_t begin = at, end = at + match.length;
      at = end;
      if (Passed(added, text, begin, end)) continue;
      if (added.left_strip)
        while (begin > done && unicode::IsSpace(text[begin - 1])) --begin;
      if (added.right_strip)
        while (end < text.size() && unicode::IsSpace(text[end])) ++end;
      if (done < begin) between(done, begin);
      if (full_) return;
      token(added.id, begin, end);
      done = end;
    }
    if (done < text.size() && !full_) between(done, text.size());
  }

  // Whether the library finds the token here, but leaves it to the text around it.
  bool Passed(const AddedToken& added, std::u32string_view text, size_t begin, size_t end) const {
    const auto is_word = [&](size_t i) { return unicode::Lookup(text[i]).flags & unicode::kWord; };
    if (t_.spec_.split_special && added.special) return true;
    return added.single_word &&
           ((begin > 0 && is_word(begin - 1)) || (end < text.size() && is_word(end)));
  }

  // Encodes a piece without added tokens, normalized in parts.
  void Plain(std::u32string_view text, size_t begin, size_t end) {
    if (t_.has_normalized_) return Normalized(text.substr(begin, end - begin), begin);
    for (size_t at = begin; at < end && !full_;) {
      while (at < end && IsAsciiBlank(text[at])) ++at;
      size_t stop = at;
      while (stop < end && !IsAsciiBlank(text[stop])) ++stop;
      if (at < stop) Normalized(text.substr(at, stop - at), at);
      at = stop;
    }
  }

  void Normalized(std::u32string_view text, size_t base) {
    t_.normalizer_.Run(text, static_cast<int32_t>(base), n_);
    if (!t_.has_normalized_) return Words(0, n_.chars.size());
    SplitAtAdded(
        t_.added_normalized_, n_.chars, [&](size_t begin, size_t end) { Words(begin, end); },
        [&](int32_t id, size_t begin, size_t end) { PushPart(id, begin, end); });
  }

  void PushPart(int32_t id, size_t begin, size_t end) {
    ids.push_back(id);
    offsets.push_back({n_.from[begin], n_.from[end - 1] + 1});
  }

  // Encodes words: white space separates them, and every punctuation character is one by itself.
  void Words(size_t begin, size_t end) {
    for (size_t at = begin; at < end && !full_;) {
      if (unicode::IsSpace(n_.chars[at])) {
        ++at;
        continue;
      }
      size_t stop = at + 1;
      if (!IsPunctuation(n_.chars[at]))
        while (stop < end && !(unicode::Lookup(n_.chars[stop]).flags & kBreak)) ++stop;
      Word(at, stop);
      full_ = ids.size() >= limit_;
      at = stop;
    }
  }

  // Encodes one word greedily, with the longest token at every place; if there is none at a place,
  // the whole word is one unknown token.
  void Word(size_t begin, size_t end) {
    const size_t before = ids.size();
    const std::u32string_view chars = n_.chars;
    TokenTrie::Node node = TokenTrie::kRoot;
    bool known = end - begin <= t_.spec_.max_word;
    for (size_t at = begin; known && at < end; node = t_.continuing_) {
      const TokenTrie::Match match = t_.words_.Longest(chars.substr(at, end - at), node);
      known = match.length > 0;
      if (known) PushPart(match.value, at, at + match.length);
      at += match.length;
    }
    if (known) return;
    ids.resize(before);
    offsets.resize(before);
    PushPart(t_.unknown_id_, begin, end);
  }

  static constexpr uint8_t kBreak = unicode::kSpace | unicode::kPunctuation;

  const Tokenizer& t_;
  size_t limit_;
  bool full_ = false;
  NormalizedText n_;
};

void Shorten(size_t& first, size_t& second, size_t room) {
  if (first + second <= room) return;
  size_t& shorter = first <= second ? first : second;
  size_t& longer = first <= second ? second : first;
  shorter = std::min(shorter, room / 2);
  longer = room - shorter;
}

namespace {

void Check(const TokenizerSpec& s, const std::unordered_map<std::string, int32_t>& ids) {
  if (!ids.count(s.unknown))
    Fail("{}: the vocabulary of {} tokens has no unknown token '{}'", s.where, ids.size(),
         s.unknown);
  for (const AddedToken& token : s.added)
    if (token.content.empty() || token.id < 0 || static_cast<size_t>(token.id) >= s.tokens.size())
      Fail("{}: added token '{}' with id {}, expected 0 to {}", s.where, token.content, token.id,
           s.tokens.size() - 1);
}

}  // namespace

Tokenizer Tokenizer::Open(const std::string& path) { return Tokenizer(ReadTokenizer(path)); }

Tokenizer::Tokenizer(TokenizerSpec spec) : spec_(std::move(spec)), normalizer_(spec_.normalizer) {
  std::set<int32_t> appended;
  for (const AddedToken& token : spec_.added)
    if (token.appended) appended.insert(token.id);
  std::vector<TokenTrie::Entry> words;
  size_t chars = 0;
  for (size_t id = 0; id < spec_.tokens.size(); ++id) {
    const std::string& token = spec_.tokens[id];
    if (token.empty()) continue;
    const auto [other, is_new] = ids_.emplace(token, static_cast<int32_t>(id));
    if (!is_new)
      Fail("{}: the token '{}' has two ids, {} and {}", spec_.where, token, other->second, id);
    TokenTrie::Entry entry{DecodeUtf8(token), static_cast<int32_t>(id)};
    chars += entry.text.size();
    if (chars > kMaxVocabChars)
      Fail("{}: expected at most {} characters in all tokens", spec_.where, kMaxVocabChars);
    if (!appended.contains(static_cast<int32_t>(id))) words.push_back(std::move(entry));
  }
  Check(spec_, ids_);
  unknown_id_ = ids_.at(spec_.unknown);
  words_ = TokenTrie(std::move(words));
  continuing_ = words_.Walk(DecodeUtf8(spec_.prefix));

  AddAddedTokens();
}

void Tokenizer::AddAddedTokens() {
  std::map<std::u32string, int32_t> plain, normalized;  // to the index in spec_.added
  for (size_t i = 0; i < spec_.added.size(); ++i) {
    const AddedToken& token = spec_.added[i];
    std::u32string text = DecodeUtf8(token.content);
    if (token.normalized) {
      NormalizedText result;
      normalizer_.Run(text, 0, result);
      text = std::move(result.chars);
      if (text.empty())
        Fail("{}: nothing is left of the added token '{}' after normalization", spec_.where,
             token.content);
    }
    const auto [other, is_new] =
        (token.normalized ? normalized : plain).emplace(std::move(text), static_cast<int32_t>(i));
    if (!is_new)
      Fail("{}: the added tokens '{}' and '{}' are the same text", spec_.where,
           spec_.added[other->second].content, token.content);
  }
  const auto trie = [](const std::map<std::u32string, int32_t>& texts) {
    std::vector<TokenTrie::Entry> entries;
    for (const auto& [text, index] : texts) entries.push_back({text, index});
    return TokenTrie(std::move(entries));
  };
  added_ = trie(plain);
  added_normalized_ = trie(normalized);
  has_normalized_ = !normalized.empty();
}

Encoding Tokenizer::Encode(std::string_view text, const EncodeOptions& options) const {
  return Assemble({&text, 1}, options);
}

Encoding Tokenizer::Encode(std::string_view text, std::string_view second,
                           const EncodeOptions& options) const {
  const std::string_view texts[] = {text, second};
  return Assemble(texts, options);
}

Encoding Tokenizer::Assemble(std::span<const std::string_view> texts,
                             const EncodeOptions& options) const {
  const std::vector<TemplatePiece>& pieces = texts.size() == 1 ? spec_.single : spec_.pair;
  size_t special = 0;
  for (const TemplatePiece& piece : pieces) special += piece.ids.size();
  if (!options.special_tokens) special = 0;
  if (options.max_length > 0 && options.max_length < special)
    Fail("{}: max_length {} leaves no room for the {} special tokens", spec_.where,
         options.max_length, special);
  const size_t room = options.max_length == 0 ? SIZE_MAX : options.max_length - special;

  // A pair needs both lengths, as an odd token goes to the longer text; so neither may stop early.
  const size_t limit = texts.size() == 1 && !spec_.truncate_left ? room : SIZE_MAX;
  TextEncoder parts[2] = {{*this, limit}, {*this, limit}};
  for (size_t i = 0; i < texts.size(); ++i) {
    if (texts[i].size() > kMaxTextBytes)
      Fail("a text of {} bytes, expected at most {}", texts[i].size(), kMaxTextBytes);
    parts[i].Run(DecodeUtf8(texts[i]));
  }
  size_t sizes[2] = {parts[0].ids.size(), parts[1].ids.size()};
  Shorten(sizes[0], sizes[1], room);

  Encoding out;
  out.ids.reserve(sizes[0] + sizes[1] + special);
  out.offsets.reserve(sizes[0] + sizes[1] + special);
  for (const TemplatePiece& piece : pieces) {
    if (piece.source == TemplatePiece::kTokens) {
      if (!options.special_tokens) continue;
      out.ids.insert(out.ids.end(), piece.ids.begin(), piece.ids.end());
    } else {
      const size_t i = piece.source == TemplatePiece::kSecond;
      const TextEncoder& part = parts[i];
      const size_t first = spec_.truncate_left ? part.ids.size() - sizes[i] : 0;
      const auto append = [&](auto& to, const auto& from) {
        const auto kept = std::span(from).subspan(first, sizes[i]);
        to.insert(to.end(), kept.begin(), kept.end());
      };
      append(out.ids, part.ids);
      append(out.offsets, part.offsets);
    }
    out.offsets.resize(out.ids.size());
    out.types.resize(out.ids.size(), piece.type);
  }
  return out;
}

const std::string& Tokenizer::token(int32_t id) const {
  GRAFT_CHECK(id >= 0 && static_cast<size_t>(id) < spec_.tokens.size(), "id {}", id);
  return spec_.tokens[id];
}

std::optional<int32_t> Tokenizer::Find(std::string_view token) const {
  const auto it = ids_.find(std::string(token));
  return it == ids_.end() ? std::nullopt : std::optional(it->second);
}

}  // namespace graft
