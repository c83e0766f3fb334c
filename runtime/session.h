// From graph to running code. Everything is fixed when a Session is built: order, addresses,
// kernels, packed weights, one arena. Run looks nothing up, allocates nothing and throws nothing.
//
// Nodes run in three groups: `once`, those fed by parameters only, again after the parameters
// changed; `main` at every Run; `update` (Phase::kUpdate) at every RunUpdate. Parallelism is inside
// kernels. Not thread-safe; different sessions may share a ParamStore that nobody writes.
#pragma once
#include "runtime/memory_plan.h"
#include "runtime/op.h"
#include "runtime/params.h"

namespace graft {

struct SessionOptions {
  Counts capacity;           // the largest batch that Run may bind
  bool share_memory = true;  // false: every value its own place (tests)
  bool poison = false;       // fill results and scratch with NaN before each kernel (tests)
};

// One kernel call, for plan.json, `graft profile` and tests.
struct StepInfo {
  NodeId node;
  std::string op, scope, impl;
  Phase phase = Phase::kMain;
  bool once = false;
  Cost cost;           // at capacity
  double seconds = 0;  // summed over profiled runs
  int64_t calls = 0;
};

class Session {
 public:
  // Parameters are read from `params`, which must outlive the session; those that the graph updates
  // are written there. Throws Error for a missing parameter or one of another shape.
  Session(const Graph& graph, ParamStore& params, SessionOptions options);
  ~Session();
  Session(Session&&) noexcept;
  Session(const Session&) = delete;

  // The caller's buffer of an input, sized for the capacity. Throws Error with the nearest name.
  Tensor Input(std::string_view name);
  bool HasInput(std::string_view name) const;
  // The buffer of a state, zero at first.
  Tensor State(std::string_view name);
  void ZeroStates() noexcept;

  void Run(const Counts& counts) noexcept;  // REQUIRES: counts within the capacity
  void RunUpdate() noexcept;
  // Call after writing to the store from outside: the `once` nodes run again before the next Run.
  // Parameters that are frozen in the graph must not change: kernels may hold packed copies.
  void ParamsChanged() { params_changed_ = true; }

  // A result with the extents of the last Run. Valid until the next Run.
  Tensor Output(std::string_view name) const;

  void EnableProfile(bool on) { profile_ = on; }
  const std::vector<StepInfo>& steps() const { return info_; }
  const MemoryPlan& memory() const { return memory_; }
  // Arena + inputs + states + what kernels keep (packed weights).
  size_t planned_bytes() const { return planned_bytes_; }
  size_t packed_bytes() const { return packed_bytes_; }
  Cost cost(Phase phase) const;  // at capacity
  const SessionOptions& options() const { return options_; }

 private:
  struct Impl;
  void Execute(size_t begin, size_t end) noexcept;

  SessionOptions options_;
  std::unique_ptr<Impl> impl_;
  std::vector<StepInfo> info_;
  MemoryPlan memory_;
  size_t planned_bytes_ = 0, packed_bytes_ = 0;
  bool params_changed_ = true, profile_ = false;
};

}  // namespace graft
