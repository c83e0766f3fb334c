// --memory-budget: the compiled step must fit, or the error names the smallest size that would.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "adapters/method_graph.h"
#include "autograd/recompute.h"
#include "autograd/train_step.h"

namespace graft {

// What fixes the order of sums, and so the bits of a step. A zero leaves its field free.
struct SumOrder {
  Counts capacity = {0, 0};  // the largest micro-batch
  int lanes = 0;
  bool features = false;  // of frozen layers are kept (features.h)
};
// Reads a plan.json. Throws Error where it is damaged, of another graph (by GraphHash), of
// micro-batches above `batch`, or too small for the longest sequence.
SumOrder ReadSumOrder(const std::string& path, const std::string& graph, int64_t batch,
                      int64_t longest);
std::string GraphHash(const Graph& g);

struct BudgetRequest {
  Counts wanted;                           // the largest micro-batch
  int64_t longest = 0;                     // tokens of the longest sequence, which no plan is below
  std::string budget = {};                 // "1.5GiB"; "" = no bound
  size_t held_bytes = 0;                   // that the run holds whatever the plan
  PassOptions passes = {};                 // as for TrainingPasses
  SumOrder keep = {};                      // of an earlier plan whose bits are wanted
  size_t otherwise = SIZE_MAX;             // the smallest budget of another way to train
  // The optimised graph of validation, which runs between the steps with as many sequences and
  // workers as they have; and the tokens of its longest sequence.
  const Graph* between = nullptr;
  int64_t longest_between = 0;
};

struct CompiledStep {
  TrainStep step;
  size_t needed_bytes = 0;         // planned by both sessions, and weights and optimizer state
  size_t plan_bytes = 0;           // of them, what does not follow the threads: see below
  RecomputeResult recompute = {};  // nodes == 0: everything is kept
  size_t saved_bytes = 0;          // by recomputing
  double additional_work = 0;      // of a Run, by ModelSeconds: 0.02 = 2 %
  // The options of the session that runs BudgetRequest::between.
  SessionOptions between = {};
};

// Compiles the step for `wanted`, or the cheapest plan whose bytes stay within the budget. The
// plans are: the micro-batch, its half, and so on down to one sequence; each with all lanes, with
// one lane, and then with as many values recomputed as it takes. Their work for an example is
// compared by ModelSeconds, which holds against a small micro-batch that every call has a price and
// that weights and accumulators are read again for each; of equal ones the first of this list wins.
// Throws Error naming the smallest possible budget.
//
// The set of plans and their costs do not depend on the budget, so a smaller budget never gets a
// larger plan; nor on the threads, as each is counted with one worker and room for four threads
// inside its kernels. More workers and threads take what is left, and change no bit. Searching is
// planning only; the plan that is taken is the one that is compiled. `keep` is for runs that began
// before.
CompiledStep CompileWithinBudget(const Graph& g, ParamStore& params,
                                 const OptimizerConfig& optimizer, const BudgetRequest& request);

// Tells whether a plan would fit, by planning only.
struct BudgetFit {
  bool fits = true;
  size_t smallest = 0;  // possible budget, if it does not
};
BudgetFit FitsBudget(const Graph& g, ParamStore& params, const OptimizerConfig& optimizer,
                     const BudgetRequest& request);

// The same plan and test for a graph that trains nothing: the largest capacity wins, then the most
// workers.
struct InferencePlan {
  SessionOptions options;
  size_t spare_bytes = 0;  // of the budget, if there is one
};
InferencePlan OptionsWithinBudget(const Graph& g, ParamStore& params, const Counts& wanted,
                                  int64_t longest, const std::string& budget,
                                  size_t held_bytes = 0);
BudgetFit FitsBudget(const Graph& g, ParamStore& params, const Counts& wanted, int64_t longest,
                     const std::string& budget, size_t held_bytes);

// "283.1MiB needed; micro-batch 2, 1 worker; 24 nodes recomputed: -31.0 MiB, +1.2 % work"
std::string PlanText(const CompiledStep& compiled);

// What plan.json holds: the kernel of every node, micro-batch, lanes, bytes, and what is
// recomputed. Times, paths and all that follows the threads are left out, so that equal runs write
// equal files. `graph` is GraphHash of the whole training graph.
nlohmann::json PlanJson(const CompiledStep& compiled, const std::string& graph, bool features);

}  // namespace graft
