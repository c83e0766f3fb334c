// UTF-8 (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF).
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace graft {

// Returns the offset of the first byte that is not part of valid UTF-8, or text.size().
size_t FirstInvalidUtf8(std::string_view text);

// Returns the code points. Every longest start of a character that goes wrong becomes one U+FFFD,
// as in Python's bytes.decode(errors="replace").
std::u32string DecodeUtf8(std::string_view text);

std::string ToLowerAscii(std::string text);

}  // namespace graft
