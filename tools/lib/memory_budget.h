// --memory-budget: the compiled step must fit, or the error names the smallest size that would.
#pragma once
#include <nlohmann/json.hpp>

#include "autograd/train_step.h"

namespace graft {

// Compiles the step for `wanted`, or for the largest smaller micro-batch whose planned bytes stay
// within `budget` ("1.5GiB"; "" = no bound) and that holds a sequence of `longest` tokens. Throws
// Error naming the smallest possible budget.
TrainStep CompileWithinBudget(const Graph& g, ParamStore& params, const OptimizerConfig& optimizer,
                              const Counts& wanted, int64_t longest,
                              const TrainStep::Passes& passes, const std::string& budget);

// plan.json: kernel of every node, micro-batch, arena. No time, path or thread count.
nlohmann::json PlanJson(const TrainStep& step);

}  // namespace graft
