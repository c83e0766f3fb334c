// BERT's WordPiece tokenizer: ids, types and offsets equal to Hugging Face's `tokenizers` (the
// version in models/text/unicode_tables.cc), special tokens inside the text included. Thread safe.
//
//   const Tokenizer tokenizer = Tokenizer::Open("minilm/");
//   const Encoding e = tokenizer.Encode("a moving and funny film", {.max_length = 128});
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "models/text/normalizer.h"
#include "models/text/token_trie.h"

namespace graft {

// A token that is found in the text itself, before the text is cut into words.
struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool left_strip = false, right_strip = false;  // takes the white space on that side along
  bool normalized = false;   // looked for in the normalized text, with its own normalized content
  bool single_word = false;  // not where a character of a word is beside it
  bool special = false;      // split like other text if the tokenizer's split_special asks for it
  bool appended = false;     // follows the vocabulary, so words are not made of it
};

// A piece of what surrounds the texts: tokens without a place in a text, or one of the texts.
struct TemplatePiece {
  enum Source : uint8_t { kTokens, kFirst, kSecond };
  Source source = kTokens;
  std::vector<int32_t> ids;  // kTokens
  int32_t type = 0;
};

// Everything that a tokenizer consists of; tokenizer_file.h reads files into it.
struct TokenizerSpec {
  std::string where;                // begins error messages
  std::vector<std::string> tokens;  // by id, added ones too; "" for an id that is not in use
  std::vector<AddedToken> added;
  std::vector<TemplatePiece> single, pair;
  std::string unknown = "[UNK]", prefix = "##";
  size_t max_word = 100;  // a longer word, in characters, is unknown
  NormalizerOptions normalizer;
  bool truncate_left = false;  // of a text that is too long the end stays
  bool split_special = false;
};

struct TextSpan {
  int32_t begin = 0, end = 0;  // in code points of the text; 0, 0 for tokens of the template
  bool operator==(const TextSpan&) const = default;
};

struct Encoding {
  std::vector<int32_t> ids, types;
  std::vector<TextSpan> offsets;
};

struct EncodeOptions {
  size_t max_length = 0;       // tokens, those of the template included; 0: no limit
  bool special_tokens = true;  // the template's
};

// Cuts the token counts of two texts to at most `room` together: both get equal shares, and what
// one of them does not need goes to the other. With a second text of 0 tokens it is the limit of
// one text.
void Shorten(size_t& first, size_t& second, size_t room);

class Tokenizer {
 public:
  // Opens a directory with tokenizer.json or vocab.txt, or one of these two files. Either is read
  // with what stands beside it (models/text/tokenizer_config.h).
  static Tokenizer Open(const std::string& path);
  explicit Tokenizer(TokenizerSpec spec);

  // Bytes that are not UTF-8 count as U+FFFD. A pair that is too long loses tokens from the longer
  // text first: from its end, or from its beginning if the tokenizer truncates on the left. A pair
  // whose second text is empty is still a pair.
  Encoding Encode(std::string_view text, const EncodeOptions& options = {}) const;
  Encoding Encode(std::string_view text, std::string_view second,
                  const EncodeOptions& options = {}) const;

  // The largest id plus one, which is how many rows an embedding must have at least.
  size_t vocab_size() const { return spec_.tokens.size(); }
  const std::string& token(int32_t id) const;  // "" for an id that is not in use
  std::optional<int32_t> Find(std::string_view token) const;
  const TokenizerSpec& spec() const { return spec_; }

 private:
  friend class TextEncoder;
  void AddAddedTokens();
  Encoding Assemble(std::span<const std::string_view> texts, const EncodeOptions&) const;

  TokenizerSpec spec_;
  TextNormalizer normalizer_;
  std::unordered_map<std::string, int32_t> ids_;
  int32_t unknown_id_ = 0;
  TokenTrie words_;
  TokenTrie::Node continuing_ = TokenTrie::kNone;  // after the prefix
  TokenTrie added_, added_normalized_;             // values are indices into spec_.added
  bool has_normalized_ = false;                    // added_normalized_ has any
};

}  // namespace graft
