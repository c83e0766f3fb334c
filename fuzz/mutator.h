// Random changes of a file, as libFuzzer makes them: a pure function of the seed and the calls.
#pragma once
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/coverage.h"

namespace graft::fuzz {

class Mutator {
 public:
  Mutator(uint64_t seed, std::vector<std::string> words)
      : random_(seed), words_(std::move(words)) {}

  // Makes 1 to 8 changes; `other` is where pieces come from, `most` the bytes of the result.
  std::string Mutate(std::string_view input, std::string_view other,
                     std::span<const Comparison> comparisons, size_t most);
  size_t Below(size_t n) { return n == 0 ? 0 : static_cast<size_t>(random_()) % n; }

 private:
  void Change(std::string& text, std::string_view other, std::span<const Comparison> comparisons);
  void FlipBits(std::string& text);
  void InsertRun(std::string& text);
  void EraseRange(std::string& text);
  void CopyRange(std::string& text, std::string_view from);
  void PutNumber(std::string& text);
  void PutWord(std::string& text);
  void ChangeDigits(std::string& text);
  void FollowComparison(std::string& text, std::span<const Comparison> comparisons);
  void Put(std::string& text, std::string_view piece);  // over what is there, or between

  std::mt19937_64 random_;
  std::vector<std::string> words_;
};

// Reads a dictionary as libFuzzer does: lines `"word"` or `name="word"` with \\, \" and \xNN.
std::vector<std::string> ReadDictionary(const std::string& path);

}  // namespace graft::fuzz
