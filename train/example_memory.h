// What the examples of a run take of its memory.
#pragma once
#include "train/batches.h"
#include "train/run_config.h"

namespace graft {

// Whatever the plan, with micro-batches of at most `wanted`: part of BudgetRequest::held_bytes.
// `validation` may be null.
size_t ExampleBytes(const RunConfig& config, const BatchSource& train,
                    const BatchSource* validation, const Counts& wanted);

// Gives them what a plan that needs so many bytes leaves of the budget, so that later epochs need
// not decode images again; without a budget, 1 GiB. Either may be null. Returns how many bytes they
// may come to hold.
size_t ShareSpare(const RunConfig& config, size_t needed_bytes, BatchSource* train,
                  BatchSource* validation);

}  // namespace graft
