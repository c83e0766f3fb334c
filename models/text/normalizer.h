// BERT's normalizer: cleaning, blanks around Chinese characters, NFD without accents, and lower
// case, in that order. It keeps from which character of the text every result comes.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

struct NormalizerOptions {
  bool clean = true;    // drops control characters, makes white space a blank
  bool chinese = true;  // Chinese characters become words of their own
  bool strip_accents = true;
  bool lowercase = true;
};

struct NormalizedText {
  std::u32string chars;
  std::vector<int32_t> from;  // chars[i] comes from character from[i] of the text
};

class TextNormalizer {
 public:
  explicit TextNormalizer(const NormalizerOptions& options);

  // Replaces `out` by the normalized `text`, whose first character is number `base`.
  void Run(std::u32string_view text, int32_t base, NormalizedText& out) const;

 private:
  bool Copy(std::u32string_view text, int32_t base, NormalizedText& out) const;

  NormalizerOptions options_;
  char32_t ascii_[128];  // result of one character, kDropped if none
};

}  // namespace graft
