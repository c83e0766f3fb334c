#include "models/text/normalizer.h"

#include <algorithm>
#include <cstddef>

#include "models/text/unicode.h"

namespace graft {
namespace {

constexpr char32_t kDropped = 0x110000;

// The canonical decomposition. `tokenizers` hands each result character its origin by position
// after sorting marks by combining class: one that begins a decomposed character takes the next
// origin, any other that of its left neighbour. So a mark that moved can have the origin of
// another mark, and offsets equal theirs only if that is done here too.
void DecomposeAll(NormalizedText& text) {
  struct Part {
    char32_t c;
    uint8_t combining;
    bool begins;
  };
  std::vector<Part> parts;
  parts.reserve(text.chars.size() + 8);
  size_t sorted = 0;  // parts before this are in their final order
  const auto sort_marks = [&] {
    std::stable_sort(parts.begin() + static_cast<ptrdiff_t>(sorted), parts.end(),
                     [](const Part& a, const Part& b) { return a.combining < b.combining; });
    sorted = parts.size();
  };
  const auto add = [&](char32_t c, uint8_t combining, bool begins) {
    if (combining == 0 && sorted < parts.size()) sort_marks();
    parts.push_back({c, combining, begins});
    if (combining == 0) sorted = parts.size();
  };
  for (char32_t c : text.chars) {
    const unicode::Record& record = unicode::Lookup(c);
    if ((record.flags & unicode::kDecomposes) == 0) {
      add(c, record.combining, true);
      continue;
    }
    const unicode::Parts d = unicode::Decompose(c);
    for (int i = 0; i < d.size; ++i) add(d.part[i], unicode::Lookup(d.part[i]).combining, i == 0);
  }
  sort_marks();

  const std::vector<int32_t> origin = std::move(text.from);
  text.chars.clear();
  text.from.clear();
  size_t next = 0;
  for (const Part& part : parts) {
    text.chars += part.c;
    text.from.push_back(origin[part.begins ? next : next - 1]);
    next += part.begins;
  }
}

void DropMarks(NormalizedText& text) {
  size_t kept = 0;
  for (size_t i = 0; i < text.chars.size(); ++i) {
    if (unicode::Lookup(text.chars[i]).flags & unicode::kMark) continue;
    text.chars[kept] = text.chars[i];
    text.from[kept++] = text.from[i];
  }
  text.chars.resize(kept);
  text.from.resize(kept);
}

void LowerAll(NormalizedText& text) {
  NormalizedText longer;  // in use from the first character with two lower-case ones
  for (size_t i = 0; i < text.chars.size(); ++i) {
    const unicode::Parts lower = unicode::Lower(text.chars[i]);
    if (lower.size > 1 && longer.chars.empty()) {
      longer.chars.assign(text.chars, 0, i);
      longer.from.assign(text.from.begin(), text.from.begin() + static_cast<ptrdiff_t>(i));
    }
    if (lower.size == 1 && longer.chars.empty()) {
      text.chars[i] = lower.part[0];
      continue;
    }
    longer.chars.append(lower.part, static_cast<size_t>(lower.size));
    longer.from.resize(longer.chars.size(), text.from[i]);
  }
  if (!longer.chars.empty()) text = std::move(longer);
}

}  // namespace

TextNormalizer::TextNormalizer(const NormalizerOptions& options) : options_(options) {
  for (char32_t c = 0; c < 128; ++c) {
    const unicode::Record& record = unicode::Lookup(c);
    ascii_[c] = c;
    if (options.clean && (record.flags & unicode::kControl)) ascii_[c] = kDropped;
    if (options.clean && (record.flags & unicode::kSpace) && ascii_[c] == c) ascii_[c] = ' ';
    if (options.lowercase && ascii_[c] == c) ascii_[c] = unicode::Lower(c).part[0];
  }
}

// Does the first two steps, which for ASCII are all. Returns false if nothing else is left to do.
bool TextNormalizer::Copy(std::u32string_view text, int32_t base, NormalizedText& out) const {
  out.chars.resize(text.size());
  out.from.resize(text.size());
  size_t size = 0, i = 0;
  for (; i < text.size() && text[i] < 128; ++i) {
    const char32_t result = ascii_[text[i]];
    out.chars[size] = result;
    out.from[size] = base + static_cast<int32_t>(i);
    size += result != kDropped;
  }
  out.chars.resize(size);
  out.from.resize(size);
  bool other = false;
  for (; i < text.size(); ++i) {
    const char32_t c = text[i];
    const auto put = [&](char32_t result) {
      out.chars += result;
      out.from.push_back(base + static_cast<int32_t>(i));
    };
    if (c < 128) {
      if (ascii_[c] != kDropped) put(ascii_[c]);
      continue;
    }
    const uint8_t flags = unicode::Lookup(c).flags;
    if (options_.clean && (flags & unicode::kControl)) continue;
    other = true;
    const bool chinese = options_.chinese && (flags & unicode::kChinese);
    if (chinese) put(' ');
    put(options_.clean && (flags & unicode::kSpace) ? U' ' : c);
    if (chinese) put(' ');
  }
  return other;
}

void TextNormalizer::Run(std::u32string_view text, int32_t base, NormalizedText& out) const {
  if (!Copy(text, base, out)) return;
  if (options_.strip_accents) {
    DecomposeAll(out);
    DropMarks(out);
  }
  if (options_.lowercase) LowerAll(out);
}

}  // namespace graft
