// What stands beside a tokenizer's vocabulary, read as AutoTokenizer of transformers 5 reads it:
// tokenizer_config.json, special_tokens_map.json, added_tokens.json, and of config.json the class.
#pragma once
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace graft {

// A bound of vocabularies. The largest of BERT models have half a million tokens.
inline constexpr int64_t kMaxTokens = 1'000'000;

// A token as a file lists it. An empty content stands for null, which means that there is no such
// token.
struct ListedToken {
  std::string content;
  int64_t id = -1;  // -1: it gets that of the vocabulary, else the next free one
  bool left_strip = false, right_strip = false, single_word = false, special = false;
  std::optional<bool> normalized;  // if the file does not say, that which is not special
};

using ListedTokens = std::map<int64_t, ListedToken>;  // by id

struct TokenizerConfig {
  std::string where;  // begins error messages
  // Whether the class is BertTokenizer or one of its relatives: these build a tokenizer from the
  // vocabulary and the settings here, the others take tokenizer.json as it is.
  bool bert = true;
  bool types = true;  // else all tokens of a pair have type 0
  std::optional<bool> lowercase, strip_accents, chinese;
  std::optional<bool> truncate_left;
  bool split_special = false;
  std::optional<int64_t> max_length;

  // unk_token and the like by their keys, in the order in which transformers adds them. Behind
  // these come names of the model's own. For those the order in the file counts, which is not known
  // here.
  std::vector<std::pair<std::string, ListedToken>> named;
  size_t usual_names = 0;
  std::vector<ListedToken> extra;       // additional or extra special tokens
  std::optional<ListedTokens> decoder;  // added_tokens_decoder, if tokenizer_config.json has it
  ListedTokens added;                   // else those of added_tokens.json

  const ListedToken* Named(const std::string& key) const;  // nullptr: the files do not say
};

// `value` is "[UNK]" or {"content": "[UNK]", "lstrip": false, ...}.
ListedToken ReadListedToken(const nlohmann::json& value, const std::string& where);

// Reads those of the files that are in this directory. With `vocabulary` the tokenizer is a
// vocab.txt, which only BertTokenizer and its relatives read. A tokenizer.json without any of these
// files is read as `tokenizers` reads it.
TokenizerConfig ReadTokenizerConfig(const std::string& directory, bool vocabulary);

}  // namespace graft
