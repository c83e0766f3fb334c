// The files of a BERT tokenizer: vocab.txt, tokenizer.json, tokenizer_config.json. What they ask
// for and TokenizerSpec cannot express is an error that names it.
#pragma once
#include "models/text/tokenizer.h"

namespace graft {

// `path` is a directory or one of the first two files. In a directory tokenizer.json is preferred,
// and what tokenizer_config.json says about the normalizer (do_lower_case, strip_accents,
// tokenize_chinese_chars) counts more, as in transformers; what it leaves out stays as it is in
// tokenizer.json. Padding and truncation in tokenizer.json are settings of a program's last call,
// and ignored as transformers ignores them.
TokenizerSpec ReadTokenizer(const std::string& path);

}  // namespace graft
