#include "fuzz/mutator.h"

#include <algorithm>
#include <charconv>

#include "runtime/error.h"
#include "runtime/io/atomic_file.h"

namespace graft::fuzz {
namespace {

// Where sizes, signs and precisions end.
constexpr uint64_t kEdges[] = {0,
                               1,
                               2,
                               3,
                               0x7F,
                               0x80,
                               0xFF,
                               0x100,
                               0x7FFF,
                               0x8000,
                               0xFFFF,
                               0x10000,
                               0x7FFFFFFF,
                               0x80000000,
                               0xFFFFFFFF,
                               0x100000000,
                               (1ull << 53) + 1,
                               INT64_MAX,
                               1ull << 63,
                               UINT64_MAX};
constexpr const char* kNumbers[] = {"0",
                                    "1",
                                    "-1",
                                    "7",
                                    "255",
                                    "256",
                                    "65536",
                                    "2147483647",
                                    "2147483648",
                                    "-2147483648",
                                    "4294967296",
                                    "1000000000000",
                                    "9223372036854775807",
                                    "9223372036854775808",
                                    "-9223372036854775808",
                                    "18446744073709551616",
                                    "1e308",
                                    "1e999",
                                    "-0.0",
                                    "0.5",
                                    "1e-320",
                                    "nan",
                                    "00000000001"};

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

std::string BytesOf(uint64_t value, size_t size, bool big) {
  std::string bytes;
  for (size_t i = 0; i < size; ++i) bytes += static_cast<char>(value >> 8 * i);
  if (big) std::reverse(bytes.begin(), bytes.end());
  return bytes;
}

}  // namespace

std::string Mutator::Mutate(std::string_view input, std::string_view other,
                            std::span<const Comparison> comparisons, size_t most) {
  std::string text(input);
  for (size_t changes = 1 + Below(Below(8) + 1); changes > 0; --changes) {
    Change(text, other, comparisons);
    if (text.size() > most) text.resize(most);
  }
  return text;
}

void Mutator::Change(std::string& text, std::string_view other,
                     std::span<const Comparison> comparisons) {
  switch (Below(12)) {
    case 0:
      return FlipBits(text);
    case 1:
      if (!text.empty()) text[Below(text.size())] = static_cast<char>(random_());
      return;
    case 2:
      return InsertRun(text);
    case 3:
      return EraseRange(text);
    case 4:
      return CopyRange(text, std::string(text));
    case 5:
      return CopyRange(text, other);
    case 6:
      return PutNumber(text);
    case 7:
    case 8:
      return PutWord(text);
    case 9:
      return ChangeDigits(text);
    default:
      return FollowComparison(text, comparisons);
  }
}

void Mutator::Put(std::string& text, std::string_view piece) {
  const size_t at = Below(text.size() + 1);
  const size_t over = Below(2) ? std::min(piece.size(), text.size() - at) : 0;
  text.replace(at, over, piece);
}

void Mutator::FlipBits(std::string& text) {
  if (text.empty()) return;
  const size_t at = Below(text.size());
  text[at] = static_cast<char>(text[at] ^ 1 << Below(8));
}

void Mutator::InsertRun(std::string& text) {
  const char c = text.empty() || Below(2) ? static_cast<char>(random_()) : text[Below(text.size())];
  text.insert(Below(text.size() + 1), size_t{1} << Below(8), c);
}

void Mutator::EraseRange(std::string& text) {
  const size_t at = Below(text.size() + 1), left = text.size() - at;
  text.erase(at, 1 + Below(Below(2) ? 4 : left));
}

void Mutator::CopyRange(std::string& text, std::string_view from) {
  const size_t begin = Below(from.size() + 1);
  const size_t size = Below(std::min<size_t>(from.size() - begin, size_t{4} << Below(8)) + 1);
  Put(text, from.substr(begin, size));
}

void Mutator::PutNumber(std::string& text) {
  const uint64_t value = kEdges[Below(std::size(kEdges))] + Below(3) - 1;
  Put(text, BytesOf(value, size_t{1} << Below(4), Below(2)));
}

void Mutator::PutWord(std::string& text) {
  if (!words_.empty()) Put(text, words_[Below(words_.size())]);
}

// Another number instead of one that the text has.
void Mutator::ChangeDigits(std::string& text) {
  if (text.empty()) return;
  size_t begin = Below(text.size());
  while (begin < text.size() && !IsDigit(text[begin])) ++begin;
  if (begin == text.size()) return;
  while (begin > 0 && IsDigit(text[begin - 1])) --begin;
  size_t end = begin;
  while (end < text.size() && IsDigit(text[end])) ++end;
  uint64_t value = 0;
  std::from_chars(text.data() + begin, text.data() + end, value);
  const std::string near[] = {std::to_string(value + 1), std::to_string(value - 1),
                              std::to_string(value * 2), std::to_string(Below(100))};
  text.replace(begin, end - begin,
               Below(2) ? near[Below(std::size(near))] : kNumbers[Below(std::size(kNumbers))]);
}

// The program compared a, which may be in the file, with b: this puts b there.
void Mutator::FollowComparison(std::string& text, std::span<const Comparison> comparisons) {
  for (int tries = 0; tries < 8 && !comparisons.empty(); ++tries) {
    Comparison c = comparisons[Below(comparisons.size())];
    if (Below(2)) std::swap(c.a, c.b);
    const bool big = Below(2);
    const std::string from = BytesOf(c.a, c.size, big);
    const uint64_t near = c.b + (Below(4) ? 0 : Below(3) - 1);
    const size_t at = text.find(from, Below(text.size() + 1));
    if (at == std::string::npos) continue;
    text.replace(at, from.size(), BytesOf(near, c.size, big));
    return;
  }
}

std::vector<std::string> ReadDictionary(const std::string& path) {
  std::vector<std::string> words;
  const std::string text = ReadFile(path, 1 << 20);
  for (size_t at = 0, line = 1; at < text.size(); ++line) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view all = std::string_view(text).substr(at, end - at);
    at = end + 1;
    if (all.empty() || all.front() == '#') continue;
    const size_t open = all.find('"'), close = all.rfind('"');
    if (open == all.npos || open == close) Fail("{}:{}: expected \"word\"", path, line);
    std::string& word = words.emplace_back();
    for (size_t i = open + 1; i < close; ++i) {
      int code = 0;
      if (all[i] != '\\') {
        word += all[i];
      } else if (all[i + 1] == 'x' && i + 3 < close) {
        std::from_chars(all.data() + i + 2, all.data() + i + 4, code, 16);
        word += static_cast<char>(code);
        i += 3;
      } else {
        word += all[++i];
      }
    }
  }
  return words;
}

}  // namespace graft::fuzz
