#include "runtime/memory_plan.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <numeric>

namespace graft {
namespace {

size_t RoundUp(size_t n, size_t to) { return (n + to - 1) / to * to; }

struct Range {
  size_t begin, end;
};

// Adds a range to a list of disjoint ones in order, none of which touch.
void Insert(std::vector<Range>& list, Range r) {
  const auto first = std::partition_point(list.begin(), list.end(),
                                          [&](const Range& at) { return at.end < r.begin; });
  auto last = first;
  for (; last != list.end() && last->begin <= r.end; ++last)
    r = {std::min(r.begin, last->begin), std::max(r.end, last->end)};
  if (first == last) {
    list.insert(first, r);
  } else {
    *first = r;
    list.erase(first + 1, last);
  }
}

// Which bytes are taken when. A segment tree over the positions: a node of it keeps what is taken
// by the intervals that cover its positions, but not those of its parent (`whole`), and what is
// taken at any of its positions (`any`; what covers the parent is left out). Neighbours in memory
// become one range, so that few are looked at where the intervals themselves would be thousands.
class Occupied {
 public:
  explicit Occupied(int positions)
      : leaves_(std::bit_ceil(static_cast<size_t>(std::max(positions, 1)))), nodes_(2 * leaves_) {}

  void Add(const Interval& lives, Range r) {
    EachPart(lives,
             [&](size_t node) { Insert(nodes_[node].whole, r), Insert(nodes_[node].any, r); });
    for (size_t node : {First(lives), Last(lives)})
      for (; node > 0; node /= 2) Insert(nodes_[node].any, r);
  }

  // What is taken at some position of the lifetime: disjoint, in order, none touch.
  const std::vector<Range>& During(const Interval& lives) {
    found_.clear();
    EachPart(lives, [&](size_t node) { Append(nodes_[node].any); });
    for (size_t node : {First(lives), Last(lives)})
      for (; node > 0; node /= 2) Append(nodes_[node].whole);
    std::sort(found_.begin(), found_.end(),
              [](const Range& a, const Range& b) { return a.begin < b.begin; });
    size_t kept = 0;
    for (const Range& r : found_) {
      if (kept > 0 && r.begin <= found_[kept - 1].end)
        found_[kept - 1].end = std::max(found_[kept - 1].end, r.end);
      else
        found_[kept++] = r;
    }
    found_.resize(kept);
    return found_;
  }

 private:
  struct Node {
    std::vector<Range> whole, any;
  };
  size_t First(const Interval& lives) const { return leaves_ + static_cast<size_t>(lives.first); }
  size_t Last(const Interval& lives) const { return leaves_ + static_cast<size_t>(lives.last); }
  // The fewest nodes that make up the lifetime.
  template <class F>
  void EachPart(const Interval& lives, const F& f) const {
    for (size_t l = First(lives), r = Last(lives) + 1; l < r; l /= 2, r /= 2) {
      if (l % 2) f(l++);
      if (r % 2) f(--r);
    }
  }
  void Append(const std::vector<Range>& ranges) {
    found_.insert(found_.end(), ranges.begin(), ranges.end());
  }

  size_t leaves_;
  std::vector<Node> nodes_;  // 1 is the root, 2n and 2n+1 are the children of n
  std::vector<Range> found_;
};

// Places the intervals in the given order, each into the tightest gap between the placed ones that
// are alive at the same time, else on top of them. Those of no bytes are nowhere.
MemoryPlan Place(std::span<const Interval> iv, const std::vector<size_t>& order, size_t alignment) {
  MemoryPlan plan{std::vector<size_t>(iv.size()), 0, 0};
  int positions = 0;
  for (const Interval& i : iv) positions = std::max(positions, i.last + 1);
  Occupied occupied(positions);
  for (size_t k : order) {
    if (iv[k].bytes == 0) continue;
    size_t end = 0, best = SIZE_MAX, best_gap = SIZE_MAX;
    for (const Range& r : occupied.During(iv[k])) {
      const size_t gap = r.begin - end;
      if (gap >= iv[k].bytes && gap < best_gap) best = end, best_gap = gap;
      end = r.end;
    }
    const size_t offset = plan.offset[k] = best == SIZE_MAX ? end : best;
    plan.bytes = std::max(plan.bytes, offset + iv[k].bytes);
    occupied.Add(iv[k], {offset, RoundUp(offset + iv[k].bytes, alignment)});
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
