// Tests what a terminal gets of texts that others wrote.
#include "runtime/utf8.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "runtime/io/json.h"

namespace graft::utf8_test {
namespace {

TEST(EscapeControls, NothingThatATerminalObeys) {
  const std::pair<std::string, std::string> cases[] = {
      {"", ""},
      {"plain text", "plain text"},
      {"gr\xc3\xb6\xc3\x9f, \xe7\x8c\xab, \xf0\x9f\x90\x88",
       "gr\xc3\xb6\xc3\x9f, \xe7\x8c\xab, \xf0\x9f\x90\x88"},
      {"\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"},
      {"a\nb\tc\r\x7f", "a\\nb\\x09c\\x0d\\x7f"},
      {"\xc2\x9b"
       "31m",
       "\\x9b31m"},         // CSI as one character
      {"\x9b", "\\x9b"},    // and as a byte, which is no UTF-8
      {"a\xc3", "a\\xc3"},  // a character cut short
      {"\xe2\x80\xae"
       "gpj.exe",
       "\\u202egpj.exe"},  // from right to left
      {"\xe2\x81\xa6\xe2\x81\xa9", "\\u2066\\u2069"},
      {"\xe2\x80\xa8", "\\u2028"},
      {"\xc2\xa0\xe2\x80\x99", "\xc2\xa0\xe2\x80\x99"},  // a blank and an apostrophe
      {std::string("nul\0", 4), "nul\\x00"},
  };
  for (const auto& [text, shown] : cases) EXPECT_EQ(EscapeControls(text), shown);
  EXPECT_EQ(EscapeControls("a\nb\tc\x1b", "\n\t"), "a\nb\tc\\x1b");
}

TEST(EscapeControls, JsonKeepsItsValue) {
  const std::string all = "\x1b\x7f\xc2\x9b\xe2\x80\xae\xe2\x81\xa6\xc3\xa9\xf0\x9f\x90\x88\n\"\\";
  const nlohmann::json value{{all, {all, 1}}};
  const std::string shown = ShowJson(value);
  EXPECT_EQ(nlohmann::json::parse(shown), value);
  EXPECT_EQ(EscapeControls(shown), shown);
  EXPECT_NE(shown.find("\\u009b"), std::string::npos) << shown;
}

}  // namespace
}  // namespace graft::utf8_test
