#include "train/capacity.h"

#include <algorithm>

namespace graft {
namespace {
constexpr int64_t kRows = 400;  // of a micro-batch
}

int64_t ChooseMicroBatch(const VitConfig& config, int64_t batch) {
  // One thread computes a micro-batch: a few hundred rows are enough for its GEMM to be fast, and
  // few enough that activations stay near its cache (docs/measuring.md has the sweep). There should
  // be several micro-batches for each thread.
  constexpr int64_t kMicroBatches = 8;
  return std::max<int64_t>(1, std::min(kRows / config.rows(), batch / kMicroBatches));
}

Counts ChooseCapacity(const ModelConfig& model, int64_t longest, int64_t batch, int64_t wanted) {
  if (const auto* vit = std::get_if<VitConfig>(&model))
    return {wanted ? wanted : ChooseMicroBatch(*vit, batch), 0};
  // The same holds for texts, but short texts have few rows, and every part reads all weights
  // again.
  constexpr int64_t kMicroBatches = 4;
  longest = std::max<int64_t>(1, longest);
  if (wanted) return {wanted, wanted * longest};
  int64_t sequences = std::clamp<int64_t>(batch / kMicroBatches, 1, kRows);
  // Logits of a whole vocabulary are large.
  constexpr int64_t kMaskedRows = 64;
  const BertConfig& bert = std::get<BertConfig>(model);
  if (bert.mask_rows > 0 && bert.label_words.empty())
    sequences = std::clamp<int64_t>(kMaskedRows / bert.mask_rows, 1, sequences);
  return {sequences, std::max(kRows, longest)};
}

Counts SmallerCapacity(const Counts& capacity, int64_t longest) {
  return {(capacity.sequences + 1) / 2,
          std::min(capacity.tokens, std::max(longest, (capacity.tokens + 1) / 2))};
}

}  // namespace graft
