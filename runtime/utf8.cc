#include "runtime/utf8.h"

#include <fmt/format.h>

#include <cstdint>
#include <cstring>

namespace graft {
namespace {

// One step of reading: `size` bytes are `code`, or are the start of no character.
struct Step {
  size_t size;
  char32_t code;
  bool valid;
};

Step Read(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) {
    return i < text.size() ? static_cast<uint8_t>(text[i]) : uint8_t{0};
  };
  const uint8_t lead = byte(at);
  if (lead < 0x80) return {1, lead, true};
  if (lead < 0xC2 || lead > 0xF4) return {1, 0xFFFD, false};
  const size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range keeps out overlong forms, surrogates and what is above U+10FFFF
  // (Unicode 15, table 3-7).
  uint8_t low = 0x80, high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  char32_t code = lead & (0xFFu >> (size + 1));
  for (size_t i = 1; i < size; ++i, low = 0x80, high = 0xBF) {
    const uint8_t next = byte(at + i);
    if (next < low || next > high) return {i, 0xFFFD, false};
    code = code << 6 | (next & 0x3Fu);
  }
  return {size, code, true};
}

// The length of the run of ASCII from `at`, in steps of eight bytes.
size_t AsciiRun(std::string_view text, size_t at) {
  size_t end = at;
  for (uint64_t word; end + sizeof(word) <= text.size(); end += sizeof(word)) {
    std::memcpy(&word, text.data() + end, sizeof(word));
    if (word & 0x8080808080808080u) break;
  }
  return end - at;
}

bool IsControl(char32_t c) {
  const auto in = [c](char32_t first, char32_t last) { return c >= first && c <= last; };
  return c < 0x20 || in(0x7F, 0x9F) ||                               // C0, DEL, C1
         c == 0x061C || in(0x200E, 0x200F) || in(0x2028, 0x202E) ||  // marks, lines, directions
         in(0x2066, 0x2069);
}

// Replaces each control, and each byte that is not UTF-8, by escape(step, bytes).
template <class F>
std::string Escape(std::string_view text, std::string_view kept, const F& escape) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Step step = Read(text, at);
    const std::string_view bytes = text.substr(at, step.size);
    const bool stays = (step.valid && !IsControl(step.code)) || kept.find(bytes) != kept.npos;
    out += stays ? std::string(bytes) : escape(step, bytes);
    at += step.size;
  }
  return out;
}

}  // namespace

std::string EscapeControls(std::string_view text, std::string_view kept) {
  return Escape(text, kept, [](const Step& step, std::string_view bytes) {
    if (bytes == "\n") return std::string("\\n");
    if (step.valid && step.code > 0xFF)
      return fmt::format("\\u{:04x}", static_cast<uint32_t>(step.code));
    if (step.valid) return fmt::format("\\x{:02x}", static_cast<uint32_t>(step.code));
    std::string escaped;
    for (const char byte : bytes) escaped += fmt::format("\\x{:02x}", static_cast<uint8_t>(byte));
    return escaped;
  });
}

std::string EscapeJsonControls(std::string_view json) {
  return Escape(json, "\n", [](const Step& step, std::string_view) {
    return fmt::format("\\u{:04x}", static_cast<uint32_t>(step.code));
  });
}

size_t FirstInvalidUtf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    at += AsciiRun(text, at);
    if (at == text.size()) break;
    const Step step = Read(text, at);
    if (!step.valid) return at;
    at += step.size;
  }
  return at;
}

std::u32string DecodeUtf8(std::string_view text) {
  std::u32string out(text.size(), U'\0');
  size_t size = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t run = AsciiRun(text, at);
    for (size_t i = 0; i < run; ++i) out[size + i] = static_cast<char32_t>(text[at + i]);
    size += run;
    at += run;
    if (at == text.size()) break;
    const Step step = Read(text, at);
    out[size++] = step.code;
    at += step.size;
  }
  out.resize(size);
  return out;
}

void AppendUtf8(char32_t c, std::string& utf8) {
  const auto put = [&](char32_t byte) { utf8 += static_cast<char>(byte); };
  if (c < 0x80) return put(c);
  if (c < 0x800) {
    put(0xC0 | c >> 6);
  } else {
    if (c < 0x10000) {
      put(0xE0 | c >> 12);
    } else {
      put(0xF0 | c >> 18);
      put(0x80 | (c >> 12 & 0x3F));
    }
    put(0x80 | (c >> 6 & 0x3F));
  }
  put(0x80 | (c & 0x3F));
}

std::string ToLowerAscii(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

}  // namespace graft
