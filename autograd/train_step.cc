#include "autograd/train_step.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "autograd/gradient.h"
#include "autograd/late_gradient.h"
#include "ops/ops.h"
#include "runtime/cut_batch.h"
#include "runtime/process_group.h"
#include "runtime/verify.h"

namespace graft {
namespace {

constexpr const char* kLossState = "acc.loss";

// The sum takes the place of acc.
void Accumulate(Graph& g, ValueId state, ValueId value) {
  g.AddUpdate(state, Add(g, state, value));
}

ValueId OptimizerState(Graph& g, ParamStore& params, const std::string& name, ValueId like) {
  if (!params.Has(name)) params.Allocate(name, At(g.shape(like), {}));
  return g.AddParam(name, g.shape(like));
}

void AddUpdate(Graph& g, ParamStore& params, ValueId p, ValueId gradient, ValueId hyper,
               const OptimizerConfig& o) {
  const std::string name = g.value(p).name;
  const int rank = static_cast<int>(g.shape(p).size());
  const double decay = !o.decays || o.decays(name, rank) ? o.weight_decay : 0;
  if (o.kind == OptimizerKind::kAdamW) {
    const ValueId m = OptimizerState(g, params, "opt.m." + name, p);
    const ValueId v = OptimizerState(g, params, "opt.v." + name, p);
    const auto out =
        g.Add(kAdamW, {p, gradient, m, v, hyper}, AdamWAttrs{o.beta1, o.beta2, o.eps, decay});
    g.AddUpdate(p, out[0]), g.AddUpdate(m, out[1]), g.AddUpdate(v, out[2]);
  } else {
    const ValueId buffer = OptimizerState(g, params, "opt.buf." + name, p);
    const auto out = g.Add(kSgd, {p, gradient, buffer, hyper}, SgdAttrs{o.momentum, decay});
    g.AddUpdate(p, out[0]), g.AddUpdate(buffer, out[1]);
  }
}

// What is accumulated in every micro-batch, and from which gradients are made once a step.
struct Accumulated {
  std::vector<ValueId> values;     // trainable parameters, and frontiers of late parts
  std::vector<ValueId> sums;       // states, by value: of their cotangents
  std::vector<ValueId> frontiers;  // those of the values that are one
  std::vector<ValueId> late;       // parameters of late parts
};

std::string StateName(const Graph& g, ValueId v, size_t index) {
  const Value& value = g.value(v);
  if (value.role == Role::kParam) return "acc." + value.name;
  const std::string& scope = g.node(value.producer).scope;
  return fmt::format("acc.{}.{}", value.name.empty() ? scope : value.name, index);
}

// Adds the loss, its gradients with respect to the values, and the sums of both.
Accumulated AddAccumulation(Graph& g) {
  Accumulated a;
  for (ParameterPart& part : LateParts(g)) {
    a.late.insert(a.late.end(), part.trainable.begin(), part.trainable.end());
    a.frontiers.insert(a.frontiers.end(), part.frontier.begin(), part.frontier.end());
  }
  const auto is_late = [&](ValueId v) { return std::ranges::count(a.late, v) > 0; };
  std::vector<ValueId> wrt = g.Trainable();
  std::erase_if(wrt, is_late);
  wrt.insert(wrt.end(), a.frontiers.begin(), a.frontiers.end());
  g.scope = "loss";
  const ValueId inv_batch = g.AddInput("inv_batch", {DType::kF32, {1}});
  const ValueId loss = Mul(g, SumAll(g, g.output("losses")), inv_batch);
  const std::vector<ValueId> gradients = AddGradients(g, loss, wrt, Derivative::kPartial);

  g.scope = "accumulate";
  Accumulate(g, g.AddState(kLossState, {1}), loss);
  for (size_t i = 0; i < wrt.size(); ++i) {
    if (!gradients[i].valid()) continue;  // the loss does not depend on it
    a.values.push_back(wrt[i]);
    a.sums.push_back(g.AddState(StateName(g, wrt[i], i), g.shape(wrt[i])));
    Accumulate(g, a.sums.back(), gradients[i]);
  }
  return a;
}

// The sums over a batch of the gradients of `trainable`, in order.
std::vector<ValueId> SummedGradients(Graph& g, const Accumulated& a,
                                     std::span<const ValueId> trainable) {
  std::map<ValueId, ValueId> found;
  std::vector<ValueId> frontiers, cotangents;
  for (size_t i = 0; i < a.values.size(); ++i) {
    found[a.values[i]] = a.sums[i];
    if (std::ranges::count(a.frontiers, a.values[i]) == 0) continue;
    frontiers.push_back(a.values[i]), cotangents.push_back(a.sums[i]);
  }
  std::vector<ValueId> late;
  if (!a.late.empty()) late = AddPullback(g, frontiers, cotangents, a.late);
  for (size_t i = 0; i < late.size(); ++i) found[a.late[i]] = late[i];
  std::vector<ValueId> gradients;
  for (ValueId v : trainable) {
    const ValueId gradient = found[v];
    if (!gradient.valid())
      Fail("'{}' is trainable but the loss does not depend on it", g.value(v).name);
    gradients.push_back(gradient);
  }
  return gradients;
}

}  // namespace

namespace {

double RateFactorOf(const OptimizerConfig& o, const std::string& name, int rank) {
  return o.rate_factor ? o.rate_factor(name, rank) : 1;
}

int RankOf(const Graph& g, ValueId v) { return static_cast<int>(g.shape(v).size()); }

}  // namespace

std::string HyperName(const OptimizerConfig& o, const std::string& name, int rank) {
  if (o.updates) return "hyper." + name;
  const double factor = RateFactorOf(o, name, rank);
  return factor == 1 ? "hyper" : fmt::format("hyper.x{}", factor);
}

void AddTrainStep(Graph& g, ParamStore& params, const OptimizerConfig& optimizer) {
  const std::vector<ValueId> trainable = g.Trainable();
  if (trainable.empty()) Fail("nothing to train: no parameter is trainable");
  VerifyTrainableReachOutput(g);
  const Accumulated accumulated = AddAccumulation(g);
  g.phase = Phase::kUpdate;
  const std::vector<ValueId> sums = SummedGradients(g, accumulated, trainable);
  g.scope = "update";
  ValueId rng, clip;
  if (optimizer.on_gradient) rng = g.AddInput("update_rng", {DType::kI32, {2}});
  if (optimizer.clip > 0) {
    ValueId squares;
    for (ValueId sum : sums) {
      const ValueId s = SumSquares(g, sum);
      squares = squares.valid() ? Add(g, squares, s) : s;
    }
    g.SetOutput("gradient_norm_squared", squares);
    clip = ClipScale(g, squares, optimizer.clip);
  }
  for (size_t i = 0; i < trainable.size(); ++i) {
    const std::string name = g.value(trainable[i]).name;
    ValueId gradient = clip.valid() ? Mul(g, sums[i], clip) : sums[i];
    if (optimizer.on_gradient) gradient = optimizer.on_gradient(g, params, name, gradient, rng);
    const std::string scalars = HyperName(optimizer, name, RankOf(g, trainable[i]));
    ValueId hyper = g.FindLeaf(scalars);
    if (!hyper.valid()) hyper = g.AddInput(scalars, {DType::kF32, {3}});
    AddUpdate(g, params, trainable[i], gradient, hyper, optimizer);
  }
  g.phase = Phase::kMain;
  g.scope.clear();
}

Graph TrainStep::BuildGraph(Graph g, ParamStore& params, const OptimizerConfig& optimizer,
                            const Passes& passes, std::vector<PassReport>* reports) {
  std::vector<PassReport> made = passes.forward.Run(g);
  AddTrainStep(g, params, optimizer);
  // Nobody reads the logits and the losses themselves in a step; only what is updated stays.
  g.KeepOutputs([](const GraphOutput& o) { return o.name == "gradient_norm_squared"; });
  g.EraseDead();
  ShareEqualNodes(g);
  for (PassReport& report : passes.step.Run(g)) made.push_back(std::move(report));
  VerifyStep(g);
  if (reports) *reports = std::move(made);
  return g;
}

namespace {

// Lanes cost a copy of the gradients each. With many, threads wait less for each other at the end.
constexpr int kMostLanes = 16;
constexpr size_t kLaneBytes = size_t{64} << 20;
// Up to so large, two lanes are worth their memory where products are short, in low precision:
// one lane has the threads inside the kernels, where they wait for each other after every one.
constexpr size_t kLargestOfTwoLanes = size_t{512} << 20;

int ChooseLanes(const Graph& g, size_t bytes) {
  const size_t lanes = std::clamp<size_t>(kLaneBytes / bytes, 1, kMostLanes);
  const bool low = bytes <= kLargestOfTwoLanes &&
                   std::ranges::any_of(g.TopoOrder(), [&](NodeId id) {
                     return g.node(id).op == &kLowMatmul;
                   });
  return static_cast<int>(low ? std::max<size_t>(lanes, 2) : lanes);
}

}  // namespace

SessionOptions TrainStep::Options(const Graph& g, const Counts& capacity, Parallel parallel) {
  if (capacity.sequences < 1)
    Fail("micro-batch: expected at least 1 sequence, found {}", capacity.sequences);
  size_t bytes = 1;
  for (ValueId v : g.Leaves(Role::kState))
    if (g.value(v).name != kLossState)
      bytes += static_cast<size_t>(At(g.shape(v), {}).size()) * sizeof(float);
  SessionOptions options{.capacity = capacity};
  options.lanes = parallel.lanes ? parallel.lanes : ChooseLanes(g, bytes);
  // If there are too few lanes to go round, the threads work inside the kernels instead.
  options.workers = options.lanes >= Threads() ? Threads() : 1;
  if (parallel.workers) options.workers = parallel.workers;
  options.threads = parallel.threads ? parallel.threads : Threads();
  options.shared = parallel.shared;
  return options;
}

Session TrainStep::Compiled(Graph graph, ParamStore& params, const Counts& capacity,
                            Parallel parallel) {
  const SessionOptions options = Options(graph, capacity, parallel);
  return Session(std::move(graph), params, options);
}

TrainStep::TrainStep(Graph loss_graph, ParamStore& params, const OptimizerConfig& optimizer,
                     Counts capacity, const Passes& passes, Parallel parallel)
    : optimizer_(optimizer),
      capacity_(capacity),
      session_(Compiled(BuildGraph(std::move(loss_graph), params, optimizer, passes, &reports_),
                        params, capacity, parallel)) {
  for (int worker = 0; worker < session_.options().workers; ++worker) {
    rng_.push_back(session_.HasInput("rng") ? session_.Input("rng", worker) : Tensor{});
    inv_batch_.push_back(session_.Input("inv_batch", worker));
  }
  std::set<std::string> scalars;
  for (ValueId v : graph().Trainable()) {
    const std::string& name = graph().value(v).name;
    const int rank = RankOf(graph(), v);
    if (const auto [input, fresh] = scalars.insert(HyperName(optimizer_, name, rank)); fresh)
      hyper_.push_back({session_.Input(*input), RateFactorOf(optimizer_, name, rank),
                        optimizer_.updates ? &(*optimizer_.updates)[name] : nullptr});
  }
  loss_ = session_.State(kLossState);
  if (session_.HasInput("update_rng")) update_rng_ = session_.Input("update_rng");
}

StepResult TrainStep::Run(int64_t batch, int64_t step, double learning_rate, const Fill& fill,
                          double losses) {
  if (batch != cut_) parts_ = CutBatch(batch, capacity_, {}), cut_ = batch;
  return Run(parts_, step, learning_rate, fill, losses);
}

StepResult TrainStep::Accumulate(std::span<const Counts> parts, int64_t step, const Fill& fill,
                                 double losses) {
  first_.assign(1, 0);
  for (const Counts& part : parts) first_.push_back(first_.back() + part.sequences);
  const int64_t n = std::ssize(parts);
  const int lanes = static_cast<int>(std::clamp<int64_t>(n, 1, session_.options().lanes));
  session_.ZeroStates(lanes);
  // Sessions that share memory have written over each other's inputs.
  if (session_.HasInput("one"))
    for (int w = 0; w < session_.options().workers; ++w) session_.Input("one", w).f32()[0] = 1;
  const Piece own = group_ ? group_->Mine(lanes) : Piece{0, lanes};
  ForEachRun(session_, own.size, [&](int64_t index, int worker) {
    const int64_t lane = own.begin + index;
    const size_t w = static_cast<size_t>(worker);
    inv_batch_[w].f32()[0] =
        1.0f / static_cast<float>(losses > 0 ? losses : static_cast<double>(first_.back()));
    const Piece mine = EvenPiece(n, lanes, lane);
    for (int64_t i = mine.begin; i < mine.begin + mine.size; ++i) {
      const Counts& part = parts[i];
      const int64_t first = first_[i];
      fill(first, part.sequences, worker);
      if (rng_[w].data)
        rng_[w].i32()[0] = static_cast<int32_t>(step),
        rng_[w].i32()[1] = static_cast<int32_t>(first);
      session_.Run(part, worker, static_cast<int>(lane));
    }
  });
  AddUpLanes(lanes);
  return {loss_.f32()[0], 0};
}

void TrainStep::ShareWith(ProcessGroup* group) {
  group_ = group;
  states_.clear();
  for (int lane = 0; lane < session_.options().lanes; ++lane) {
    float *begin = nullptr, *end = nullptr;  // the states of a lane lie together
    for (ValueId v : graph().Leaves(Role::kState)) {
      const Tensor state = session_.State(graph().value(v).name, lane);
      if (!begin || state.f32() < begin) begin = state.f32();
      end = std::max(end, state.f32() + state.shape.size());
    }
    states_.emplace_back(begin, end);
    GRAFT_CHECK(states_.back().size() == states_.front().size(), "lane {} of another size", lane);
  }
}

Piece TrainStep::OwnOf(int64_t batch) const {
  if (!group_) return {0, batch};
  const std::vector<Counts> parts = CutBatch(batch, capacity_, {});
  const int64_t n = std::ssize(parts);
  const int64_t lanes = std::clamp<int64_t>(n, 1, session_.options().lanes);
  const Piece own = group_->Mine(lanes);
  const auto first = [&](int64_t lane) {  // sequence of a lane
    const int64_t part = lane < lanes ? EvenPiece(n, lanes, lane).begin : n;
    return std::accumulate(parts.begin(), parts.begin() + part, int64_t{0},
                           [](int64_t sum, const Counts& p) { return sum + p.sequences; });
  };
  const int64_t begin = first(own.begin);
  return {begin, first(own.begin + own.size) - begin};
}

void TrainStep::AddUpLanes(int lanes) {
  if (!group_) return session_.SumStates(lanes);
  group_->SumInOrder(std::span(states_).first(lanes));
}

StepResult TrainStep::Run(std::span<const Counts> parts, int64_t step, double learning_rate,
                          const Fill& fill, double losses) {
  StepResult result = Accumulate(parts, step, fill, losses);
  // A loss that is not finite must not reach the weights: the caller stops with the last good ones.
  if (!std::isfinite(result.loss)) return result;
  for (const Hyper& hyper : hyper_) {
    const double t = static_cast<double>(hyper.updates ? ++*hyper.updates : step + 1);
    float* values = hyper.values.f32();
    values[0] = static_cast<float>(learning_rate * hyper.factor);
    values[1] = static_cast<float>(1 - std::pow(optimizer_.beta1, t));
    values[2] = static_cast<float>(1 - std::pow(optimizer_.beta2, t));
  }
  if (update_rng_.data) update_rng_.i32()[0] = static_cast<int32_t>(step), update_rng_.i32()[1] = 0;
  session_.RunUpdate();
  if (optimizer_.clip > 0)
    result.gradient_norm = std::sqrt(session_.Output("gradient_norm_squared").f32()[0]);
  return result;
}

std::vector<std::string> TrainStep::trainable_names() const {
  std::vector<std::string> names;
  for (ValueId v : graph().Trainable()) names.push_back(graph().value(v).name);
  return names;
}

std::vector<std::string> TrainStep::optimizer_names() const {
  std::vector<std::string> names;
  for (const std::string& name : graph().ParamNames())
    if (name.starts_with("opt.")) names.push_back(name);
  return names;
}

}  // namespace graft
