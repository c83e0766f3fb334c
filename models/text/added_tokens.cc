#include "models/text/added_tokens.h"

#include <set>
#include <unordered_map>

#include "models/text/unicode.h"
#include "runtime/error.h"
#include "runtime/utf8.h"

namespace graft {
namespace {

// Bounds the time that one character of a text can take.
constexpr size_t kMaxAddedToken = 256;

void CheckToken(const ListedToken& token, const std::string& where) {
  const std::u32string text = DecodeUtf8(token.content);
  if (text.empty() || text.size() > kMaxAddedToken)
    Fail("{}: added token: 'content': expected 1 to {} characters, found {}", where, kMaxAddedToken,
         text.size());
  if ((token.left_strip && unicode::IsSpace(text.front())) ||
      (token.right_strip && unicode::IsSpace(text.back())))
    Fail("{}: '{}': lstrip or rstrip of a token with white space there is not supported", where,
         token.content);
}

// What `tokenizers` does in its function add_tokens.
class Adder {
 public:
  Adder(int64_t next, TokenizerSpec& spec) : next_(next), spec_(spec) {
    for (int64_t id = 0; id < std::ssize(spec.tokens); ++id)
      if (!spec.tokens[id].empty()) ids_.emplace(spec.tokens[id], id);
    if (!ids_.contains(spec.unknown))
      Fail("{}: the vocabulary of {} tokens has no unknown token '{}'", spec.where, ids_.size(),
           spec.unknown);
  }

  bool Knows(const std::string& content) const { return ids_.contains(content); }
  bool Has(const std::string& content) const { return added_.contains(content); }

  void Add(const ListedToken& listed) {
    CheckToken(listed, spec_.where);
    const bool appended = !Knows(listed.content);
    if (appended) Append(listed);
    const int64_t id = ids_.at(listed.content);
    if (!appended && listed.id >= 0 && listed.id != id)
      Fail("{}: '{}' has id {} here and {} in the vocabulary", spec_.where, listed.content,
           listed.id, id);
    const auto [index, is_new] = added_.emplace(listed.content, spec_.added.size());
    if (is_new) spec_.added.push_back({listed.content, static_cast<int32_t>(id)});
    AddedToken& token = spec_.added[index->second];
    // The last entry of a token decides of which kind it is; but once special, it stays special.
    token.left_strip = listed.left_strip, token.right_strip = listed.right_strip;
    token.single_word = listed.single_word;
    token.normalized = listed.normalized.value_or(!listed.special);
    token.special |= listed.special;
    token.appended |= appended;
  }

 private:
  void Append(const ListedToken& listed) {
    if (next_ < 0)
      Fail(
          "{}: the ids of the vocabulary have gaps, so that of the added token '{}' is not certain",
          spec_.where, listed.content);
    if (listed.id >= 0 && listed.id != next_)
      Fail(
          "{}: the added token '{}' has id {} here, but transformers gives it {}, the next after "
          "those before it; hint: add what has the ids between them",
          spec_.where, listed.content, listed.id, next_);
    AddToken(spec_, listed.content, next_);
    ids_.emplace(listed.content, next_++);
  }

  int64_t next_;
  TokenizerSpec& spec_;
  std::unordered_map<std::string, int64_t> ids_;
  std::unordered_map<std::string, size_t> added_;  // to the index in spec_.added
};

// The tokens with their ids: those of added_tokens_decoder or, without it, of the other two files.
ListedTokens TokensWithIds(const TokenizerConfig& c, std::span<const ListedToken> of_file,
                           const std::string& where) {
  if (c.decoder) return *c.decoder;
  ListedTokens listed = c.added;
  for (const ListedToken& token : of_file) {
    const auto [other, is_new] = listed.emplace(token.id, token);
    if (!is_new && other->second.content != token.content)
      Fail("{}: the added tokens '{}' and '{}' have the same id {}", where, other->second.content,
           token.content, token.id);
    other->second = token;
  }
  return listed;
}

}  // namespace

void AddToken(TokenizerSpec& spec, const std::string& token, int64_t id) {
  if (id >= std::ssize(spec.tokens)) spec.tokens.resize(id + 1);
  if (!spec.tokens[id].empty())
    Fail("{}: the tokens '{}' and '{}' have the same id {}", spec.where, spec.tokens[id], token,
         id);
  spec.tokens[id] = token;
}

void AddTokens(const TokenizerConfig& c, std::span<const ListedToken> of_file, int64_t next,
               TokenizerSpec& spec) {
  Adder adder(next, spec);
  if (!c.bert)
    for (const ListedToken& token : of_file) adder.Add(token);
  std::set<std::string> names;
  for (const auto& [key, token] : c.named) names.insert(token.content);
  std::vector<ListedToken> tokens;
  std::set<std::string> contents;
  for (const auto& [id, token] : TokensWithIds(c, of_file, spec.where)) {
    tokens.push_back(token);
    contents.insert(token.content);
  }
  const auto is_new = [&](const ListedToken& token) {
    return !token.content.empty() && !contents.contains(token.content) && !adder.Has(token.content);
  };
  size_t own = 0;  // appended, of names whose order is not known
  for (size_t i = 0; i < c.named.size(); ++i) {
    const auto& [key, token] = c.named[i];
    if (!is_new(token)) continue;
    if (i >= c.usual_names && !adder.Knows(token.content) && ++own > 1)
      Fail(
          "{}: '{}': several tokens that the vocabulary does not have; hint: list them with their "
          "ids in 'added_tokens_decoder'",
          c.where, key);
    tokens.push_back(token);
  }
  for (const ListedToken& token : c.extra)
    if (is_new(token)) tokens.push_back(token);
  for (ListedToken& token : tokens) {
    token.special |= names.contains(token.content);
    adder.Add(token);
  }
}

}  // namespace graft
