// Tokenizes for tokenizer_parity.py: one JSON request a line on standard input, one answer a line.
//   tokenize_lines TOKENIZER       a directory, vocab.txt or tokenizer.json
//   {"text": "a", "second": "b", "max_length": 128}  ->  [[ids], [types], [begin, end, ...]]
#include <iostream>

#include "models/text/tokenizer.h"
#include "runtime/error.h"
#include "runtime/io/json.h"

namespace graft {
namespace {

void Run(const std::string& path) {
  const Tokenizer tokenizer = Tokenizer::Open(path);
  for (std::string line; std::getline(std::cin, line);) {
    const Json request = ParseJson(line, "stdin");
    const std::string text = GetString(request, "text", "stdin");
    const auto second = FindString(request, "second", "stdin");
    const EncodeOptions options{
        .max_length =
            static_cast<size_t>(FindInt(request, "max_length", 0, INT32_MAX, "stdin").value_or(0)),
        .special_tokens = FindBool(request, "special_tokens", "stdin").value_or(true)};
    const Encoding e =
        second ? tokenizer.Encode(text, *second, options) : tokenizer.Encode(text, options);
    Json offsets = Json::array();
    for (const TextSpan& span : e.offsets) {
      offsets.push_back(span.begin);
      offsets.push_back(span.end);
    }
    std::cout << DumpJson(Json{e.ids, e.types, offsets}) << '\n';
  }
}

}  // namespace
}  // namespace graft

int main(int argc, char** argv) {
  try {
    if (argc != 2) graft::Fail("usage: tokenize_lines TOKENIZER");
    graft::Run(argv[1]);
  } catch (const std::exception& error) {
    std::cerr << "tokenize_lines: " << error.what() << '\n';
    return 1;
  }
}
