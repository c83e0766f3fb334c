#include "data/holdout.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "runtime/error.h"
#include "runtime/rng.h"

namespace graft {
namespace {

// The groups of each class in a random order; the first example of a group tells its class.
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

bool OfLabels(std::span<const ToDivide> examples) {
  return !examples.empty() && examples.front().labels.has_value();
}

// Iterative stratification of groups, each with the labels of its first example.
class Stratifier {
 public:
  Stratifier(std::span<const ToDivide> examples, std::span<const double> shares)
      : examples_(examples) {
    std::map<int, double> of_label;
    double groups = 0;
    for (size_t i = 0; i < examples.size(); ++i) {
      if (examples[i].group != i) continue;
      ++groups;
      for (const int label : *examples[i].labels) ++of_label[label];
    }
    for (const auto& [label, count] : of_label) left_[label] = static_cast<size_t>(count);
    for (const double share : shares) {
      wanted_.push_back(share * groups);
      wanted_of_.emplace_back();
      for (const auto& [label, count] : of_label) wanted_of_.back()[label] = share * count;
    }
    part_.resize(examples.size(), SIZE_MAX);
  }

  // Returns the part of every example; `order` holds the groups as they are drawn.
  std::vector<size_t> Divide(std::span<const size_t> order) {
    while (!left_.empty()) {
      const int rarest = std::ranges::min_element(left_, {}, [](const auto& l) {
                           return std::pair(l.second, l.first);
                         })->first;
      for (const size_t group : order)
        if (part_[group] == SIZE_MAX && std::ranges::count(*examples_[group].labels, rarest) > 0)
          Give(group, Neediest(&rarest));
    }
    for (const size_t group : order)
      if (part_[group] == SIZE_MAX) Give(group, Neediest(nullptr));
    for (size_t i = 0; i < part_.size(); ++i) part_[i] = part_[examples_[i].group];
    return part_;
  }

 private:
  // The part that lacks most examples of a label and, among equal ones, most of all examples.
  size_t Neediest(const int* label) const {
    size_t best = 0;
    const auto need = [&](size_t part) {
      return std::pair(label ? wanted_of_[part].at(*label) : 0.0, wanted_[part]);
    };
    for (size_t part = 1; part < wanted_.size(); ++part)
      if (need(part) > need(best)) best = part;
    return best;
  }

  void Give(size_t group, size_t part) {
    part_[group] = part;
    --wanted_[part];
    for (const int label : *examples_[group].labels) {
      --wanted_of_[part][label];
      if (--left_[label] == 0) left_.erase(label);
    }
  }

  std::span<const ToDivide> examples_;
  std::vector<double> wanted_;                    // examples that each part still lacks
  std::vector<std::map<int, double>> wanted_of_;  // the same of each label
  std::map<int, size_t> left_;                    // groups of each label that have no part yet
  std::vector<size_t> part_;
};

std::vector<size_t> Stratify(std::span<const ToDivide> examples, std::span<const double> shares,
                             uint64_t seed, std::string_view scope) {
  std::vector<size_t> order;
  for (const auto& [label, groups] : Shuffled(examples, seed, scope))
    order.insert(order.end(), groups.begin(), groups.end());
  return Stratifier(examples, shares).Divide(order);
}

}  // namespace

std::vector<bool> DrawHoldout(std::span<const ToDivide> examples, double share, uint64_t seed) {
  std::vector<bool> held(examples.size());
  if (OfLabels(examples)) {
    const std::vector<double> shares{1 - share, share};
    const std::vector<size_t> part = Stratify(examples, shares, seed, "holdout");
    for (size_t i = 0; i < examples.size(); ++i) held[i] = part[i] == 1;
    return held;
  }
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
  if (OfLabels(examples))
    return Stratify(examples, std::vector<double>(folds, 1.0 / static_cast<double>(folds)), seed,
                    "folds");
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
