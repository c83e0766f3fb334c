// What decides the tokens of every text, as one hash.
#pragma once
#include "models/text/tokenizer.h"

namespace graft {

// SHA-256 over vocabulary, added tokens, templates and rules: equal for files of other kinds or
// names that mean the same tokenizer.
std::string TokenizerIdentity(const TokenizerSpec& spec);

}  // namespace graft
