// The tokens that files list beside a vocabulary, added in the order and with the ids that
// transformers and `tokenizers` give them.
#pragma once
#include <span>

#include "models/text/tokenizer.h"
#include "models/text/tokenizer_config.h"

namespace graft {

// Throws Error if another token has the id.
void AddToken(TokenizerSpec& spec, const std::string& token, int64_t id);

// Adds tokens to spec.tokens, which is the vocabulary, and to spec.added. `next` is the id of the
// first token that the vocabulary does not have, or -1 where its ids have gaps; `of_file` are the
// tokens of tokenizer.json. Throws Error for a token whose listed id transformers would not give
// it.
void AddTokens(const TokenizerConfig& config, std::span<const ListedToken> of_file, int64_t next,
               TokenizerSpec& spec);

}  // namespace graft
