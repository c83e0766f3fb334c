#include "runtime/cut_batch.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "runtime/threads.h"

namespace graft {
namespace {

// Fills one micro-batch after the other, each up to `target` tokens or more where that fits.
std::vector<Counts> Fill(std::span<const int64_t> tokens, const Counts& capacity,
                         const std::function<int64_t(int64_t rest, size_t part)>& target) {
  std::vector<Counts> parts;
  int64_t rest = std::accumulate(tokens.begin(), tokens.end(), int64_t{0}), enough = 0;
  for (const int64_t rows : tokens) {
    if (parts.empty() || parts.back().sequences == capacity.sequences ||
        parts.back().tokens >= enough || parts.back().tokens + rows > capacity.tokens) {
      enough = target(rest, parts.size());
      parts.push_back({0, 0});
    }
    ++parts.back().sequences, parts.back().tokens += rows;
    rest -= rows;
  }
  return parts;
}

}  // namespace

std::vector<Counts> CutBatch(int64_t n, const Counts& capacity,
                             const std::function<int64_t(int64_t i)>& tokens) {
  std::vector<int64_t> sizes(static_cast<size_t>(n), 1);  // an image counts as one token
  for (int64_t i = 0; tokens && i < n; ++i) sizes[static_cast<size_t>(i)] = tokens(i);
  const Counts most{capacity.sequences, tokens ? capacity.tokens : capacity.sequences};
  std::vector<Counts> parts = Fill(sizes, most, [&](int64_t, size_t) { return most.tokens; });
  const size_t even = parts.size() + parts.size() % 2;
  std::vector<Counts> evenly = Fill(sizes, most, [&](int64_t rest, size_t part) {
    return part < even ? CeilDiv(rest, static_cast<int64_t>(even - part)) : most.tokens;
  });
  if (parts.size() > 1 && evenly.size() == even) parts = std::move(evenly);
  if (!tokens)
    for (Counts& part : parts) part.tokens = 0;
  return parts;
}

}  // namespace graft
