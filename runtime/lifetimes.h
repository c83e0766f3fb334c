// In which order the nodes of a graph run, and when each value needs memory. These are pure
// functions of the graph: the session that lays out the arena and the passes that ask what a graph
// would need use the same ones.
#pragma once
#include "runtime/memory_plan.h"
#include "runtime/op.h"
#include "runtime/rewrite.h"

namespace graft {

// The nodes in three groups, once | main | update. The first group is what depends on parameters
// only (dependence.h). In each, a node comes after those that make its operands, and one that
// updates a state or a parameter after the others that read it; ties are broken by id. Throws Error
// if updates wait for each other.
struct NodeOrder {
  std::vector<NodeId> nodes;
  size_t once_end = 0, main_end = 0;
};
// With kEarly, a node that does nothing but update comes first of all that may run. Its results
// have memory already, so this only ends the lives of its operands.
enum class UpdateTime : uint8_t { kById, kEarly };
NodeOrder OrderNodes(const Graph& g, UpdateTime updates = UpdateTime::kById);

// The pass "early_updates", which runs on a step after those that make nodes, and gives ids in the
// order kEarly. Fused accumulations, acc + dY' X, have the highest ids; without this pass they
// would wait for the end of the step, and with them everything that they read.
PassReport UpdateEarly(Graph& g);

// The leaf v of `from`, added to another graph.
ValueId CopyLeaf(const Graph& from, ValueId v, Graph& to);

// A result lives from its node to its last reader, an output to the end; scratch during its node. A
// result takes over the memory of an input that dies there if its record says so, and the value of
// an update has that of its target. Results and scratch of `once` nodes have a block of their own,
// where nothing is taken over. What main or update nodes read of it stays for every run, as no
// `once` node comes behind them; the rest may be written over: all `once` nodes run again together.
struct Lifetimes {
  std::vector<Interval> once, arena;  // in positions of the order
  std::vector<int> slot;              // by value: its interval, or -1 (a leaf, an update, unused)
  std::vector<int> scratch;           // by position: its interval, or -1
  std::vector<bool> in_place;         // by position: result 0 has an input's memory
};
// `scratch` holds the bytes that the kernel at each position asks for; it is empty if none asks.
// Without `share` every value has its memory all the time.
Lifetimes FindLifetimes(const Graph& g, const NodeOrder& order, std::span<const size_t> scratch,
                        const Counts& counts, bool share = true);
// Does the same with the bytes of each value, for callers that ask many times.
Lifetimes FindLifetimes(const Graph& g, const NodeOrder& order, std::span<const size_t> scratch,
                        std::span<const size_t> bytes, bool share = true);

size_t Bytes(const TensorType& type, const Counts& counts);

// What the record of the operator says, or zeros if it says nothing.
Cost CostOf(const Graph& g, const Node& n, const Counts& counts);

}  // namespace graft
