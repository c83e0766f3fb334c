#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/io/json.h"
#include "runtime/io/sha256.h"
#include "tests/test_util.h"

namespace graft::io_json_test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ErrorOf(const std::string& text, const JsonLimits& limits = {}) {
  return MessageOf([&] { ParseJson(text, "f.json", limits); });
}

TEST(Json, Limits) {
  EXPECT_EQ(ErrorOf(R"({"a":{"x":1},"b":{"x":1},"c":[{"x":1},{"x":2}]})"), "no error");
  EXPECT_EQ(ErrorOf(R"({"a":1,"b":{"a":1,"a":2}})"), "f.json: duplicate key 'a'");
  EXPECT_THAT(ErrorOf("[1, 2", {.bytes = 4}), HasSubstr("at most 4 bytes of JSON, found 5"));
  EXPECT_EQ(ErrorOf("[[[1]]]", {.depth = 4}), "no error");
  EXPECT_THAT(ErrorOf("[[[1]]]", {.depth = 3}), HasSubstr("nested deeper than 3"));
  EXPECT_THAT(ErrorOf(std::string(1 << 20, '[')), HasSubstr("nested deeper than 64"));
  EXPECT_THAT(ErrorOf("{} {}"), HasSubstr("f.json: parse error at column 4"));
  EXPECT_THAT(ErrorOf(std::string("{}\0{}", 5)), HasSubstr("NUL byte"));
  EXPECT_THAT(ErrorOf("\"\xff\""), HasSubstr("UTF-8"));
  EXPECT_THAT(ErrorOf("NaN"), HasSubstr("parse error"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("parse error"));
  EXPECT_THAT(ErrorOf("1e999"), HasSubstr("f.json: "));
}

TEST(Json, Getters) {
  const Json j = ParseJson(R"({"num_heads":12,"eps":1e-6,"act":"gelu","qkv":true,"null":null,
      "ints":[1,2],"names":["a"],"o":{},"huge":18446744073709551615,"half":0.5})",
                           "c.json");
  EXPECT_EQ(GetInt(j, "num_heads", 1, 100, "c"), 12);
  EXPECT_EQ(GetNumber(j, "num_heads", 0, 100, "c"), 12);
  EXPECT_EQ(GetNumber(j, "eps", 0, 1, "c"), 1e-6);
  EXPECT_EQ(GetString(j, "act", "c"), "gelu");
  EXPECT_TRUE(GetBool(j, "qkv", "c"));
  EXPECT_THAT(GetInts(j, "ints", 0, 9, "c"), ElementsAre(1, 2));
  EXPECT_THAT(GetStrings(j, "names", "c"), ElementsAre("a"));
  EXPECT_TRUE(GetObject(j, "o", "c").empty());
  EXPECT_EQ(FindInt(j, "null", 0, 9, "c"), std::nullopt);
  EXPECT_EQ(FindString(j, "absent", "c"), std::nullopt);
  EXPECT_EQ(FindBool(j, "qkv", "c"), true);
  EXPECT_EQ(FindNumber(j, "half", 0, 1, "c"), 0.5);

  EXPECT_EQ(MessageOf([&] { GetInt(j, "num_head", 1, 9, "c.json"); }),
            "c.json: expected a key 'num_head'; did you mean 'num_heads'?");
  EXPECT_EQ(MessageOf([&] { GetInt(j, "num_heads", 1, 9, "c.json"); }),
            "c.json: 'num_heads': expected 1 to 9, found 12");
  EXPECT_EQ(MessageOf([&] { GetInt(j, "act", 1, 9, "c.json"); }),
            "c.json: 'act': expected an integer, found string");
  EXPECT_THAT(MessageOf([&] { GetInt(j, "half", 0, 9, "c"); }), HasSubstr("an integer"));
  EXPECT_THAT(MessageOf([&] { GetInt(j, "huge", INT64_MIN, INT64_MAX, "c"); }),
              HasSubstr("found 18446744073709551615"));
  EXPECT_THAT(MessageOf([&] { GetInts(j, "ints", 2, 9, "c"); }), HasSubstr("found 1"));
  EXPECT_THAT(MessageOf([&] { GetBool(j, "act", "c"); }), HasSubstr("true or false"));
  EXPECT_THAT(MessageOf([&] { FindString(j, "qkv", "c"); }), HasSubstr("expected a string"));
  EXPECT_THAT(MessageOf([&] { FindNumber(j, "eps", 1, 2, "c"); }), HasSubstr("found 1e-06"));
  EXPECT_THAT(MessageOf([&] { GetArray(j, "o", "c"); }), HasSubstr("expected an array"));
  EXPECT_THAT(MessageOf([&] { GetString(Json::array(), "x", "c"); }),
              HasSubstr("expected an object with 'x', found array"));
  EXPECT_EQ(MessageOf([&] { GetInt(j, "null", 1, 9, "c"); }),
            "c: 'null': expected a value, found null");
  EXPECT_THAT(MessageOf([&] { DumpJson("\xff"); }), HasSubstr("UTF-8"));
  EXPECT_EQ(ShowJson({{"input", "bad\xff.jpg"}}), "{\"input\":\"bad\xef\xbf\xbd.jpg\"}");
}

std::string Hex(const std::string& text, Sha256::Code code = Sha256::Code::kFastest) {
  Sha256 hash(code);
  hash.Update(std::as_bytes(std::span(text)));
  return hash.Hex();
}

TEST(Sha256, KnownAnswers) {  // FIPS 180-4 and its examples
  EXPECT_EQ(Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(Hex(std::string(1000000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, PiecesAndPlainCodeAgree) {
  std::string text;
  for (int n = 0; n < 200; ++n, text += static_cast<char>(n * 37)) {
    EXPECT_EQ(Hex(text, Sha256::Code::kPlain), Hex(text)) << n;
    Sha256 hash;
    const auto bytes = std::as_bytes(std::span(text));
    const size_t cut = bytes.size() / 3;
    hash.Update(bytes.first(cut));
    hash.Update(bytes.subspan(cut));
    EXPECT_EQ(hash.Hex(), Hex(text)) << n;
  }
}

}  // namespace
}  // namespace graft::io_json_test
