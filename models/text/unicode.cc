#include "models/text/unicode.h"

#include <algorithm>

#include "runtime/error.h"

namespace graft::unicode {

Parts Decompose(char32_t c) {
  if (c >= 0xAC00 && c < 0xD7A4) {  // Hangul syllables; Unicode 15, section 3.12
    const char32_t i = c - 0xAC00, tail = i % 28;
    return {{0x1100 + i / 588, 0x1161 + i % 588 / 28, 0x11A7 + tail}, tail ? 3 : 2};
  }
  const Decomposed* end = kDecomposed + kDecomposedSize;
  const Decomposed* found = std::lower_bound(
      kDecomposed, end, c, [](const Decomposed& d, char32_t code) { return d.code < code; });
  GRAFT_CHECK(found != end && found->code == c, "U+{:04X}", static_cast<uint32_t>(c));
  Parts parts{{}, found->size};
  std::copy_n(kPool + found->begin, found->size, parts.part);
  return parts;
}

Parts Lower(char32_t c) {
  if (c == 0x130) return {{'i', 0x307}, 2};
  return {{c + static_cast<char32_t>(Lookup(c).lower)}, 1};
}

}  // namespace graft::unicode
