// Compares WordPiece with answers of Hugging Face `tokenizers` (tests/fixtures/tokenizer), tries
// hostile files and texts, and sees that time grows with the length only.
#include "models/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/text/tokenizer_file.h"
#include "models/text/unicode.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/json.h"
#include "runtime/utf8.h"
#include "tests/test_util.h"

namespace graft::tokenizer_test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kTokenizers = kFixtures + "tokenizer/";

Json Expected() { return ReadJson(kTokenizers + "expected.json"); }

Encoding Ask(const Tokenizer& tokenizer, const Json& request) {
  const EncodeOptions options{.max_length = static_cast<size_t>(request.value("max_length", 0)),
                              .special_tokens = request.value("special_tokens", true)};
  const std::string text = request.at("text");
  if (!request.contains("second")) return tokenizer.Encode(text, options);
  return tokenizer.Encode(text, request.at("second").get<std::string>(), options);
}

// Returns the number of cases that it compared.
size_t CompareAll(const Tokenizer& tokenizer, const Json& cases, const std::string& name) {
  for (const Json& request : cases) {
    const Encoding e = Ask(tokenizer, request);
    Json offsets = Json::array();
    for (const TextSpan& span : e.offsets) {
      offsets.push_back(span.begin);
      offsets.push_back(span.end);
    }
    EXPECT_EQ(Json({e.ids, e.types, offsets}), request.at("expected")) << name << request;
  }
  return cases.size();
}

TEST(Tokenizer, EqualsTheLibraryOnVocabTxt) {
  const Json expected = Expected();
  EXPECT_EQ(expected.at("tokenizers"), unicode::kTokenizersVersion);
  size_t compared = 0;
  for (const Json& group : expected.at("vocab.txt")) {
    TokenizerSpec spec = ReadTokenizer(kTokenizers + "vocab.txt");
    const Json& o = group.at("options");
    NormalizerOptions& n = spec.normalizer;
    n.clean = o.value("clean_text", true);
    n.chinese = o.value("handle_chinese_chars", true);
    n.lowercase = o.at("lowercase");
    n.strip_accents = o.value("strip_accents", n.lowercase);
    compared += CompareAll(Tokenizer(spec), group.at("cases"), o.dump());
  }
  EXPECT_GE(compared, 400u);
}

TEST(Tokenizer, EqualsTheLibraryOnTokenizerJson) {
  const Tokenizer tokenizer = Tokenizer::Open(kTokenizers + "tokenizer.json");
  EXPECT_GE(CompareAll(tokenizer, Expected().at("tokenizer.json"), "json"), 25u);
}

TEST(Tokenizer, Ids) {
  const Tokenizer tokenizer = Tokenizer::Open(kTokenizers + "vocab.txt");
  EXPECT_EQ(tokenizer.Find("[SEP]"), 3);
  EXPECT_EQ(tokenizer.Find("[sep]"), std::nullopt);
  EXPECT_EQ(tokenizer.token(2), "[CLS]");
  EXPECT_EQ(tokenizer.token(static_cast<int32_t>(tokenizer.vocab_size()) - 1), "##️");
}

TEST(Tokenizer, InvalidUtf8IsReplaced) {
  const Tokenizer tokenizer = Tokenizer::Open(kTokenizers + "vocab.txt");
  // Cleaning drops U+FFFD, which still has a place.
  const Encoding e = tokenizer.Encode("a\xff\xc3 b\xe4\xb8", {.special_tokens = false});
  EXPECT_THAT(e.offsets, ElementsAre(TextSpan{0, 1}, TextSpan{4, 5}));
}

TEST(Tokenizer, MaxLength) {
  const Tokenizer tokenizer = Tokenizer::Open(kTokenizers + "vocab.txt");
  EXPECT_THAT(tokenizer.Encode("a b c", {.max_length = 2}).ids, ElementsAre(2, 3));
  EXPECT_THAT(tokenizer.Encode("a b", "c", {.max_length = 3}).ids, ElementsAre(2, 3, 3));
  EXPECT_EQ(MessageOf([&] { tokenizer.Encode("a", {.max_length = 1}); }),
            kTokenizers + "vocab.txt: max_length 1 leaves no room for the 2 special tokens");
  EXPECT_THAT(MessageOf([&] { tokenizer.Encode("a", "b", {.max_length = 2}); }),
              HasSubstr("max_length 2 leaves no room for the 3"));
}

TEST(Tokenizer, LongTextsTakeLinearTime) {
  const Tokenizer tokenizer = Tokenizer::Open(kTokenizers + "tokenizer.json");
  // Each was quadratic in some tokenizer: no blank, only blanks, one character with two lower-case
  // ones, marks out of order, starts of added tokens, added tokens that take blanks along. Nothing
  // is timed: 10 MB in quadratic time take hours, and the runner ends a test long before.
  for (const char* piece :
       {"a", " ", "İ", "\u0301", "\u0316\u0301", "[", "||", "|| ", "中", "the "}) {
    std::string text;
    while (text.size() < 10'000'000) text += piece;
    const Encoding e = tokenizer.Encode(text, piece, {.special_tokens = false});
    EXPECT_LE(e.ids.size(), text.size() + 4) << piece;
  }
}

TEST(Tokenizer, ConfigOverridesTheNormalizer) {
  const TempDir folder;
  folder.Write("vocab.txt", ReadFile(kTokenizers + "vocab.txt", 1 << 20));
  const auto normalizer = [&](const std::string& config) {
    folder.Write("tokenizer_config.json", config);
    const NormalizerOptions n = ReadTokenizer(folder.path().string()).normalizer;
    return fmt::format("{:d}{:d}{:d}{:d}", n.clean, n.chinese, n.strip_accents, n.lowercase);
  };
  EXPECT_EQ(normalizer("{}"), "1111");
  EXPECT_EQ(normalizer(R"({"do_lower_case": false})"), "1100");
  EXPECT_EQ(normalizer(R"({"do_lower_case": false, "strip_accents": true})"), "1110");
  EXPECT_EQ(normalizer(R"({"strip_accents": false, "tokenize_chinese_chars": false})"), "1001");
  folder.Write("tokenizer.json", ReadFile(kTokenizers + "tokenizer.json", 1 << 20));
  EXPECT_EQ(normalizer(R"({"do_lower_case": false})"), "1100");
  EXPECT_EQ(normalizer(R"({"do_lower_case": false, "tokenizer_class": "TokenizersBackend"})"),
            "1111");
  EXPECT_THAT(MessageOf([&] { normalizer(R"({"do_lower_case": "no"})"); }),
              HasSubstr("tokenizer_config.json: 'do_lower_case': expected true or false"));
  EXPECT_THAT(MessageOf([&] { normalizer(R"({"truncation_side": "lift"})"); }),
              HasSubstr("expected 'left' or 'right', found 'lift'"));
}

TEST(Tokenizer, OtherNamesOfSpecialTokens) {
  const TempDir folder;
  folder.Write("vocab.txt", "<pad>\n<unk>\n<s>\n</s>\r\na\n\n##b\n");
  folder.Write("tokenizer_config.json",
               R"({"unk_token": "<unk>", "cls_token": {"content": "<s>"}, "sep_token": "</s>"})");
  const Tokenizer tokenizer = Tokenizer::Open(folder.path().string());
  EXPECT_THAT(tokenizer.Encode("ab</s>x").ids, ElementsAre(2, 4, 6, 3, 1, 3));
}

struct BadFile {
  std::string name, text, message;
};

TEST(Tokenizer, BadVocabTxt) {
  const std::string special = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n";
  const BadFile files[] = {
      {"empty", "", "expected a token in each line, found none"},
      {"no unknown", "[CLS]\n[SEP]\na\n", "3 tokens has no unknown token '[UNK]'"},
      {"no start", "[UNK]\n[SEP]\na\n", "has no start token '[CLS]'"},
      {"no separator", "[UNK]\n[CLS]\na\n", "has no separator token '[SEP]'"},
      {"twice", special + "a\nb\na\n", "vocab.txt:7: the token 'a' is in line 5 too"},
      {"latin-1", special + "caf\xe9\n", "vocab.txt:5: expected UTF-8, found byte 0xe9"},
      {"binary", std::string("\x80\x02}q\0", 5), "vocab.txt:1: expected UTF-8"},
      {"huge", std::string((32 << 20) + 1, 'a'), "vocab.txt: "},
      {"long", special + std::string(8'000'001, 'a'), "at most 8000000 characters in all tokens"},
      {"many", std::string(1'000'001, '\n'), "expected at most 1000000 tokens"},
  };
  for (const BadFile& file : files) {
    const TempDir folder;
    folder.Write("vocab.txt", file.text);
    EXPECT_THAT(MessageOf([&] { Tokenizer::Open(folder / "vocab.txt"); }), HasSubstr(file.message))
        << file.name;
  }
}

TEST(Tokenizer, MissingFiles) {
  const TempDir folder;
  const auto open = [&] { Tokenizer::Open(folder.path().string()); };
  EXPECT_THAT(MessageOf(open), HasSubstr("expected tokenizer.json or vocab.txt, found neither"));
  folder.Write("merges.txt", "#version: 0.2\n");
  EXPECT_THAT(MessageOf(open), HasSubstr("found merges.txt of another kind of tokenizer"));
  EXPECT_THAT(MessageOf([&] { Tokenizer::Open(folder / "none/vocab.txt"); }),
              HasSubstr("none/vocab.txt: "));
  folder.Write("vocab.txt", "[UNK]\n");
  folder.Write("tokenizer_config.json", R"({"tokenizer_class": "BertJapaneseTokenizer"})");
  EXPECT_THAT(MessageOf(open), HasSubstr("class 'BertJapaneseTokenizer' is not supported"));
}

// Returns the fixture with one change, which is a JSON merge patch (RFC 7386). An added token gets
// the fields that it must have.
std::string Patched(const std::string& patch) {
  Json root = ReadJson(kTokenizers + "tokenizer.json");
  root.merge_patch(Json::parse(patch));
  for (Json& token : root["added_tokens"])
    for (const char* field : {"single_word", "lstrip", "rstrip", "normalized", "special"})
      if (token.is_object() && !token.contains(field)) token[field] = false;
  return root.dump();
}

TEST(Tokenizer, BadTokenizerJson) {
  const std::string bert = R"({"post_processor": {"type": "BertProcessing", )";
  const BadFile files[] = {
      {"empty", "", "parse error"},
      {"no JSON", "[PAD]\n[UNK]", "parse error"},
      {"array", "[]", "expected an object, found array"},
      {"deep", std::string(100'000, '['), "nested deeper than 64"},
      {"twice", R"({"model": {"type": "WordPiece", "vocab": {"a": 1, "a": 2}}})",
       "duplicate key 'a'"},
      {"no model", "{}", "model: expected WordPiece, found 'null'"},
      {"BPE", Patched(R"({"model": {"type": "BPE"}})"),
       "model: expected WordPiece, found 'BPE', which is not supported"},
      {"Unigram", Patched(R"({"model": {"type": "Unigram"}})"), "found 'Unigram'"},
      {"model", R"({"model": 7})", "'model': expected an object, found number"},
      {"vocab type", Patched(R"({"model": {"vocab": 3}})"),
       "model: 'vocab': expected an object, found number"},
      {"id type", Patched(R"({"model": {"vocab": {"a": "1"}}})"),
       "model.vocab: 'a': expected an integer, found string"},
      {"id negative", Patched(R"({"model": {"vocab": {"a": -1}}})"), "'a': expected 0 to"},
      {"id huge", Patched(R"({"model": {"vocab": {"a": 4294967296}}})"), "found 4294967296"},
      {"id of another", Patched(R"({"model": {"vocab": {"zzz": 3}}})"), "have the same id 3"},
      {"no unknown", Patched(R"({"model": {"unk_token": "<u>"}})"), "no unknown token '<u>'"},
      {"word", Patched(R"({"model": {"max_input_chars_per_word": 100000}})"),
       "'max_input_chars_per_word': expected 1 to 1000, found 100000"},
      {"normalizer", Patched(R"({"normalizer": {"type": "NFKC"}})"),
       "normalizer: expected BertNormalizer, found 'NFKC', which is not supported"},
      {"pre_tokenizer", Patched(R"({"pre_tokenizer": {"type": "ByteLevel"}})"),
       "pre_tokenizer: expected BertPreTokenizer, found 'ByteLevel'"},
      {"post_processor", Patched(R"({"post_processor": {"type": "ByteLevel"}})"),
       "expected TemplateProcessing or BertProcessing, found 'ByteLevel'"},
      {"template", Patched(R"({"post_processor": {"single": []}})"), "found A 0 times"},
      {"template B", Patched(R"({"post_processor": {"single": [{"Sequence": {"id": "B",
          "type_id": 0}}]}})"),
       "single: expected the sequence A, found 'B'"},
      {"template id",
       Patched(R"({"post_processor": {"special_tokens": {"[CLS]": {"ids": [999]}}}})"),
       "'ids': expected 0 to"},
      {"template name", Patched(R"({"post_processor": {"special_tokens": {"[CLS]": null}}})"),
       "expected a key '[CLS]'"},
      {"template piece", Patched(R"({"post_processor": {"pair": [1]}})"),
       "pair: expected an object"},
      {"cls", Patched(bert + R"("cls": ["[CLS]", 2], "sep": ["[SEP]", 999]}})"),
       "'sep': expected [token, id], found"},
      // As in `tokenizers`, which has no defaults for them.
      {"no unk_token", Patched(R"({"model": {"unk_token": null}})"), "a key 'unk_token'"},
      {"no prefix", Patched(R"({"model": {"continuing_subword_prefix": null}})"),
       "a key 'continuing_subword_prefix'"},
      {"no word", Patched(R"({"model": {"max_input_chars_per_word": null}})"),
       "a key 'max_input_chars_per_word'"},
      {"no lower case", Patched(R"({"normalizer": {"lowercase": null}})"), "a key 'lowercase'"},
      {"no lstrip", Patched(R"({"added_tokens": [{"id": 3, "content": "[SEP]", "lstrip": 1}]})"),
       "'lstrip': expected true or false"},
      {"added type", Patched(R"({"added_tokens": {}})"), "'added_tokens': expected an array"},
      {"added id", Patched(R"({"added_tokens": [{"id": 9, "content": "[SEP]"}]})"),
       "'[SEP]' has id 9 here and 3 in the vocabulary"},
      {"added empty", Patched(R"({"added_tokens": [{"id": 3, "content": ""}]})"),
       "'content': expected 1 to 256 characters, found 0"},
      {"added long",
       Patched(R"({"added_tokens": [{"id": 300, "content": ")" + std::string(300, 'a') + "\"}]}"),
       "expected 1 to 256 characters, found 300"},
      {"added blank",
       Patched(R"({"added_tokens": [{"id": 300, "content": "x ", "rstrip": true}]})"),
       "rstrip of a token with white space there is not supported"},
      {"added twice", Patched(R"({"added_tokens": [{"id": 3, "content": "[SEP]"},
          {"id": 3, "content": "[CLS]"}]})"),
       "'[CLS]' has id 3 here and 2 in the vocabulary"},
      {"added far", Patched(R"({"added_tokens": [{"id": 999, "content": "x1"}]})"),
       "'x1' has id 999 here, but transformers gives it"},
  };
  for (const BadFile& file : files) {
    const TempDir folder;
    folder.Write("tokenizer.json", file.text);
    const std::string message = MessageOf([&] { Tokenizer::Open(folder / "tokenizer.json"); });
    EXPECT_THAT(message, HasSubstr(file.message)) << file.name;
    EXPECT_THAT(message, HasSubstr("tokenizer.json: ")) << file.name;
  }
}

TEST(Tokenizer, BertProcessingIsTheUsualTemplate) {
  const TempDir folder;
  folder.Write("tokenizer.json",
               Patched(R"({"post_processor": {"type": "BertProcessing", "cls": ["[CLS]", 2],
                                              "sep": ["[SEP]", 3]}})"));
  const Encoding e = Tokenizer::Open(folder / "tokenizer.json").Encode("a", "a");
  EXPECT_THAT(e.ids, ElementsAre(2, 5, 3, 5, 3));
  EXPECT_THAT(e.types, ElementsAre(0, 0, 0, 1, 1));
  folder.Write("tokenizer.json", Patched(R"({"post_processor": null})"));
  EXPECT_THAT(Tokenizer::Open(folder / "tokenizer.json").Encode("a", "a").ids, ElementsAre(5, 5));
}

TEST(Utf8, InvalidBytes) {
  // As Python decodes with errors="replace".
  const std::pair<std::string, std::u32string> cases[] = {
      {"a\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80", U"aé中😀"},
      {"\xc0\xaf", U"\xfffd\xfffd"},                      // overlong
      {"\xe0\x80\x80", U"\xfffd\xfffd\xfffd"},            // overlong
      {"\xed\xa0\x80", U"\xfffd\xfffd\xfffd"},            // surrogate
      {"\xf4\x90\x80\x80", U"\xfffd\xfffd\xfffd\xfffd"},  // above U+10FFFF
      {"\xf0\x9f\x98x", U"\xfffdx"},
      {"\xe4\xb8", U"\xfffd"},
      {"0123456\xff"
       "89abcdef",
       U"0123456\xfffd"
       U"89abcdef"},
  };
  for (const auto& [bytes, text] : cases) {
    EXPECT_EQ(DecodeUtf8(bytes), text);
    EXPECT_EQ(FirstInvalidUtf8(bytes) == bytes.size(), text.find(U'\xfffd') == text.npos);
  }
  EXPECT_EQ(FirstInvalidUtf8("0123456789\xc3"), 10u);
}

}  // namespace
}  // namespace graft::tokenizer_test
