// Tests the memory planner on random lifetimes and on those of training graphs.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <random>
#include <tuple>

#include "runtime/memory_plan.h"

namespace graft::planner_test {
namespace {

size_t RoundUp(size_t n) { return (n + 63) / 64 * 64; }

// "" or what is wrong with the plan.
std::string Check(const std::vector<Interval>& iv, const MemoryPlan& plan) {
  if (plan.offset.size() != iv.size()) return "wrong number of offsets";
  size_t most = 0;
  for (const Interval& at : iv) {
    size_t live = 0;
    for (const Interval& other : iv)
      if (other.first <= at.first && at.first <= other.last) live += RoundUp(other.bytes);
    most = std::max(most, live);
  }
  if (plan.lower_bound != most) return "the lower bound is not the largest live sum";
  if (plan.bytes < plan.lower_bound) return "below the bound";
  for (size_t a = 0; a < iv.size(); ++a) {
    if (plan.offset[a] % 64) return "unaligned";
    if (plan.offset[a] + iv[a].bytes > plan.bytes) return "outside of the arena";
    for (size_t b = 0; b < a; ++b) {
      const bool together = iv[a].first <= iv[b].last && iv[b].first <= iv[a].last;
      const bool overlap = plan.offset[a] < plan.offset[b] + iv[b].bytes &&
                           plan.offset[b] < plan.offset[a] + iv[a].bytes;
      if (together && overlap) return "overlap";
    }
  }
  return "";
}

// Makes empty, tiny, unaligned and large ones.
std::vector<Interval> RandomIntervals(std::mt19937& random) {
  std::vector<Interval> iv(1 + random() % 120);
  const int length = 1 + static_cast<int>(random() % 60);
  for (Interval& i : iv) {
    i.first = static_cast<int>(random() % static_cast<uint32_t>(length));
    i.last = i.first + static_cast<int>(random() % static_cast<uint32_t>(length - i.first));
    i.bytes = random() % 7 == 0 ? 0 : size_t{random() % 1000} << (random() % 11);
  }
  return iv;
}

TEST(Planner, RandomIntervalsNeverOverlap) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    const std::vector<Interval> iv = RandomIntervals(random);
    EXPECT_EQ(Check(iv, PlanMemory(iv)), "") << "seed " << seed;
  }
}

// What a forward and backward pass over `blocks` transformer blocks keeps: per block a few values
// that live until the block's backward, many that die at once, and scratch.
std::vector<Interval> TrainingIntervals(std::mt19937& random, int blocks, size_t rows,
                                        size_t width) {
  constexpr int kForward = 14, kBackward = 24;
  std::vector<Interval> iv;
  const int end = blocks * (kForward + kBackward);
  const size_t matrix = rows * width * 4;
  for (int b = 0; b < blocks; ++b) {
    const int start = b * kForward, back = end - (b + 1) * kBackward;
    for (int k = 0; k < kForward; ++k) {
      const size_t bytes = matrix * (k >= 10 && k < 12 ? 4 : 1);
      const bool kept = random() % 3 != 0;
      iv.push_back({bytes, start + k,
                    kept ? back + static_cast<int>(random() % kBackward)
                         : start + k + 1 + static_cast<int>(random() % 3)});
      if (random() % 2) iv.push_back({rows * 4 * (1 + random() % 12), start + k, back + 3});
    }
    for (int k = 0; k < kBackward; ++k) {
      iv.push_back({matrix * (k < 4 ? 4 : 1), back + k,
                    std::min(end, back + k + 1 + static_cast<int>(random() % 4))});
      if (random() % 3 == 0) iv.push_back({1024 * (1 + random() % 64), back + k, back + k});
    }
  }
  return iv;
}

TEST(Planner, TrainingGraphsComeWithinATenthOfTheBound) {
  std::mt19937 random(7);
  for (int blocks : {1, 2, 4, 12}) {
    for (int repeat = 0; repeat < 5; ++repeat) {
      const std::vector<Interval> iv = TrainingIntervals(random, blocks, 197 * 4, 192);
      const MemoryPlan plan = PlanMemory(iv);
      EXPECT_EQ(Check(iv, plan), "");
      EXPECT_LE(static_cast<double>(plan.bytes), 1.10 * static_cast<double>(plan.lower_bound))
          << blocks << " blocks";
    }
  }
}

// Places what is small by size alone, where one of that size has died last: looks at all that was
// placed for each.
size_t ObviousSmall(const std::vector<Interval>& iv, std::vector<size_t> order,
                    std::vector<size_t>& offset) {
  std::ranges::stable_sort(order, {}, [&](size_t k) { return iv[k].first; });
  size_t bytes = 0;
  std::vector<size_t> placed;
  for (size_t k : order) {
    const size_t size = RoundUp(iv[k].bytes);
    const size_t* last = nullptr;
    for (const size_t& p : placed) {
      if (RoundUp(iv[p].bytes) != size || iv[p].last >= iv[k].first) continue;
      const bool taken = std::ranges::any_of(
          placed, [&](size_t q) { return offset[q] == offset[p] && iv[q].last >= iv[k].first; });
      const auto died = [&](size_t q) { return std::tuple(iv[q].last, offset[q]); };
      if (!taken && (!last || died(p) > died(*last))) last = &p;
    }
    offset[k] = last ? offset[*last] : bytes;
    if (!last) bytes += size;
    placed.push_back(k);
  }
  return bytes;
}

// A plan that looks at all intervals for each and tries all orders to their ends: the obvious form
// of what PlanMemory does.
MemoryPlan ObviousPlan(const std::vector<Interval>& iv) {
  const std::vector<size_t> live = LiveBytes(iv);
  const size_t bound = *std::max_element(live.begin(), live.end());
  std::vector<size_t> order, small, small_offset(iv.size());
  size_t small_bytes = SIZE_MAX;
  for (size_t most = bound / 1024; small_bytes > std::max<size_t>(bound / 128, 131072);
       most = most < 64 ? 0 : most / 4) {
    order.clear(), small.clear();
    for (size_t k = 0; k < iv.size(); ++k)
      if (iv[k].bytes > 0) (iv[k].bytes <= most ? small : order).push_back(k);
    small_bytes = ObviousSmall(iv, small, small_offset);
  }
  const auto life = [&](size_t k) { return iv[k].last - iv[k].first; };
  const auto area = [&](size_t k) { return static_cast<double>(iv[k].bytes) * (life(k) + 1); };
  const std::function<bool(size_t, size_t)> orders[] = {
      [&](size_t a, size_t b) { return iv[a].bytes > iv[b].bytes; },
      [&](size_t a, size_t b) { return area(a) > area(b); },
      [&](size_t a, size_t b) { return life(a) > life(b); },
      [&](size_t a, size_t b) { return iv[a].first < iv[b].first; },
  };
  MemoryPlan best;
  for (const auto& before : orders) {
    std::stable_sort(order.begin(), order.end(), before);
    std::vector<size_t> placed, offset(iv.size());
    size_t bytes = 0;
    for (size_t k : order) {
      size_t end = 0, best = SIZE_MAX, best_gap = SIZE_MAX;
      for (size_t p : placed) {
        if (iv[p].first > iv[k].last || iv[k].first > iv[p].last) continue;
        if (offset[p] >= end + iv[k].bytes && offset[p] - end < best_gap)
          best = end, best_gap = offset[p] - end;
        end = std::max(end, RoundUp(offset[p] + iv[p].bytes));
      }
      offset[k] = best == SIZE_MAX ? end : best;
      bytes = std::max(bytes, RoundUp(offset[k] + iv[k].bytes));
      const auto at = [&](size_t p) { return offset[p]; };
      placed.insert(std::ranges::upper_bound(placed, offset[k], {}, at), k);
    }
    for (size_t k : small) offset[k] = bytes + small_offset[k];
    if (best.offset.empty() || bytes + small_bytes < best.bytes)
      best = {offset, bytes + small_bytes, bound};
    if (best.bytes - small_bytes <= bound + bound / 100) break;
  }
  return best;
}

void ExpectTheObviousPlan(const std::vector<Interval>& iv) {
  const MemoryPlan plan = PlanMemory(iv), obvious = ObviousPlan(iv);
  EXPECT_EQ(plan.bytes, obvious.bytes);
  EXPECT_EQ(plan.lower_bound, obvious.lower_bound);
  EXPECT_TRUE(plan.offset == obvious.offset);
}

TEST(Planner, IsTheObviousPlan) {
  std::mt19937 random(11);
  for (int blocks : {1, 3, 6, 20})
    for (int repeat = 0; repeat < 5; ++repeat) {
      SCOPED_TRACE(fmt::format("{} blocks, {}", blocks, repeat));
      ExpectTheObviousPlan(TrainingIntervals(random, blocks, 197, 64));
    }
  for (int repeat = 0; repeat < 400; ++repeat) {
    SCOPED_TRACE(repeat);
    ExpectTheObviousPlan(RandomIntervals(random));
  }
}

// Enough of them that paths in the planner's tree are kept, followed and made anew: of few sizes,
// so that one size is asked for from the first position to the last, short and long ones by turns.
TEST(Planner, IsTheObviousPlanOfManyIntervals) {
  std::mt19937 random(13);
  for (int repeat = 0; repeat < 12; ++repeat) {
    std::vector<Interval> iv(1500);
    const int end = 1 + static_cast<int>(random() % 4000);
    const uint32_t longest = uint32_t{1} << (random() % 12), sizes = 1 + random() % 6;
    for (Interval& i : iv) {
      i.first = static_cast<int>(random() % static_cast<uint32_t>(end));
      const uint32_t length = random() % (random() % 4 ? longest : 4096);
      i.last = std::min(end, i.first + static_cast<int>(length));
      i.bytes = 40 * (1 + random() % sizes);
    }
    if (repeat % 3) std::ranges::sort(iv, {}, &Interval::first);
    SCOPED_TRACE(repeat);
    ExpectTheObviousPlan(iv);
  }
}

// Hundreds of small values beside a few large ones, as low-rank factors and vectors are: they cost
// less than a hundredth, whatever their lifetimes, and none lies in another.
TEST(Planner, SmallOnesCostLittle) {
  std::mt19937 random(17);
  for (int repeat = 0; repeat < 6; ++repeat) {
    std::vector<Interval> iv = TrainingIntervals(random, 6, 197 * 4, 192);
    const int end = 6 * (14 + 24);
    for (int k = 0; k < 800; ++k) {
      const int first = static_cast<int>(random() % static_cast<uint32_t>(end));
      const int length = static_cast<int>(random() % (repeat % 2 ? 400 : 4));
      iv.push_back({4 + 8 * (random() % 300), first, std::min(end, first + length)});
    }
    const MemoryPlan plan = PlanMemory(iv);
    SCOPED_TRACE(repeat);
    EXPECT_EQ(Check(iv, plan), "");
    EXPECT_LE(static_cast<double>(plan.bytes), 1.10 * static_cast<double>(plan.lower_bound));
    ExpectTheObviousPlan(iv);
  }
}

// What a thousand blocks take is more than a look at each pair of intervals allows.
TEST(Planner, ThousandBlocks) {
  std::mt19937 random(5);
  const std::vector<Interval> iv = TrainingIntervals(random, 1024, 197, 64);
  const MemoryPlan plan = PlanMemory(iv);
  EXPECT_LE(static_cast<double>(plan.bytes), 1.10 * static_cast<double>(plan.lower_bound));
}

TEST(Planner, ReusesMemoryOfWhatIsDead) {
  // A chain: two values are alive at any time.
  std::vector<Interval> iv;
  for (int t = 0; t < 50; ++t) iv.push_back({6400, t, t + 1});
  EXPECT_EQ(PlanMemory(iv).bytes, 2u * 6400);
}

TEST(Planner, TouchingLifetimesAreAliveTogether) {
  const std::vector<Interval> iv{{64, 0, 3}, {64, 3, 5}};
  EXPECT_EQ(PlanMemory(iv).bytes, 128u);
}

TEST(Planner, EmptyAndZeroBytes) {
  EXPECT_EQ(PlanMemory({}).bytes, 0u);
  const std::vector<Interval> iv{{0, 0, 1}, {0, 0, 1}};
  EXPECT_EQ(PlanMemory(iv).bytes, 0u);
}

TEST(Planner, IsAFunctionOfItsInput) {
  std::mt19937 random(3);
  const std::vector<Interval> iv = TrainingIntervals(random, 3, 200, 64);
  EXPECT_EQ(PlanMemory(iv).offset, PlanMemory(iv).offset);
}

TEST(Planner, OtherAlignments) {
  const std::vector<Interval> iv{{10, 0, 1}, {10, 0, 1}, {10, 1, 2}};
  const MemoryPlan plan = PlanMemory(iv, 4096);
  for (size_t offset : plan.offset) EXPECT_EQ(offset % 4096, 0u);
  EXPECT_EQ(plan.lower_bound, 3u * 4096);
}

}  // namespace
}  // namespace graft::planner_test
