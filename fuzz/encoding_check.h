// What holds for every text that a tokenizer encodes.
#pragma once
#include <algorithm>
#include <span>

#include "fuzz/target.h"
#include "models/text/tokenizer.h"
#include "runtime/utf8.h"

namespace graft::fuzz {

// `length` is the limit; the template's tokens must fit into it. Offsets are those of the code
// points of both texts, in order: the second text begins again at 0.
inline void CheckEncoding(const Tokenizer& tokenizer, const Encoding& e, std::string_view first,
                          std::string_view second, size_t length) {
  const auto chars = [](std::string_view text) {
    return static_cast<int32_t>(DecodeUtf8(text).size());
  };
  const int32_t most = std::max(chars(first), chars(second));
  GRAFT_CHECK(e.ids.size() == e.types.size() && e.ids.size() == e.offsets.size());
  GRAFT_CHECK(length == 0 || e.ids.size() <= length, "{} tokens", e.ids.size());
  for (size_t i = 0; i < e.ids.size(); ++i) {
    GRAFT_CHECK(e.ids[i] >= 0 && static_cast<size_t>(e.ids[i]) < tokenizer.vocab_size());
    const TextSpan span = e.offsets[i];
    GRAFT_CHECK(0 <= span.begin && span.begin <= span.end && span.end <= most, "{} {} of {}",
                span.begin, span.end, most);
  }
}

// Checks one text without the template: tokens follow each other, and a shorter limit gives their
// start, or their end where the tokenizer truncates on the left.
inline void CheckText(const Tokenizer& tokenizer, std::string_view text) {
  const Encoding all = tokenizer.Encode(text, {.special_tokens = false});
  CheckEncoding(tokenizer, all, text, "", 0);
  for (const size_t length : {size_t{1}, all.ids.size() / 2}) {
    if (length == 0) continue;  // which is no limit
    const Encoding cut = tokenizer.Encode(text, {.max_length = length, .special_tokens = false});
    GRAFT_CHECK(cut.ids.size() == std::min(length, all.ids.size()));
    const size_t first = tokenizer.spec().truncate_left ? all.ids.size() - cut.ids.size() : 0;
    GRAFT_CHECK(std::ranges::equal(cut.ids, std::span(all.ids).subspan(first, cut.ids.size())));
    GRAFT_CHECK(
        std::ranges::equal(cut.offsets, std::span(all.offsets).subspan(first, cut.ids.size())));
  }
}

}  // namespace graft::fuzz
