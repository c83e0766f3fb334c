#include "train/capacity.h"

#include <algorithm>

namespace graft {
namespace {

// How a batch is cut: at most so many rows in a micro-batch, at least so many micro-batches.
struct Cut {
  int64_t rows, image_parts, text_parts;
};
// One thread computes a micro-batch: a few hundred rows are enough for its GEMM to be fast, and few
// enough that activations stay near its cache (docs/measuring.md has the sweep). There should be
// several micro-batches for each thread. Short texts have few rows, and every part reads all
// weights again.
constexpr Cut kUsual{400, 8, 4};
// Where every Run also rounds and packs the weights.
constexpr Cut kRounding{1600, 4, 4};

int64_t Images(const VitConfig& config, int64_t batch, const Cut& cut) {
  return std::max<int64_t>(1, std::min(cut.rows / config.rows(), batch / cut.image_parts));
}

Counts Choose(const ModelConfig& model, int64_t longest, int64_t batch, int64_t wanted,
              const Cut& cut) {
  if (const auto* vit = std::get_if<VitConfig>(&model))
    return {wanted ? wanted : Images(*vit, batch, cut), 0};
  longest = std::max<int64_t>(1, longest);
  if (wanted) return {wanted, wanted * longest};
  int64_t sequences = std::clamp<int64_t>(batch / cut.text_parts, 1, cut.rows);
  // Logits of a whole vocabulary are large.
  constexpr int64_t kMaskedRows = 64;
  const BertConfig& bert = std::get<BertConfig>(model);
  if (bert.mask_rows > 0 && bert.label_words.empty())
    sequences = std::clamp<int64_t>(kMaskedRows / bert.mask_rows, 1, sequences);
  return {sequences, std::max(cut.rows, longest)};
}

// Whether most parameters train in low precision: they are rounded and packed by every Run.
bool RoundsWhatTrains(const Graph& graph, const PassOptions& passes) {
  if (passes.precision.cell == CellType::kF32) return false;
  int64_t all = 0, trained = 0;
  for (ValueId v : graph.Leaves(Role::kParam)) {
    const int64_t size = At(graph.shape(v), {}).size();
    all += size;
    if (graph.value(v).trainable) trained += size;
  }
  return 2 * trained > all;
}

}  // namespace

int64_t ChooseMicroBatch(const VitConfig& config, int64_t batch) {
  return Images(config, batch, kUsual);
}

Counts ChooseCapacity(const ModelConfig& model, int64_t longest, int64_t batch, int64_t wanted) {
  return Choose(model, longest, batch, wanted, kUsual);
}

Counts ChooseTrainingCapacity(const ModelConfig& model, const Graph& graph,
                              const PassOptions& passes, int64_t longest, int64_t batch,
                              int64_t wanted) {
  const bool rounds = RoundsWhatTrains(graph, passes);
  return Choose(model, longest, batch, wanted, rounds ? kRounding : kUsual);
}

Counts SmallerCapacity(const Counts& capacity, int64_t longest) {
  return {(capacity.sequences + 1) / 2,
          std::min(capacity.tokens, std::max(longest, (capacity.tokens + 1) / 2))};
}

}  // namespace graft
