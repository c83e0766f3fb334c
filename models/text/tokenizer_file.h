// The files of a BERT tokenizer: vocab.txt, tokenizer.json, and what stands beside them. What they
// ask for and TokenizerSpec cannot express is an error that names it.
#pragma once
#include "models/text/tokenizer.h"

namespace graft {

// `path` is a directory or one of the first two files; of a directory, tokenizer.json is preferred.
// The result is that of AutoTokenizer in transformers 5 (tokenizer_config.h). For BertTokenizer and
// its relatives tokenizer.json gives the vocabulary, the added tokens and the side of truncation;
// all else, such as do_lower_case, comes from tokenizer_config.json or is the class's default.
// Padding and the rest of truncation are settings of a call, and ignored as transformers ignores
// them.
TokenizerSpec ReadTokenizer(const std::string& path);

// The model_max_length of tokenizer_config.json, if there is a limit. Returns nothing for what is
// no tokenizer.
std::optional<int64_t> TokenizerMaxLength(const std::string& path);

}  // namespace graft
