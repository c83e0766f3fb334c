#include "data/text_loader.h"

#include <algorithm>
#include <numeric>

#include "runtime/error.h"
#include "runtime/threads.h"

namespace graft {

TextLoader::TextLoader(std::span<const TextExample> examples, const Tokenize& tokenize) {
  const FixedChunks cut(static_cast<int64_t>(examples.size()), 64);
  std::vector<TokenSequence> sequences(examples.size());
  ParallelForThrowing(cut.count(), [&](int64_t chunk) {
    for (int64_t i = cut.begin(chunk); i < cut.end(chunk); ++i)
      sequences[i] = tokenize(examples[i]);
  });
  begin_ = {0};
  for (const TokenSequence& s : sequences) {
    GRAFT_CHECK(!s.ids.empty() && s.ids.size() == s.types.size());
    begin_.push_back(begin_.back() + s.ids.size());
    longest_ = std::max(longest_, s.ids.size());
  }
  ids_.reserve(begin_.back());
  types_.reserve(begin_.back());
  for (const TokenSequence& s : sequences) {
    ids_.insert(ids_.end(), s.ids.begin(), s.ids.end());
    types_.insert(types_.end(), s.types.begin(), s.types.end());
    masks_.push_back(s.mask);
  }
  for (const TextExample& e : examples) labels_.push_back(e.label);
}

size_t TextLoader::Write(std::span<const size_t> examples, const TextBatch& batch) const {
  size_t row = 0;
  if (batch.offsets) batch.offsets[0] = 0;
  for (size_t i = 0; i < examples.size(); ++i) {
    const size_t example = examples[i], n = length(example);
    if (batch.ids) std::copy_n(ids_.data() + begin_[example], n, batch.ids + row);
    if (batch.types) std::copy_n(types_.data() + begin_[example], n, batch.types + row);
    if (batch.positions) std::iota(batch.positions + row, batch.positions + row + n, 0);
    if (batch.masks) batch.masks[i] = static_cast<int32_t>(row) + masks_[example];
    row += n;
    if (batch.offsets) batch.offsets[i + 1] = static_cast<int32_t>(row);
    if (batch.labels) batch.labels[i] = labels_[example];
  }
  return row;
}

}  // namespace graft
