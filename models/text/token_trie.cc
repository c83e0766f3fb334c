#include "models/text/token_trie.h"

#include <algorithm>

#include "runtime/error.h"

namespace graft {

TokenTrie::TokenTrie(std::vector<Entry> entries) {
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.text < b.text; });
  // A node stands for the sorted entries [begin, end) that share their first `depth` characters.
  struct Range {
    uint32_t begin, end, depth;
  };
  GRAFT_CHECK(entries.size() < kNone);
  std::vector<Range> ranges = {{0, static_cast<uint32_t>(entries.size()), 0}};
  labels_ = {0};
  for (size_t n = 0; n < ranges.size(); ++n) {
    auto [begin, end, depth] = ranges[n];
    const Node first = static_cast<Node>(ranges.size());
    const bool ends = begin < end && entries[begin].text.size() == depth;
    nodes_.push_back({ends ? entries[begin].value : -1, first, kNone});
    begin += ends;
    while (begin < end) {
      GRAFT_CHECK(entries[begin].text.size() > depth, "an entry occurs twice");
      const char32_t label = entries[begin].text[depth];
      uint32_t next = begin;
      while (next < end && entries[next].text[depth] == label) ++next;
      labels_.push_back(label);
      ranges.push_back({begin, next, depth + 1});
      begin = next;
    }
    const Node end_of_children = static_cast<Node>(ranges.size());
    if (n != kRoot && end_of_children - first <= kManyChildren) continue;
    nodes_[n].row = static_cast<uint32_t>(rows_.size() / 128);
    rows_.resize(rows_.size() + 128);
    for (Node child = first; child < end_of_children && labels_[child] < 128; ++child)
      rows_[rows_.size() - 128 + labels_[child]] = static_cast<uint8_t>(child - first + 1);
  }
  nodes_.push_back({-1, static_cast<Node>(ranges.size()), kNone});
}

TokenTrie::Node TokenTrie::Walk(std::u32string_view text, Node from) const {
  for (char32_t c : text) from = Child(from, c);
  return from;
}

}  // namespace graft
