#include "tools/lib/memory_budget.h"

#include "tools/lib/task_data.h"

namespace graft {

TrainStep CompileWithinBudget(const Graph& g, ParamStore& params, const OptimizerConfig& optimizer,
                              const Counts& wanted, int64_t longest,
                              const TrainStep::Passes& passes, const std::string& budget) {
  if (budget.empty()) return TrainStep(g, params, optimizer, wanted, passes);
  const size_t bytes = ParseBytes(budget);
  // Weights and optimizer state are part of what a run needs.
  auto needed = [&](TrainStep& step) {
    return step.session().planned_bytes() + params.bytes().owned;
  };
  for (Counts capacity = wanted;;) {
    TrainStep step(g, params, optimizer, capacity, passes);
    const size_t need = needed(step);
    if (need <= bytes) return step;
    const Counts smaller = SmallerCapacity(capacity, longest);
    if (smaller == capacity)
      Fail("--memory-budget {}: the smallest possible is {} MiB (micro-batch of one)", budget,
           (need >> 20) + 1);
    capacity = smaller;
  }
}

nlohmann::json PlanJson(const TrainStep& step) {
  const Session& session = step.session();
  nlohmann::json nodes = nlohmann::json::array();
  for (const StepInfo& info : session.steps())
    nodes.push_back(fmt::format("{} {} {}", info.scope, info.op, info.impl));
  return {{"micro_batch", step.micro_batch()},
          {"micro_batch_tokens", session.options().capacity.tokens},
          {"arena_bytes", session.memory().bytes},
          {"packed_bytes", session.packed_bytes()},
          {"planned_bytes", session.planned_bytes()},
          {"nodes", nodes}};
}

}  // namespace graft
