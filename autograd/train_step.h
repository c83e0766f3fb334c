// One training step as one compiled session: forward, backward and accumulation for each
// micro-batch, then clipping and update.
//
//   total loss = sum over the batch of losses[i] / batch size (or another number of losses)
//
// Each trainable parameter w has a state "acc.w" in every lane of the session. Lane l takes the
// l-th part of the batch, whatever thread it runs on, and adds up its micro-batches in order; then
// the lanes are added up in order. It has optimizer state "opt.m.w", "opt.v.w" (or "opt.buf.w") in
// the store, so a checkpoint is a list of names.
//
// Where the loss depends on w through values f of parameters alone (late_gradient.h), the states
// are of the cotangents of f, "acc.NAME OF f.INDEX", and the gradient of w is made of their sums in
// the update phase, before clipping. If data are computed with w as well, "acc.w" has that part.
#pragma once
#include <functional>

#include "runtime/passes.h"  // PassManager, PassReport
#include "runtime/session.h"

namespace graft {

class ProcessGroup;

enum class OptimizerKind { kAdamW, kSgd };

struct OptimizerConfig {
  OptimizerKind kind = OptimizerKind::kAdamW;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;  // AdamW
  double momentum = 0.9;                          // SGD
  double weight_decay = 0;
  double clip = 0;  // the global norm; 0 clips nothing
  // Whether a parameter of that name and rank decays. By default all do, as in torch.optim.
  std::function<bool(const std::string& name, int rank)> decays = {};
  // What the learning rate of a parameter is multiplied by, as that of a parameter group in
  // torch.optim: weight decay, which is by the rate, is multiplied with it. By default 1.
  std::function<double(const std::string& name, int rank)> rate_factor = {};
  // Changes a parameter's gradient behind clipping, before the optimizer gets it; `rng` is i32 [2]
  // = {step, 0}.
  std::function<ValueId(Graph&, ParamStore&, const std::string& name, ValueId gradient,
                        ValueId rng)>
      on_gradient = {};
  // How often each parameter has been updated, by name, where steps do not train all of them: AdamW
  // then corrects the bias by a parameter's own count, as in torch.optim, which skips tensors
  // without a gradient. The step counts on here, and the map must outlive it. If null, the number
  // of the step counts for all.
  std::map<std::string, int64_t>* updates = nullptr;
};

// Adds gradients, accumulators and updates to `g`, which must have the output "losses" [S,1]. New
// inputs: "inv_batch" [1] (1 / batch size), "hyper" [3] (ops.h; by HyperName one for each factor of
// the rate, or for each parameter), "one" [1]. New states: "acc.*" as
// above and "acc.loss". New parameters: "opt.*", created in `params` as zeros if missing.
void AddTrainStep(Graph& g, ParamStore& params, const OptimizerConfig& optimizer);

// The input with the scalars of a parameter's update: "hyper", "hyper.x16" where its rate is
// multiplied by 16, "hyper.NAME" with `updates`.
std::string HyperName(const OptimizerConfig& optimizer, const std::string& name, int rank);

struct StepResult {
  double loss = 0;           // mean over the batch
  double gradient_norm = 0;  // before clipping; 0 unless clipping is on
};

class TrainStep {
 public:
  // `loss_graph` is canonical (with the output "losses"); passes run on copies: `forward` before
  // the gradient is taken, `step` on the whole step.
  struct Passes {
    PassManager forward, step;
  };
  // How many lanes, workers and threads the session has. 0 lets the size of the trainable
  // parameters decide (lanes), or means Threads() (workers, threads). Workers and threads change no
  // result. Lanes do, as they change the order of sums.
  struct Parallel {
    int workers = 0, lanes = 0, threads = 0;
    SharedMemory* shared = nullptr;  // as in SessionOptions
  };
  // The capacity is the largest micro-batch; of texts, with its tokens.
  TrainStep(Graph loss_graph, ParamStore& params, const OptimizerConfig& optimizer,
            Counts capacity, const Passes& passes = {}, Parallel parallel = {0, 0, 0, nullptr});
  TrainStep(Graph loss_graph, ParamStore& params, const OptimizerConfig& optimizer,
            int64_t micro_batch, const Passes& passes = {}, Parallel parallel = {0, 0, 0, nullptr})
      : TrainStep(std::move(loss_graph), params, optimizer, Counts{micro_batch, 0}, passes,
                  parallel) {}

  // What the constructor compiles, for planning without a step: the graph after all passes, and how
  // it is to run.
  static Graph BuildGraph(Graph loss_graph, ParamStore& params, const OptimizerConfig& optimizer,
                          const Passes& passes, std::vector<PassReport>* reports = nullptr);
  static SessionOptions Options(const Graph& graph, const Counts& capacity, Parallel parallel);

  // fill(first, count, worker) writes the inputs of sequences [first, first+count) of the batch
  // into that worker's buffers of the session. Calls for different workers come at the same time,
  // and must not throw. `step` counts from 0; bias correction uses step + 1. A loss that is not
  // finite updates nothing. "rng" is filled in here.
  using Fill = std::function<void(int64_t first, int64_t count, int worker)>;
  StepResult Run(int64_t batch, int64_t step, double learning_rate, const Fill& fill,
                 double losses = 0);
  // Does the same for a batch that the caller has cut: micro-batch i has parts[i].sequences of
  // parts[i].tokens in all, both within the capacity. `losses` is what the sum is divided by: how
  // many losses count, the others being zeros, or the sum of their weights; 0 means the number of
  // sequences.
  StepResult Run(std::span<const Counts> parts, int64_t step, double learning_rate,
                 const Fill& fill, double losses = 0);
  // Does the first half of Run, which gives the loss and, in the states "acc.*", the gradients of
  // the batch; no parameter changes.
  StepResult Accumulate(std::span<const Counts> parts, int64_t step, const Fill& fill,
                        double losses = 0);

  // From here on the lanes are divided among the processes of a group, each of which makes the same
  // calls on equal parameters. `group` must outlive the step. The sums are those of one process,
  // bit by bit. Every Accumulate must come behind a Meet that found no failed process.
  void ShareWith(ProcessGroup* group);
  // The sequences of a batch of `batch` that this process computes, as Run(batch, ...) cuts it;
  // without a group all of them.
  Piece OwnOf(int64_t batch) const;

  Session& session() { return session_; }
  const Session& session() const { return session_; }
  const Graph& graph() const { return session_.graph(); }
  const std::vector<PassReport>& reports() const { return reports_; }
  int64_t micro_batch() const { return capacity_.sequences; }
  // Names in the store of what the steps change: parameters and optimizer state.
  std::vector<std::string> trainable_names() const;
  std::vector<std::string> optimizer_names() const;

 private:
  static Session Compiled(Graph graph, ParamStore& params, const Counts& capacity,
                          Parallel parallel);
  void AddUpLanes(int lanes);

  OptimizerConfig optimizer_;
  ProcessGroup* group_ = nullptr;
  std::vector<std::span<float>> states_;  // of each lane, in a row; where there is a group
  Counts capacity_;
  std::vector<PassReport> reports_;
  Session session_;
  // These are looked up once, the first two by worker. Without random nodes there is no rng, and
  // its data is null.
  std::vector<Tensor> inv_batch_, rng_;
  Tensor loss_, update_rng_;
  // The numbers of the optimizer: one set for each factor of the rate, with the count of steps, or
  // one for each parameter, with its own.
  struct Hyper {
    Tensor values;
    double factor = 1;
    int64_t* updates = nullptr;
  };
  std::vector<Hyper> hyper_;
  // The micro-batches of the last batch that was cut here, of `cut_` sequences, and the first
  // sequence of each of the current one. They are kept, so that a step of the same size allocates
  // nothing.
  int64_t cut_ = 0;
  std::vector<Counts> parts_;
  std::vector<int64_t> first_;
};

}  // namespace graft
