// What the examples of a run take of its memory.
#pragma once
#include "train/batches.h"
#include "train/run_config.h"

namespace graft {

// Bytes that the examples take whatever the plan is, as long as its micro-batches are at most
// `wanted`: a part of BudgetRequest::held_bytes. `validation` may be null.
size_t ExampleBytes(const RunConfig& config, const BatchSource& train,
                    const BatchSource* validation, const Counts& wanted);

// Gives the data what is left of the budget beside a plan that needs so many bytes (without a
// budget, 1 GiB), so that later epochs need not decode images again. Either source may be null.
// Returns how many bytes they may come to hold.
size_t ShareSpare(const RunConfig& config, size_t needed_bytes, BatchSource* train,
                  BatchSource* validation);

}  // namespace graft
