#include "runtime/memory_plan.h"

#include <algorithm>
#include <functional>
#include <numeric>

namespace graft {
namespace {

size_t RoundUp(size_t n, size_t to) { return (n + to - 1) / to * to; }

// Places the intervals in the given order, each into the tightest gap between the placed ones that
// are alive at the same time, else on top of them.
MemoryPlan Place(std::span<const Interval> iv, const std::vector<size_t>& order, size_t alignment) {
  MemoryPlan plan{std::vector<size_t>(iv.size()), 0, 0};
  std::vector<size_t> placed;  // by offset
  placed.reserve(iv.size());
  for (size_t k : order) {
    size_t end = 0, best = SIZE_MAX, best_gap = SIZE_MAX;
    for (size_t p : placed) {
      if (iv[p].first > iv[k].last || iv[k].first > iv[p].last) continue;
      const size_t begin = plan.offset[p];
      if (begin >= end + iv[k].bytes && begin - end < best_gap) best = end, best_gap = begin - end;
      end = std::max(end, RoundUp(begin + iv[p].bytes, alignment));
    }
    plan.offset[k] = best == SIZE_MAX ? end : best;
    plan.bytes = std::max(plan.bytes, plan.offset[k] + iv[k].bytes);
    const auto at = std::upper_bound(placed.begin(), placed.end(), k, [&](size_t a, size_t b) {
      return plan.offset[a] < plan.offset[b];
    });
    placed.insert(at, k);
  }
  plan.bytes = RoundUp(plan.bytes, alignment);
  return plan;
}

}  // namespace

std::vector<size_t> LiveBytes(std::span<const Interval> iv, size_t alignment) {
  int end = 0;
  for (const Interval& i : iv) end = std::max(end, i.last + 1);
  std::vector<ptrdiff_t> change(static_cast<size_t>(end) + 1);
  for (const Interval& i : iv) {
    const ptrdiff_t bytes = static_cast<ptrdiff_t>(RoundUp(i.bytes, alignment));
    change[static_cast<size_t>(i.first)] += bytes;
    change[static_cast<size_t>(i.last) + 1] -= bytes;
  }
  std::vector<size_t> live;
  ptrdiff_t sum = 0;
  for (ptrdiff_t c : change) live.push_back(static_cast<size_t>(sum += c));
  return live;
}

// Four orders are tried and the smallest result wins: largest, largest bytes x lifetime, longest
// lifetime and earliest first. None is best on all graphs; together they come within 10 % of the
// bound. One that comes within 1 % ends the search.
MemoryPlan PlanMemory(std::span<const Interval> iv, size_t alignment) {
  std::vector<size_t> order(iv.size());
  std::iota(order.begin(), order.end(), size_t{0});
  auto area = [&](size_t k) {
    return static_cast<double>(iv[k].bytes) * (iv[k].last - iv[k].first + 1);
  };
  const std::function<bool(size_t, size_t)> orders[] = {
      [&](size_t a, size_t b) { return iv[a].bytes > iv[b].bytes; },
      [&](size_t a, size_t b) { return area(a) > area(b); },
      [&](size_t a, size_t b) { return iv[a].last - iv[a].first > iv[b].last - iv[b].first; },
      [&](size_t a, size_t b) { return iv[a].first < iv[b].first; },
  };
  MemoryPlan best;
  const std::vector<size_t> live = LiveBytes(iv, alignment);
  const size_t bound = *std::max_element(live.begin(), live.end());
  for (const auto& before : orders) {
    std::stable_sort(order.begin(), order.end(), before);
    MemoryPlan plan = Place(iv, order, alignment);
    if (best.offset.empty() || plan.bytes < best.bytes) best = std::move(plan);
    if (best.bytes <= bound + bound / 100) break;
  }
  best.lower_bound = bound;
  return best;
}

}  // namespace graft
