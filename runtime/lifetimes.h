// In which order the nodes of a graph run, and when each value needs memory. These are pure
// functions of the graph: the session that lays out the arena and the passes that ask what a graph
// would need use the same ones.
#pragma once
#include "runtime/memory_plan.h"
#include "runtime/op.h"

namespace graft {

// The nodes in three groups, once | main | update, each in the order of Graph::TopoOrder. The first
// group is what depends on parameters only (dependence.h).
struct NodeOrder {
  std::vector<NodeId> nodes;
  size_t once_end = 0, main_end = 0;
};
NodeOrder OrderNodes(const Graph& g);

// The same graph with node ids that follow `order`, so that it runs in that order (ids break the
// ties of Graph::TopoOrder). `order` holds every live node once, after those it reads, main nodes
// before update nodes. Value ids change too.
Graph Renumbered(const Graph& g, std::span<const NodeId> order);

// A result lives from its node to its last reader; results of `once` nodes and outputs to the end;
// scratch during its node. A result takes over the memory of an input that dies there if its record
// says so, and the value of an update has that of its target. Results and scratch of `once` nodes
// have a block of their own, where nothing is taken over.
struct Lifetimes {
  std::vector<Interval> once, arena;  // in positions of the order
  std::vector<int> slot;              // by value: its interval, or -1 (a leaf, an update, unused)
  std::vector<int> scratch;           // by position: its interval, or -1
  std::vector<bool> in_place;         // by position: result 0 has an input's memory
};
// `scratch` are the bytes that the kernel at each position asks for; it is empty if none asks.
// Without `share` every value has its memory all the time.
Lifetimes FindLifetimes(const Graph& g, const NodeOrder& order, std::span<const size_t> scratch,
                        const Counts& counts, bool share = true);
// The same with the bytes of each value, for who asks many times.
Lifetimes FindLifetimes(const Graph& g, const NodeOrder& order, std::span<const size_t> scratch,
                        std::span<const size_t> bytes, bool share = true);

size_t Bytes(const TensorType& type, const Counts& counts);

// What the record of the operator says, or zeros if it says nothing.
Cost CostOf(const Graph& g, const Node& n, const Counts& counts);

}  // namespace graft
