// What a Session holds: steps and where their values live; arenas and arguments by worker.
#pragma once
#include <algorithm>
#include <span>
#include <vector>

#include "runtime/aligned_memory.h"
#include "runtime/lifetimes.h"
#include "runtime/session.h"

namespace graft {

// Sizes of the arenas are those of the largest session so far. Sessions that are built keep theirs
// alive.
struct SharedMemory::Impl {
  using Bytes = std::shared_ptr<std::byte>;
  PackedConstants packed;
  struct Block {
    Bytes bytes;
    size_t size = 0;
  };
  std::vector<Block> arenas, inputs;  // by worker
  Block states;                       // of all lanes
  Block once, threads;                // once: of sessions whose every run ends with updates
};

struct Session::Impl {
  struct Step {
    Kernel run;
    const Node* node;  // of `graph`
    std::shared_ptr<const void> state;
    size_t scratch_bytes = 0;
    bool in_place = false;
  };
  // Where a value lives. Offsets are into a worker's arena or inputs, or into a lane's states.
  struct Place {
    enum Kind { kNone, kFixed, kInput, kState, kArena } kind = kNone;
    size_t offset = 0;
    std::byte* fixed = nullptr;  // parameters and results of `once` nodes
  };
  // The arguments of a step's kernel on one worker.
  struct Call {
    std::span<Tensor> in, out;  // of the worker's
    std::byte* scratch = nullptr;
    ThreadScratch own;
    double seconds = 0;
    int64_t count = 0;
  };
  struct Worker {
    std::shared_ptr<std::byte> arena, inputs;
    std::vector<Call> calls;
    std::vector<Tensor> tensors;  // of all calls, in their order
    Counts bound{-1, -1};
    int lane = 0;
  };
  // An argument that moves with the lane.
  struct StateUse {
    size_t step, index;
    bool result;
    size_t offset;
  };

  Impl(Graph&& g, ParamStore& p, const Counts& capacity) : graph(std::move(g)), params(p) {
    extents.reserve(graph.num_values());
    for (uint32_t v = 0; v < graph.num_values(); ++v)
      extents.push_back(At(graph.shape({v}), capacity));
  }

  // The constructor of Session calls these in this order.
  void PlaceLeaves(const SessionOptions& options);
  void Prepare(const SessionOptions& options, std::vector<StepInfo>& info);
  std::shared_ptr<std::byte> OnceMemory(const SessionOptions& options, size_t bytes);
  MemoryPlan Plan(const SessionOptions& options);
  void MakeWorkers(const SessionOptions& options, size_t arena_bytes);
  static SharedMemory::Impl* Shared(const SessionOptions& options) {
    return options.shared ? options.shared->impl_.get() : nullptr;
  }
  void BindArguments(Worker& worker, const ThreadScratch& own);
  void BindExtents(Worker& worker, const Counts& counts) noexcept;
  void BindLane(Worker& worker, int lane) noexcept;
  void Finish() noexcept;
  std::byte* Address(ValueId v, const Worker& worker) const;
  std::byte* States(int lane) const {
    return states.get() + static_cast<size_t>(lane) * state_bytes;
  }
  bool IsConstant(ValueId v) const;  // a parameter that neither an update nor anybody else writes
  size_t BytesOf(ValueId v) const {  // at the capacity
    return static_cast<size_t>(std::max<int64_t>(0, extents[v.i].size())) *
           ByteSize(graph.type(v).dtype);
  }

  const Graph graph;
  ParamStore& params;
  NodeOrder order;
  std::vector<Step> steps;
  std::vector<std::function<void()>> unfinished;  // Prepared::finish, until the first run
  std::vector<Extents> extents;                   // by value, at the capacity
  std::vector<Place> place;                       // by value
  std::vector<bool> updated;                      // by value
  std::vector<size_t> scratch_offset;             // by step
  std::vector<StateUse> state_uses;
  std::vector<Worker> workers;
  std::shared_ptr<std::byte> once, threads;
  std::shared_ptr<std::byte> states;
  size_t input_bytes = 0, state_bytes = 0, once_bytes = 0, packed_bytes = 0, thread_bytes = 0;
};

}  // namespace graft
