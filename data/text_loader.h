// Tokenized texts of a training or evaluation loop: all are tokenized once, when the loader is
// made, and handed out in exactly the order asked for, as rows without padding.
//
//   TextLoader loader(split.examples, tokenize);
//   loader.Start(order);                              // an epoch: indices into the examples
//   while (loader.remaining()) {
//     const size_t count = loader.CountWithin(batch, max_rows);
//     loader.Next(count, {ids, types, positions, offsets, labels});
//   }
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "data/text.h"

namespace graft {

struct TokenSequence {
  std::vector<int32_t> ids, types;  // equally many, at least 1
};

// Where a batch goes; null for what is not wanted. Sequence i is rows
// offsets[i] .. offsets[i + 1] - 1.
struct TextBatch {
  int32_t* ids;        // [rows]
  int32_t* types;      // [rows]
  int32_t* positions;  // [rows], from 0 in every sequence
  int32_t* offsets;    // [sequences + 1], from 0
  int32_t* labels;     // [sequences]
};

class TextLoader {
 public:
  // Calls `tokenize` from Threads() threads at once; what it throws for the first example in order
  // that it throws for is thrown here.
  using Tokenize = std::function<TokenSequence(const TextExample&)>;
  TextLoader(std::span<const TextExample> examples, const Tokenize& tokenize);

  size_t size() const { return labels_.size(); }  // examples
  size_t rows() const { return ids_.size(); }     // tokens of all of them
  size_t length(size_t example) const { return begin_[example + 1] - begin_[example]; }
  size_t longest() const { return longest_; }

  // Begins an epoch; what an earlier one has left is dropped. Indices may repeat.
  void Start(std::vector<size_t> order);
  // Examples of the epoch that Next has not delivered yet.
  size_t remaining() const { return order_.size() - taken_; }
  // The largest number up to `count` of next examples that have at most `rows` rows together, but
  // at least one if any remain.
  size_t CountWithin(size_t count, size_t rows) const;
  // Writes the next `count` examples and returns their rows. REQUIRES: count <= remaining().
  size_t Next(size_t count, const TextBatch& batch);
  // The same for any examples; threads may call it at once.
  size_t Write(std::span<const size_t> examples, const TextBatch& batch) const;

 private:
  std::vector<int32_t> ids_, types_;  // of all examples, one after the other
  std::vector<size_t> begin_;         // [examples + 1]
  std::vector<int32_t> labels_;
  size_t longest_ = 0;
  std::vector<size_t> order_;
  size_t taken_ = 0;
};

}  // namespace graft
