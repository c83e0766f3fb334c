// What implementations of BatchSource (batches.h) share. Nobody else includes this.
#pragma once
#include <algorithm>
#include <functional>

#include "models/text/tokenizer.h"
#include "runtime/cut_batch.h"
#include "runtime/threads.h"
#include "train/batches.h"

namespace graft {

// The order of an epoch and the batch's place in it, for examples of equal size.
class OrderedData : public BatchSource {
 public:
  int64_t length(size_t) const override { return 0; }
  int64_t longest() const override { return 0; }
  void Start(std::vector<size_t> order) override { order_ = std::move(order), end_ = begin_ = 0; }
  size_t remaining() const override { return order_.size() - end_; }
  void Take(size_t count) override { begin_ = end_, end_ += count; }
  int64_t Losses() const override { return static_cast<int64_t>(end_ - begin_); }
  std::vector<Counts> Parts(const Counts& capacity) const override {
    return CutBatch(static_cast<int64_t>(end_ - begin_), capacity, {});
  }

 protected:
  // Parts of texts, cut by their lengths.
  std::vector<Counts> TextParts(const Counts& capacity) const {
    return CutBatch(std::ssize(batch()), capacity,
                    [this](int64_t i) { return length(batch()[static_cast<size_t>(i)]); });
  }
  std::span<const size_t> batch() const { return std::span(order_).subspan(begin_, end_ - begin_); }
  // The indices of examples [first, first + count) of the batch.
  std::span<const size_t> Examples(int64_t first, int64_t count) const {
    return batch().subspan(first, count);
  }

 private:
  std::vector<size_t> order_;
  size_t begin_ = 0, end_ = 0;
};

// The targets of all examples, row by row.
class Targets {
 public:
  template <class AnyExample>
  explicit Targets(std::span<const AnyExample> examples) {
    for (const AnyExample& e : examples) Add(e.targets);
  }
  Targets() = default;
  void Add(std::span<const float> row) {
    columns_ = row.size();
    values_.insert(values_.end(), row.begin(), row.end());
  }
  std::span<const float> of(size_t example) const {
    return std::span(values_).subspan(example * columns_, columns_);
  }
  size_t bytes() const { return values_.size() * sizeof(float); }

 private:
  std::vector<float> values_;  // [examples, columns]
  size_t columns_ = 0;
};

// Writes the targets of these examples into the session's input, if it has one.
inline void FillTargets(const BatchSource& data, std::span<const size_t> examples, int worker,
                        Session* session) {
  if (!session->HasInput("targets")) return;
  float* to = session->Input("targets", worker).f32();
  for (const size_t example : examples) to = std::ranges::copy(data.targets(example), to).out;
}

// --- texts

// The tokenizer of texts for a model. Throws Error if its vocabulary or its types do not fit the
// model's tables, or if the facts want more tokens than the model has positions.
Tokenizer OpenFittingTokenizer(const LoadedModel& model, const AdapterFacts& facts, bool pairs);
// Throws Error for an id that the model has no embedding for: kernels trust ids.
void CheckIds(std::span<const int32_t> ids, const Tokenizer& tokenizer, const std::string& text,
              const LoadedModel& model);
// The texts of MakeRandomData.
std::unique_ptr<BatchSource> MakeRandomTexts(size_t n, const LoadedModel& model, uint64_t seed);

}  // namespace graft
