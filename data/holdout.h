// Divides a split so that every class has its share in each part: a held-out part, or folds.
//
// A draw is a function of the seed and of the order of the examples. Those of one group, such as
// equal texts, are never parted; a group counts for the class of its first example.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace graft {

// Examples of any number of labels at once are divided by iterative stratification (Sechidis,
// Tsoumakas and Vlahavas 2011, On the Stratification of Multi-Label Data, algorithm 1): each part
// gets its share of every label as nearly as that can be, the rarest label first.
struct ToDivide {
  int label = 0;
  size_t group = 0;                             // the index of its first example
  std::optional<std::vector<int>> labels = {};  // of several labels at once, or none of them
};

// Tells which examples are held out: of every class with at least two groups round(share * groups),
// but at least one and not all; of a class with a single group none. With several labels at once
// this holds nearly.
std::vector<bool> DrawHoldout(std::span<const ToDivide> examples, double share, uint64_t seed);

// The fold, 0 to folds - 1, of every example. Of every class, each fold has as many groups as any
// other, or one more.
std::vector<size_t> DrawFolds(std::span<const ToDivide> examples, size_t folds, uint64_t seed);

// Throws Error if a part has no examples.
void RefuseEmptyParts(const std::string& directory, const std::string& split, size_t rest,
                      size_t held_out);

}  // namespace graft
