#include "data/holdout.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "runtime/error.h"
#include "runtime/rng.h"

namespace graft {
namespace {

// Groups of each class in a random order, by their first example.
std::map<int, std::vector<size_t>> Shuffled(std::span<const ToDivide> examples, uint64_t seed,
                                            std::string_view scope) {
  std::map<int, std::vector<size_t>> in_order;
  for (size_t i = 0; i < examples.size(); ++i)
    if (examples[i].group == i) in_order[examples[i].label].push_back(i);
  const uint64_t key = MakeKey(seed, Purpose::kData, scope);
  for (auto& [label, groups] : in_order) {
    std::vector<size_t> shuffled;
    for (const int32_t i :
         Permutation(static_cast<int32_t>(groups.size()), {key, static_cast<uint64_t>(label), 0}))
      shuffled.push_back(groups[i]);
    groups = std::move(shuffled);
  }
  return in_order;
}

}  // namespace

std::vector<bool> DrawHoldout(std::span<const ToDivide> examples, double share, uint64_t seed) {
  std::vector<bool> held(examples.size());
  for (const auto& [label, groups] : Shuffled(examples, seed, "holdout")) {
    if (groups.size() < 2) continue;
    const auto most = static_cast<double>(groups.size() - 1);
    const double count =
        std::clamp(std::round(share * static_cast<double>(groups.size())), 1.0, most);
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) held[groups[i]] = true;
  }
  for (size_t i = 0; i < examples.size(); ++i) held[i] = held[examples[i].group];
  return held;
}

std::vector<size_t> DrawFolds(std::span<const ToDivide> examples, size_t folds, uint64_t seed) {
  std::vector<size_t> fold(examples.size());
  size_t next = 0;  // goes on from class to class, so that the folds are equally large
  for (const auto& [label, groups] : Shuffled(examples, seed, "folds"))
    for (const size_t group : groups) fold[group] = next++ % folds;
  for (size_t i = 0; i < examples.size(); ++i) fold[i] = fold[examples[i].group];
  return fold;
}

void RefuseEmptyParts(const std::string& directory, const std::string& split, size_t rest,
                      size_t held_out) {
  if (rest > 0 && held_out > 0) return;
  Fail("{}: no part of the {} examples of '{}' can be held out: every class has one example",
       directory, rest + held_out, split);
}

}  // namespace graft
