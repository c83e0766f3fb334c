#include "runtime/memory_plan.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <map>
#include <queue>
#include <tuple>

namespace graft {
namespace {

size_t RoundUp(size_t n, size_t to) { return (n + to - 1) / to * to; }

struct Range {
  size_t begin, end;
};

// Disjoint, in order, and none touch.
using Ranges = std::vector<Range>;

void Insert(Ranges& list, Range r) {
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

void InsertAll(Ranges& list, const Ranges& more, Ranges& scratch) {
  constexpr size_t kFew = 8;
  if (more.size() < kFew) {
    for (const Range& r : more) Insert(list, r);
    return;
  }
  scratch.clear();
  auto a = list.begin();
  auto b = more.begin();
  while (a != list.end() || b != more.end()) {
    const bool from_list = b == more.end() || (a != list.end() && a->begin < b->begin);
    const Range r = from_list ? *a++ : *b++;
    if (!scratch.empty() && r.begin <= scratch.back().end)
      scratch.back().end = std::max(scratch.back().end, r.end);
    else
      scratch.push_back(r);
  }
  list.swap(scratch);
}

// Which bytes are taken when. A segment tree over the positions: a node of it keeps what is taken
// by the intervals that cover its positions, but not those of its parent (`whole`), and what is
// taken at any of its positions (`any`; what covers the parent is left out). Neighbours in memory
// become one range, so that few are looked at where the intervals themselves would be thousands.
//
// Neighbours in the lists of different nodes stay apart: what n layers keep for the backward pass
// can be one range at each position, and be thousands of them in the lists above that position. So
// unions along some paths from the root are kept (`Path`). Lifetimes that are asked for in the
// order of time, as those of equal size are, find most of a path there: on average the lists of a
// few nodes near the leaves are read, which are short.
class Occupied {
 public:
  explicit Occupied(int positions)
      : levels_(std::bit_width(static_cast<size_t>(std::max(positions, 1)) - 1) + 1),
        nodes_(size_t{2} << (levels_ - 1)) {
    for (auto& side : paths_)
      for (Path& path : side) path.taken.resize(levels_);
  }

  // Nothing is taken; what memory the lists have they keep.
  void Clear() {
    for (Node& node : nodes_) node.whole.clear(), node.any.clear();
    added_.clear();
    for (auto& side : paths_)
      for (Path& path : side) path.ends = {}, path.seen = path.used = 0;
  }

  void Add(const Interval& lives, Range r) {
    const auto cover = [&](Node& node) { Insert(node.whole, r), Insert(node.any, r); };
    // The fewest nodes that make up the lifetime.
    for (size_t begin = Leaf(lives.first), end = Leaf(lives.last) + 1; begin < end;
         begin /= 2, end /= 2) {
      if (begin % 2) cover(nodes_[begin++]);
      if (end % 2) cover(nodes_[--end]);
    }
    for (size_t node : {Leaf(lives.first), Leaf(lives.last)})
      for (; node > 0; node /= 2) Insert(nodes_[node].any, r);
    added_.push_back({Leaf(lives.first), Leaf(lives.last), r});
  }

  // What is taken at some position of the lifetime: at its first and its last, and in the nodes
  // that lie between the paths to these.
  const Ranges& During(const Interval& lives) {
    const size_t first = Leaf(lives.first), last = Leaf(lives.last);
    const int split = std::bit_width(first ^ last) - 1;
    const Ranges& left = Along({first, split}, 0);
    if (first == last) return left;
    found_ = left;
    InsertAll(found_, Along({last, split}, 1), scratch_);
    return found_;
  }

 private:
  struct Node {
    Ranges whole, any;
  };
  struct Added {
    size_t first, last;  // leaves
    Range range;
  };
  // From the root to a leaf, along the left (side 0) or the right end of a lifetime (side 1). The
  // paths of both ends part above level `split`; the leaves are level 0.
  struct Ends {
    size_t leaf = 0;  // 0 is none
    int split = 0;
    // Whether the lifetime has the node beside this one of the path.
    bool HasBeside(int level, size_t side) const {
      return level < split && (leaf >> level) % 2 == side;
    }
  };
  struct Path {
    Ends ends;
    // By level: what covers the nodes of the path from the root to this level, and what is taken in
    // the lifetime's nodes beside those.
    std::vector<Ranges> taken;
    size_t seen = 0;  // of added_, by `taken`
    size_t used = 0;  // when
  };
  // Series of lifetimes that take turns (short and long ones, of some sizes) have a path each.
  static constexpr size_t kPaths = 4;
  // When more was added since, a path is as well made anew.
  static constexpr size_t kMostNews = 64;

  size_t Leaf(int position) const { return nodes_.size() / 2 + static_cast<size_t>(position); }

  // The level from which on the path has what one to these ends has.
  int Shared(const Path& path, const Ends& ends) const {
    if (path.ends.leaf == 0 || added_.size() - path.seen > kMostNews) return levels_;
    const int level = std::bit_width(path.ends.leaf ^ ends.leaf);
    return path.ends.split == ends.split ? level : std::max({level, path.ends.split, ends.split});
  }

  // The one that shares most; if that is less than half, the one that was not used for longest.
  Path& Choose(const Ends& ends, size_t side) {
    auto& paths = paths_[side];
    Path* path = &*std::ranges::min_element(paths, {}, [&](Path& p) { return Shared(p, ends); });
    if (2 * Shared(*path, ends) > levels_)
      path = &*std::ranges::min_element(paths, {}, &Path::used);
    return *path;
  }

  // Adds what was added since to the levels from `lowest` on.
  void Follow(Path& path, int lowest, size_t side) const {
    for (size_t i = path.seen; lowest < levels_ && i < added_.size(); ++i) {
      const Added& added = added_[i];
      bool taken = false;
      for (int level = levels_ - 1; level >= lowest; --level) {
        const size_t node = path.ends.leaf >> level, beside = node ^ 1;
        const size_t begin = node << level, end = (node + 1) << level;
        taken |= added.first <= begin && end <= added.last + 1;
        taken |= path.ends.HasBeside(level, side) && added.first >> level <= beside &&
                 beside <= added.last >> level;
        if (taken) Insert(path.taken[level], added.range);
      }
    }
    path.seen = added_.size();
  }

  const Ranges& Along(const Ends& ends, size_t side) {
    Path& path = Choose(ends, side);
    const int shared = Shared(path, ends);
    Follow(path, shared, side);
    path.ends = ends;
    path.used = ++uses_;
    for (int level = shared - 1; level >= 0; --level) {
      Ranges& taken = path.taken[level];
      if (level + 1 < levels_)
        taken = path.taken[static_cast<size_t>(level) + 1];
      else
        taken.clear();
      const size_t node = ends.leaf >> level;
      InsertAll(taken, nodes_[node].whole, scratch_);
      if (ends.HasBeside(level, side)) InsertAll(taken, nodes_[node ^ 1].any, scratch_);
    }
    return path.taken[0];
  }

  int levels_;
  std::vector<Node> nodes_;  // 1 is the root, 2n and 2n+1 are the children of n
  std::vector<Added> added_;
  std::array<std::array<Path, kPaths>, 2> paths_;  // by side
  size_t uses_ = 0;
  Ranges found_, scratch_;
};

// The positions at which some interval begins decide which are alive together: the others are left
// out, so that the tree has as many as there are intervals, not steps.
std::vector<Interval> AtBegins(std::span<const Interval> iv, const std::vector<size_t>& which) {
  std::vector<int> begins;
  for (size_t k : which) begins.push_back(iv[k].first);
  std::ranges::sort(begins);
  begins.erase(std::ranges::unique(begins).begin(), begins.end());
  const auto upto = [&](int position) {
    return static_cast<int>(std::ranges::upper_bound(begins, position) - begins.begin()) - 1;
  };
  std::vector<Interval> at(iv.begin(), iv.end());
  for (size_t k : which) at[k].first = upto(iv[k].first), at[k].last = upto(iv[k].last);
  return at;
}

// Places the intervals in the given order, each into the tightest gap between the placed ones that
// are alive at the same time, else on top of them. A plan that gets to `most` bytes is not
// finished.
MemoryPlan Place(std::span<const Interval> iv, const std::vector<size_t>& order, size_t alignment,
                 size_t most, Occupied& occupied) {
  MemoryPlan plan{std::vector<size_t>(iv.size()), 0, 0};
  occupied.Clear();
  for (size_t k : order) {
    if (RoundUp(plan.bytes, alignment) >= most) break;
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

// Places the intervals in the order of time, each where one of its size has died last, else on top
// of all. Returns the bytes that they take.
size_t PlaceBySize(std::span<const Interval> iv, std::vector<size_t> which, size_t alignment,
                   std::vector<size_t>& offset) {
  using Dead = std::vector<size_t>;               // offsets
  using Alive = std::tuple<int, size_t, size_t>;  // last position, offset, bytes
  std::map<size_t, Dead> dead;                    // by bytes
  std::priority_queue<Alive, std::vector<Alive>, std::greater<>> alive;  // the first to die on top
  size_t bytes = 0;
  std::ranges::stable_sort(which, {}, [&](size_t k) { return iv[k].first; });
  for (size_t k : which) {
    for (; !alive.empty() && std::get<int>(alive.top()) < iv[k].first; alive.pop())
      dead[std::get<2>(alive.top())].push_back(std::get<1>(alive.top()));
    const size_t size = RoundUp(iv[k].bytes, alignment);
    Dead& places = dead[size];
    if (places.empty())
      offset[k] = bytes, bytes += size;
    else
      offset[k] = places.back(), places.pop_back();
    alive.emplace(iv[k].last, offset[k], size);
  }
  return bytes;
}

struct Split {
  std::vector<size_t> large, small;
  std::vector<size_t> offset;  // of small ones, by interval, from the end of the large ones
  size_t small_bytes = 0;
};

// Graphs have hundreds of values that are small beside their peak (vectors, scalars, factors of low
// rank), and placing these by size takes no search of gaps. Small is what makes that cost less than
// a hundredth of the peak, or next to nothing.
Split SplitBySize(std::span<const Interval> iv, size_t bound, size_t alignment) {
  const size_t little = std::max(bound / 128, size_t{1} << 17);
  for (size_t most = bound / 1024;; most = most < alignment ? 0 : most / 4) {
    Split split{.offset = std::vector<size_t>(iv.size())};
    for (size_t k = 0; k < iv.size(); ++k)
      if (iv[k].bytes > 0) (iv[k].bytes <= most ? split.small : split.large).push_back(k);
    split.small_bytes = PlaceBySize(iv, split.small, alignment, split.offset);
    if (split.small_bytes <= little) return split;
  }
}

}  // namespace

std::vector<size_t> LiveBytes(std::span<const Interval> iv, size_t alignment) {
  int end = 0;
  for (const Interval& i : iv) end = std::max(end, i.last + 1);
  std::vector<ptrdiff_t> change(static_cast<size_t>(end) + 1);
  for (const Interval& i : iv) {
    const ptrdiff_t bytes = static_cast<ptrdiff_t>(RoundUp(i.bytes, alignment));
    change[i.first] += bytes;
    change[static_cast<size_t>(i.last) + 1] -= bytes;
  }
  std::vector<size_t> live;
  ptrdiff_t sum = 0;
  for (ptrdiff_t c : change) live.push_back(static_cast<size_t>(sum += c));
  return live;
}

// The intervals are placed by size where they are small beside the peak and that costs little, else
// in search of gaps. Four orders of the latter are tried and the smallest result wins: largest,
// largest bytes x lifetime, longest lifetime and earliest first. None is best on all graphs;
// together they come within 10 % of the bound. One that comes within 1 % ends the search. Those of
// no bytes are nowhere.
MemoryPlan PlanMemory(std::span<const Interval> intervals, size_t alignment) {
  const std::vector<size_t> live = LiveBytes(intervals, alignment);
  const size_t bound = *std::max_element(live.begin(), live.end());
  const Split split = SplitBySize(intervals, bound, alignment);
  std::vector<size_t> order = split.large;
  const std::vector<Interval> iv = AtBegins(intervals, order);
  const auto bytes = [](const Interval& i) { return static_cast<double>(i.bytes); };
  const auto lifetime = [](const Interval& i) { return i.last - i.first + 1.; };
  using Rank = std::function<double(const Interval&)>;  // the smallest comes first
  const Rank ranks[] = {
      [&](const Interval& i) { return -bytes(i); },
      [&](const Interval& i) { return -bytes(i) * lifetime(i); },
      [&](const Interval& i) { return -lifetime(i); },
      [&](const Interval& i) { return i.first; },
  };
  Occupied occupied(static_cast<int>(order.size()));
  MemoryPlan best;
  std::vector<double> rank_of(intervals.size());
  size_t most = SIZE_MAX;
  for (const Rank& rank : ranks) {
    for (size_t k : order) rank_of[k] = rank(intervals[k]);
    std::ranges::stable_sort(order, {}, [&](size_t k) { return rank_of[k]; });
    MemoryPlan plan = Place(iv, order, alignment, most, occupied);
    if (plan.bytes < most) best.offset = std::move(plan.offset), most = plan.bytes;
    if (most <= bound + bound / 100) break;
  }
  for (size_t k : split.small) best.offset[k] = most + split.offset[k];
  best.bytes = most + split.small_bytes;
  best.lower_bound = bound;
  return best;
}

}  // namespace graft
