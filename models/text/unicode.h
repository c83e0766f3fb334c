// What Hugging Face's `tokenizers` does with each character in BERT's normalizer, pre-tokenizer and
// added tokens: classes, lower case, canonical decomposition. The tables (unicode_tables.cc) are
// asked of that library character by character, see scripts/make_unicode_tables.py.
#pragma once
#include <cstdint>

namespace graft::unicode {

enum Flag : uint8_t {
  kControl = 1,  // removed by cleaning: Cc, Cf, Cn, Co, U+0000 and U+FFFD
  kSpace = 2,
  kPunctuation = 4,
  kChinese = 8,      // gets blanks on both sides
  kMark = 16,        // Mn: an accent to strip
  kDecomposes = 32,  // NFD changes it
  kWord = 64,        // of a word, where an added token has to be a single one
};

struct Record {
  uint8_t flags;
  uint8_t combining;  // rank of the canonical combining class, 0 for a starter
  int32_t lower;      // add this for the lower case
};
struct Decomposed {
  char32_t code;
  uint16_t begin, size;  // in kPool
};

extern const char* const kTokenizersVersion;
extern const int kDecomposedSize;
extern const Record kRecords[];
extern const uint8_t kFirst[];          // [0x110000 / 512]
extern const uint16_t kSecond[];        // blocks of 32
extern const uint8_t kThird[];          // blocks of 16
extern const Decomposed kDecomposed[];  // sorted by code; without Hangul syllables
extern const char32_t kPool[];

// REQUIRES: c < 0x110000. This holds for all functions below, too.
inline const Record& Lookup(char32_t c) {
  const uint32_t block = kFirst[c >> 9] * 32u + (c >> 4 & 31);
  return kRecords[kThird[kSecond[block] * 16u + (c & 15)]];
}

inline bool IsSpace(char32_t c) { return Lookup(c).flags & kSpace; }

struct Parts {
  char32_t part[4];
  int size;
};

// The full canonical decomposition of a character with kDecomposes.
Parts Decompose(char32_t c);

// One character, or two for U+0130 (i and a dot above).
Parts Lower(char32_t c);

}  // namespace graft::unicode
