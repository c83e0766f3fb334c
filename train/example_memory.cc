#include "train/example_memory.h"

#include "train/evaluator.h"

namespace graft {

size_t ExampleBytes(const RunConfig& config, const BatchSource& train,
                    const BatchSource* validation, const Counts& wanted) {
  return train.HeldBytes() + static_cast<size_t>(config.batch_size) * train.ExampleBytes() +
         (validation ? InferenceBytes(*validation, wanted) + MeasuringBytes(*validation) : 0);
}

size_t ShareSpare(const RunConfig& config, size_t needed_bytes, BatchSource* train,
                  BatchSource* validation) {
  SpareMemory spare{.again = config.epochs > 1};
  if (!config.memory_budget.empty()) {
    spare.budget = ParseBytes(config.memory_budget);
    spare.bytes = spare.budget - std::min(spare.budget, needed_bytes);
  }
  const size_t all = spare.bytes;
  for (BatchSource* data : {train, validation})
    if (data) spare.bytes -= data->UseSpare(spare);
  return all - spare.bytes;
}

}  // namespace graft
