// A fixed set of strings as a trie over code points: finds the longest entry at the start of a
// text in one walk, without allocation, in time linear in the entry's length. Thread safe.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace graft {

class TokenTrie {
 public:
  struct Entry {
    std::u32string text;
    int32_t value;  // at least 0
  };
  using Node = uint32_t;
  static constexpr Node kRoot = 0, kNone = UINT32_MAX;

  TokenTrie() : TokenTrie(std::vector<Entry>()) {}
  // REQUIRES: no two entries have the same text.
  explicit TokenTrie(std::vector<Entry> entries);

  Node Child(Node node, char32_t c) const;
  // The node that `text` leads to, or kNone.
  Node Walk(std::u32string_view text, Node from = kRoot) const;

  struct Match {
    int32_t value = -1;
    size_t length = 0;  // 0: no entry
  };
  // The longest entry that `text` starts with, going on from the node `from`; never an empty one.
  Match Longest(std::u32string_view text, Node from = kRoot) const {
    Match best;
    Node node = from;
    for (size_t i = 0; i < text.size(); ++i) {
      node = Child(node, text[i]);
      if (node == kNone) break;
      if (nodes_[node].value >= 0) best = {nodes_[node].value, i + 1};
    }
    return best;
  }

 private:
  // Nodes are numbered breadth first, so the children of n are n.first .. (n + 1).first - 1, in the
  // order of their labels; a node's label is that of the edge to it.
  struct Links {
    int32_t value = -1;  // -1: no entry ends here
    Node first = 0;
    uint32_t row = kNone;  // of rows_, for a node of many children
  };
  static constexpr Node kManyChildren = 8;

  std::vector<char32_t> labels_;
  std::vector<Links> nodes_;  // one more than there are, for the end of the last
  // [row, 128]: 1 + the number of the child by this ASCII character, or 0.
  std::vector<uint8_t> rows_;
};

inline TokenTrie::Node TokenTrie::Child(Node node, char32_t c) const {
  if (node == kNone) return kNone;
  const Links& links = nodes_[node];
  if (links.row != kNone && c < 128) {
    const uint8_t child = rows_[size_t{links.row} * 128 + c];
    return child ? links.first + child - 1 : kNone;
  }
  Node low = links.first, high = nodes_[node + 1].first;
  while (high - low > kManyChildren) {
    const Node middle = low + (high - low) / 2;
    (labels_[middle] <= c ? low : high) = middle;
  }
  for (; low < high; ++low)
    if (labels_[low] == c) return low;
  return kNone;
}

}  // namespace graft
