// Holds the tokenized texts of a training or evaluation loop. All are tokenized once, when the
// loader is made, and any of them can be written as rows without padding.
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
  int32_t mask = 0;                 // the row that a masked-LM head reads
};

// Where a batch is written; null for what is not wanted. Sequence i has rows offsets[i] ..
// offsets[i + 1] - 1.
struct TextBatch {
  int32_t* ids;              // [rows]
  int32_t* types;            // [rows]
  int32_t* positions;        // [rows], from 0 in every sequence
  int32_t* offsets;          // [sequences + 1], from 0
  int32_t* labels;           // [sequences]
  int32_t* masks = nullptr;  // [sequences], rows of the batch
};

class TextLoader {
 public:
  // Calls `tokenize` from Threads() threads at once. Of what it throws, the error for the first
  // example in order is thrown here.
  using Tokenize = std::function<TokenSequence(const TextExample&)>;
  TextLoader(std::span<const TextExample> examples, const Tokenize& tokenize);

  size_t size() const { return labels_.size(); }  // examples
  size_t rows() const { return ids_.size(); }     // tokens of all of them
  size_t length(size_t example) const { return begin_[example + 1] - begin_[example]; }
  size_t longest() const { return longest_; }
  bool has_masks() const { return !masks_.empty(); }

  // Writes these examples, which may repeat, and returns the number of their rows. Several threads
  // may call it at once.
  size_t Write(std::span<const size_t> examples, const TextBatch& batch) const;

 private:
  std::vector<int32_t> ids_, types_;  // of all examples, one after the other
  std::vector<size_t> begin_;         // [examples + 1]
  std::vector<int32_t> labels_, masks_;
  size_t longest_ = 0;
};

}  // namespace graft
