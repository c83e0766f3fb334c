// Any bytes as a text, with vocabularies that are in order: nothing may be refused.
#include "fuzz/encoding_check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace graft;
  using namespace graft::fuzz;
  static const std::string kFolder = GRAFT_SOURCE_DIR "/tests/fixtures/tokenizer/";
  // The second has added tokens of every kind.
  static const Tokenizer* const kTokenizers[] = {
      new Tokenizer(Tokenizer::Open(kFolder + "vocab.txt")),
      new Tokenizer(Tokenizer::Open(kFolder + "tokenizer.json"))};
  const std::string_view text = TextOf(data, size);
  const std::string_view first = text.substr(0, size / 2), second = text.substr(size / 2);
  for (const Tokenizer* t : kTokenizers) {
    CheckText(*t, text);
    CheckEncoding(*t, t->Encode(text), text, "", 0);
    CheckEncoding(*t, t->Encode(text, {.max_length = 8}), text, "", 8);
    CheckEncoding(*t, t->Encode(first, second, {.max_length = 16}), first, second, 16);
  }
  return 0;
}
