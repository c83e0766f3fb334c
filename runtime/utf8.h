// UTF-8 (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF).
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace graft {

// Returns the offset of the first byte that is not part of valid UTF-8, or text.size().
size_t FirstInvalidUtf8(std::string_view text);

// Returns the code points. Every longest beginning of a character that goes wrong becomes one
// U+FFFD, as in Python's bytes.decode(errors="replace").
std::u32string DecodeUtf8(std::string_view text);

// REQUIRES: c is a code point and no surrogate.
void AppendUtf8(char32_t c, std::string& utf8);

std::string ToLowerAscii(std::string text);

// Makes text that others may have chosen (labels, names of tensors and files) safe to show:
// controls of a terminal and of the order of writing, and bytes that are not UTF-8, become escapes
// such as \x1b and \u202e. Those in `kept` stay.
std::string EscapeControls(std::string_view text, std::string_view kept = "");
// Does the same for JSON text, which stays the JSON of the same value.
std::string EscapeJsonControls(std::string_view json);

}  // namespace graft
