// From graph to running code. Everything is fixed when a Session is built: order, addresses,
// kernels, packed weights, one arena. Run looks nothing up, allocates nothing and throws nothing.
//
// Nodes run in three groups: `once`, which depend on parameters only, at first and after parameters
// have changed; `main` at every Run; `update` (Phase::kUpdate) at every RunUpdate.
//
// Threads are used in one of two ways (ForEachRun chooses): inside kernels, for a single run; or,
// as that waits for the slowest thread after every kernel, by several runs beside each other, one
// thread each. For the latter a session has `workers`, each with inputs, arena and results of its
// own, and `lanes`, copies of the states: who adds to which copy is fixed by the caller, whatever
// thread does it, so that sums have the same bits at any number of threads. An arena has the same
// size whatever the threads; what kernels want for each thread lies beside it.
//
// Apart from runs on different workers and lanes, a session is not thread-safe; different sessions
// may share a ParamStore that nobody writes.
#pragma once
#include "runtime/memory_plan.h"
#include "runtime/op.h"
#include "runtime/params.h"
#include "runtime/threads.h"

namespace graft {

// What sessions that never run at the same time may have in common: packed weights, memory of
// inputs, values and states. What one has been given and has computed is valid until another one
// is, inputs are not zero at first, states are zero only after ZeroStates, and the store's buffers
// of frozen parameters must outlive it.
class SharedMemory {
 public:
  SharedMemory();
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;

 private:
  friend class Session;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct SessionOptions {
  Counts capacity;  // the largest batch that Run may bind
  int workers = 1, lanes = 1;
  int threads = 0;                 // with memory of their own inside kernels; 0 means Threads()
  bool share_memory = true;        // if not, every value has a place of its own (for tests)
  bool plan_only = false;          // the session tells what it would need, but has no memory to run
  bool poison = false;             // results and scratch are NaN before each kernel (for tests)
  SharedMemory* shared = nullptr;  // with sessions that come later; null: memory of its own
};

// One kernel call, for plan.json, `graft profile` and tests.
struct StepInfo {
  NodeId node;
  std::string op, scope, impl;
  Phase phase = Phase::kMain;
  bool once = false;
  Cost cost;                 // at capacity
  size_t scratch_bytes = 0;  // of its kernel, in the arena
  double seconds = 0;  // summed over profiled runs; n runs beside each other count one n-th each
  int64_t calls = 0;
};

class Session {
 public:
  // Parameters are read from `params`, which must outlive the session; those that the graph updates
  // are written there. Throws Error for a missing parameter or one of another shape.
  Session(Graph graph, ParamStore& params, SessionOptions options);
  ~Session();
  Session(Session&&) noexcept;
  Session(const Session&) = delete;

  // Returns the buffer of an input for the caller to fill, sized for the capacity. Throws Error
  // with the nearest name.
  Tensor Input(std::string_view name, int worker = 0);
  bool HasInput(std::string_view name) const;
  // Returns the buffer of a state, which is zero at first.
  Tensor State(std::string_view name, int lane = 0);
  // Zeroes the states of the first `lanes` lanes; adds them, in order, to those of the first.
  void ZeroStates(int lanes = 1) noexcept;
  void SumStates(int lanes) noexcept;

  // REQUIRES: counts within the capacity; Refresh came before runs that go on at the same time.
  void Run(const Counts& counts, int worker = 0, int lane = 0) noexcept;
  // Does what comes before a run: the rest of the preparation, once, and the `once` nodes, if
  // parameters have changed.
  void Refresh() noexcept;
  void RunUpdate() noexcept;  // on worker 0 and lane 0
  // Call after writing to the store from outside: the `once` nodes run again before the next Run.
  // Parameters that are frozen in the graph must not change: kernels may hold packed copies.
  void ParamsChanged() { params_changed_ = true; }

  // Returns a result with the extents of the last Run, which is valid until the next one.
  Tensor Output(std::string_view name, int worker = 0) const;

  void EnableProfile(bool on) { profile_ = on; }
  std::vector<StepInfo> steps() const;
  const MemoryPlan& memory() const { return memory_; }  // the arena of one worker
  // Arenas + inputs + states + results of `once` nodes + what kernels keep (packed weights).
  size_t planned_bytes() const {
    return shared_bytes_ + static_cast<size_t>(options_.workers) * worker_bytes_ +
           static_cast<size_t>(options_.lanes) * lane_bytes_ +
           static_cast<size_t>(std::max(options_.workers, options_.threads)) * thread_bytes_;
  }
  size_t packed_bytes() const { return packed_bytes_; }
  // The parts of planned_bytes that all workers share; that each worker, each lane and each thread
  // has. None depends on how many there are.
  size_t shared_bytes() const { return shared_bytes_; }
  size_t worker_bytes() const { return worker_bytes_; }
  size_t lane_bytes() const { return lane_bytes_; }
  size_t thread_bytes() const { return thread_bytes_; }
  Cost cost(Phase phase) const;  // at capacity
  const SessionOptions& options() const { return options_; }
  const Graph& graph() const;

 private:
  struct Impl;
  void Execute(size_t begin, size_t end, int worker) noexcept;

  SessionOptions options_;
  std::unique_ptr<Impl> impl_;
  std::vector<StepInfo> info_;
  MemoryPlan memory_;
  size_t packed_bytes_ = 0, shared_bytes_ = 0, worker_bytes_ = 0, lane_bytes_ = 0;
  size_t thread_bytes_ = 0;
  bool params_changed_ = true, profile_ = false;
};

// Whether ForEachRun gives each of n runs a thread of its own; otherwise all threads share a run.
inline bool RunsBesideEachOther(const Session& session, int64_t n) {
  const int workers = session.options().workers;
  return workers > 1 && workers >= Threads() && n >= workers;
}

// Calls run(i, worker) for i in [0, n), each of which calls Run on that worker: beside each other
// if there are at least as many as workers, else one after the other on worker 0 with the threads
// inside the kernels. `run` must not throw.
template <class F>
void ForEachRun(Session& session, int64_t n, const F& run) noexcept {
  session.Refresh();
  if (RunsBesideEachOther(session, n))
    ParallelFor(n, [&](int64_t i) { run(i, LoopThread()); });
  else
    for (int64_t i = 0; i < n; ++i) run(i, 0);
}

}  // namespace graft
