// What an input makes the libraries do, told by code that the compiler inserts (-fsanitize-coverage
// of GCC, in the preset `fuzz`). Without that code nothing is ever new.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace graft::fuzz {

// Two different numbers of `size` bytes that the last input made the program compare.
struct Comparison {
  uint64_t a = 0, b = 0;
  uint8_t size = 0;
};

struct Coverage {
  size_t edges = 0;     // pairs of basic blocks that ran one after the other
  size_t features = 0;  // the same, counted apart for 1, 2, 3, 4-7, 8-15, 16-31, 32-127 and more
};

void BeginInput();
// Features that the input is the first to have; they count as seen from now on.
size_t TakeNewFeatures();
Coverage SeenCoverage();
std::span<const Comparison> LastComparisons();

}  // namespace graft::fuzz
