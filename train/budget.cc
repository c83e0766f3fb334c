#include "train/budget.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "adapters/method_graph.h"
#include "runtime/io/json.h"
#include "runtime/io/sha256.h"
#include "runtime/text.h"
#include "runtime/threads.h"
#include "train/capacity.h"
#include "train/run_config.h"

namespace graft {
namespace {

// "1.3MiB", rounded up: a budget of that text is enough.
std::string MiBAtLeast(size_t bytes) {
  return fmt::format("{:.1f}MiB", std::ceil(static_cast<double>(bytes) / 0x1p20 * 10) / 10);
}

// Whatever the threads, a budget has room for so many of them inside kernels: plans that followed
// the threads would give other bits on other machines. More get memory where some is left.
constexpr int kThreadsOfAPlan = 4;

struct Plan {
  Counts capacity;
  TrainStep::Parallel parallel = {};  // zeros: as the step chooses
  RecomputeLimit limit = {};          // arena_bytes == SIZE_MAX: nothing is recomputed
  RecomputeResult recompute = {};
  size_t arena_bytes = 0;   // without recomputing
  size_t needed_bytes = 0;  // by one worker and kThreadsOfAPlan
  double run_seconds = 0;   // without recomputing; by ModelSeconds
  // The price of one sequence or, of texts, of one token.
  double SecondsPerItem() const {
    const int64_t items = capacity.tokens ? capacity.tokens : capacity.sequences;
    return (run_seconds + recompute.seconds) / static_cast<double>(items);
  }
};

double RunSeconds(const Session& session) {
  double seconds = 0;
  for (const StepInfo& info : session.steps())
    if (info.phase == Phase::kMain && !info.once) seconds += ModelSeconds(info.cost);
  return seconds;
}

size_t BytesWith(const Session& session, const TrainStep::Parallel& parallel) {
  return session.shared_bytes() + static_cast<size_t>(parallel.workers) * session.worker_bytes() +
         static_cast<size_t>(parallel.lanes) * session.lane_bytes() +
         static_cast<size_t>(std::max(parallel.workers, parallel.threads)) * session.thread_bytes();
}

// Takes as many of Threads() as `need` has room for: all as workers, or inside the kernels of one
// worker.
template <class F>
TrainStep::Parallel MostThreads(int lanes, bool workers, size_t bytes, const F& need) {
  const int threads = Threads();
  if (workers && need({threads, lanes, threads}) <= bytes) return {threads, lanes, threads};
  TrainStep::Parallel parallel{1, lanes, threads};
  while (parallel.threads > kThreadsOfAPlan && need(parallel) > bytes) --parallel.threads;
  return parallel;
}

bool Disabled(const BudgetRequest& request, std::string_view pass) {
  return std::find(request.passes.disabled.begin(), request.passes.disabled.end(), pass) !=
         request.passes.disabled.end();
}

SessionOptions Planned(SessionOptions options) {
  options.plan_only = true;
  return options;
}

class BudgetSearch {
 public:
  BudgetSearch(const Graph& g, ParamStore& params, const OptimizerConfig& optimizer,
               const BudgetRequest& request)
      : g_(g), params_(params), optimizer_(optimizer), request_(request) {}

  // Returns nothing if no plan fits into `bytes`; one would fit into smallest_bytes().
  std::optional<Plan> Search(size_t bytes);
  size_t smallest_bytes() const { return smallest_; }
  CompiledStep Compile(const Plan& plan) const;

 private:
  // The plan of this capacity that needs at most `bytes`, if there is one.
  std::optional<Plan> Fit(const Graph& step, const Counts& capacity, size_t bytes);
  SessionOptions Between(const Counts& capacity, int workers, int threads) const {
    return {.capacity = {capacity.sequences, std::max(capacity.tokens, request_.longest_between)},
            .workers = workers,
            .threads = threads};
  }

  const Graph& g_;
  ParamStore& params_;
  const OptimizerConfig& optimizer_;
  const BudgetRequest& request_;
  size_t smallest_ = SIZE_MAX;
};

// Tries the lanes that the step chooses, then one; then what is missing is gained by recomputing.
// Only what is left over goes to more workers and threads, which change no bit.
std::optional<Plan> BudgetSearch::Fit(const Graph& step, const Counts& capacity, size_t bytes) {
  const SessionOptions options = TrainStep::Options(step, capacity, {0, request_.keep.lanes});
  const Session session(step, params_, Planned(options));
  std::optional<Session> between;
  if (request_.between)
    between.emplace(*request_.between, params_, Planned(Between(capacity, 1, 1)));
  // Weights and optimizer state are part of what a run needs.
  const auto need = [&](const TrainStep::Parallel& parallel) {
    return request_.held_bytes + params_.bytes().owned + BytesWith(session, parallel) +
           (between ? BytesWith(*between, {parallel.workers, 1, parallel.threads}) : 0);
  };
  const size_t arena = session.memory().bytes;
  Plan plan{capacity, {}, {}, {0, arena, 0}, arena, 0, RunSeconds(session)};
  const int fewest = request_.keep.lanes ? request_.keep.lanes : 1;
  for (const int lanes : {options.lanes, fewest}) {
    plan.needed_bytes = need({1, lanes, kThreadsOfAPlan});
    plan.parallel = MostThreads(lanes, lanes >= Threads(), bytes, need);
    if (plan.needed_bytes <= bytes) return plan;
  }
  const size_t rest = plan.needed_bytes - arena;
  smallest_ = std::min(smallest_, rest + arena);
  if (Disabled(request_, "recompute")) return {};
  plan.limit = {capacity, bytes > rest ? bytes - rest : 0, session.steps()};
  Graph graph = step;
  plan.recompute = Recompute(graph, plan.limit);
  plan.needed_bytes = rest + plan.recompute.arena_bytes;
  smallest_ = std::min(smallest_, plan.needed_bytes);
  if (plan.recompute.arena_bytes > plan.limit.arena_bytes) return {};
  plan.parallel = MostThreads(fewest, false, bytes, [&](const TrainStep::Parallel& parallel) {
    return need(parallel) - arena + plan.recompute.arena_bytes;
  });
  return plan;
}

std::optional<Plan> BudgetSearch::Search(size_t bytes) {
  const Graph step =
      TrainStep::BuildGraph(g_, params_, optimizer_, TrainingPasses(request_.passes));
  const bool kept = request_.keep.capacity.sequences > 0;
  Counts capacity = kept ? request_.keep.capacity : request_.wanted;
  std::optional<Plan> best;
  while (true) {
    const std::optional<Plan> plan = Fit(step, capacity, bytes);
    if (plan && (!best || plan->SecondsPerItem() < best->SecondsPerItem())) best = plan;
    const Counts smaller = SmallerCapacity(capacity, request_.longest);
    // Smaller capacities than one that fits without recomputing only cost more.
    if (kept || smaller == capacity || (plan && plan->recompute.nodes == 0)) return best;
    capacity = smaller;
  }
}

CompiledStep BudgetSearch::Compile(const Plan& plan) const {
  CompiledStep c{TrainStep(g_, params_, optimizer_, plan.capacity,
                           TrainingPasses(request_.passes, plan.limit), plan.parallel)};
  const Session& session = c.step.session();
  const SessionOptions& options = session.options();
  const size_t store = request_.held_bytes + params_.bytes().owned;
  c.needed_bytes = store + session.planned_bytes();
  c.plan_bytes = store + BytesWith(session, {1, options.lanes, kThreadsOfAPlan});
  c.between = Between(plan.capacity, request_.budget.empty() ? Threads() : options.workers,
                      options.threads);
  if (request_.between) {
    const Session between(*request_.between, params_, Planned(c.between));
    c.needed_bytes += between.planned_bytes();
    c.plan_bytes += BytesWith(between, {1, 1, kThreadsOfAPlan});
  }
  if (plan.recompute.nodes == 0) return c;
  c.recompute = plan.recompute;
  c.saved_bytes = plan.arena_bytes - plan.recompute.arena_bytes;
  c.additional_work = plan.recompute.seconds / plan.run_seconds;
  return c;
}

}  // namespace

CompiledStep CompileWithinBudget(const Graph& g, ParamStore& params,
                                 const OptimizerConfig& optimizer, const BudgetRequest& request) {
  BudgetSearch search(g, params, optimizer, request);
  const SumOrder& keep = request.keep;
  if (request.budget.empty())
    return search.Compile({.capacity = keep.capacity.sequences ? keep.capacity : request.wanted,
                           .parallel = {0, keep.lanes}});
  const std::optional<Plan> plan = search.Search(ParseBytes(request.budget));
  if (!plan)
    Fail("--memory-budget {}: the smallest possible is {} ({}{})", request.budget,
         MiBAtLeast(std::min(search.smallest_bytes(), request.otherwise)),
         request.keep.capacity.sequences ? "with the micro-batches it began with"
                                         : "one example at a time",
         Disabled(request, "recompute") ? "" : ", recomputing what can be");
  return search.Compile(*plan);
}

BudgetFit FitsBudget(const Graph& g, ParamStore& params, const OptimizerConfig& optimizer,
                     const BudgetRequest& request) {
  BudgetSearch search(g, params, optimizer, request);
  if (search.Search(ParseBytes(request.budget))) return {};
  return {false, search.smallest_bytes()};
}

namespace {

// The options within the budget or, if none are, those that need least; and the bytes that they
// need.
struct Inference {
  InferencePlan plan;
  BudgetFit fit = {};
};
Inference SearchInference(const Graph& g, ParamStore& params, const Counts& wanted, int64_t longest,
                          const std::string& budget, size_t held_bytes) {
  SessionOptions options{.capacity = wanted, .workers = Threads()};
  if (budget.empty()) return {{options}};
  const size_t bytes = ParseBytes(budget);
  options.workers = 1;
  while (true) {
    const Session session(g, params, Planned(options));
    const auto need = [&](const TrainStep::Parallel& parallel) {
      return held_bytes + params.bytes().owned + BytesWith(session, parallel);
    };
    const size_t fewest = need({1, 1, kThreadsOfAPlan});
    if (fewest <= bytes) {
      const TrainStep::Parallel most = MostThreads(1, true, bytes, need);
      options.workers = most.workers, options.threads = most.threads;
      return {{options, bytes - std::min(bytes, need(most))}};
    }
    const Counts smaller = SmallerCapacity(options.capacity, longest);
    if (smaller == options.capacity) return {{options}, {false, fewest}};
    options.capacity = smaller;
  }
}

}  // namespace

InferencePlan OptionsWithinBudget(const Graph& g, ParamStore& params, const Counts& wanted,
                                  int64_t longest, const std::string& budget, size_t held_bytes) {
  const Inference found = SearchInference(g, params, wanted, longest, budget, held_bytes);
  if (!found.fit.fits)
    Fail("--memory-budget {}: the smallest possible is {} (one example at a time)", budget,
         MiBAtLeast(found.fit.smallest));
  return found.plan;
}

BudgetFit FitsBudget(const Graph& g, ParamStore& params, const Counts& wanted, int64_t longest,
                     const std::string& budget, size_t held_bytes) {
  return SearchInference(g, params, wanted, longest, budget, held_bytes).fit;
}

std::string GraphHash(const Graph& g) {
  const std::string text = ToText(g);
  return Sha256Hex(std::as_bytes(std::span(text)));
}

SumOrder ReadSumOrder(const std::string& path, const std::string& graph, int64_t batch,
                      int64_t longest) {
  const Json plan = ReadJson(path);
  if (GetString(plan, "graph_sha256", path) != graph)
    Fail(
        "{}: the plan of another graph than this run's; hint: resume with the model that the run "
        "began with, or train again with another --out",
        path);
  constexpr int64_t kMostTokens = int64_t{1} << 40;
  return {{GetInt(plan, "micro_batch", 1, batch, path),
           GetInt(plan, "micro_batch_tokens", longest, longest ? kMostTokens : 0, path)},
          static_cast<int>(GetInt(plan, "lanes", 1, kLanesBound, path)),
          GetInt(plan, "features_kept", 0, 1, path) != 0};
}

std::string PlanText(const CompiledStep& c) {
  const SessionOptions& options = c.step.session().options();
  std::string text =
      fmt::format("{} needed; micro-batch {}", MiBAtLeast(c.needed_bytes), c.step.micro_batch());
  if (options.capacity.tokens) text += fmt::format(" ({} tokens)", options.capacity.tokens);
  text += fmt::format(", {} worker{}", options.workers, options.workers == 1 ? "" : "s");
  if (c.recompute.nodes)
    text += fmt::format("; {} nodes recomputed: -{:.1f} MiB, +{:.1f} % work", c.recompute.nodes,
                        static_cast<double>(c.saved_bytes) / 0x1p20, 100 * c.additional_work);
  return text;
}

nlohmann::json PlanJson(const CompiledStep& c, const std::string& graph, bool features) {
  const Session& session = c.step.session();
  const SessionOptions& options = session.options();
  nlohmann::json nodes = nlohmann::json::array();
  for (const StepInfo& info : session.steps())
    nodes.push_back(fmt::format("{} {} {}", info.scope, info.op, info.impl));
  return {{"graph_sha256", graph},
          {"micro_batch", c.step.micro_batch()},
          {"micro_batch_tokens", options.capacity.tokens},
          {"lanes", options.lanes},
          {"features_kept", features ? 1 : 0},
          {"needed_bytes", c.plan_bytes},
          {"packed_bytes", session.packed_bytes()},
          {"arena_bytes", session.memory().bytes},
          {"worker_bytes", session.worker_bytes()},
          {"lane_bytes", session.lane_bytes()},
          {"thread_bytes", session.thread_bytes()},
          {"recomputed_nodes", c.recompute.nodes},
          {"recompute_saves_bytes", c.saved_bytes},
          {"recompute_work", c.additional_work},
          {"nodes", nodes}};
}

}  // namespace graft
