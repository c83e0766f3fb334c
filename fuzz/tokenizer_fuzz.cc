// Opens the files of a tokenizer: tokenizer.json (an input that begins with '{'), vocab.txt, or a
// directory of several, each behind a line with '@' and its name. One that opens has to encode any
// text.
#include "fuzz/encoding_check.h"
#include "tests/test_util.h"

namespace graft::fuzz {
namespace {

constexpr std::string_view kTexts[] = {"",
                                       "a moving and funny film",
                                       "Über die Straße [MASK] [SEP]",
                                       "\xe4\xb8\xad\xe6\x96\x87 e\xcc\x81",
                                       "\xff\xfe broken \xc3",
                                       "##ing un##known  \t\n end"};

void TestTokenizer(const std::string& path) {
  const Tokenizer tokenizer = Tokenizer::Open(path);
  for (const std::string_view text : kTexts) {
    CheckText(tokenizer, text);
    CheckEncoding(tokenizer, tokenizer.Encode(text), text, "", 0);
    // A template that is longer than the limit is an error.
    Accepts([&] {
      CheckEncoding(tokenizer, tokenizer.Encode(text, kTexts[1], {.max_length = 9}), text,
                    kTexts[1], 9);
    });
  }
}

constexpr std::string_view kNames[] = {"vocab.txt",         "tokenizer.json",
                                       "config.json",       "tokenizer_config.json",
                                       "added_tokens.json", "special_tokens_map.json"};

// What lies between the line "@NAME" and the next line that begins with '@'; false for none.
bool WriteFiles(const TempDir& dir, std::string_view text) {
  std::filesystem::remove_all(dir / "files");
  bool any = false;
  for (const std::string_view name : kNames) {
    const std::string line = "@" + std::string(name) + "\n";
    const size_t at = text.find(line);
    if (at == text.npos) continue;
    const std::string_view rest = text.substr(at + line.size());
    dir.Write("files/" + std::string(name), rest.substr(0, rest.find("\n@")));
    any = true;
  }
  return any;
}

}  // namespace
}  // namespace graft::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace graft;
  using namespace graft::fuzz;
  static const TempDir* dir = new TempDir;
  const std::string_view text = TextOf(data, size);
  if (text.starts_with('@')) {
    if (WriteFiles(*dir, text)) Accepts([&] { TestTokenizer(*dir / "files"); });
    return 0;
  }
  const std::string name = text.starts_with('{') ? "tokenizer.json" : "vocab.txt";
  dir->Write(name, text);
  Accepts([&] { TestTokenizer(*dir / name); });
  return 0;
}
