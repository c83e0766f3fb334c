#include "runtime/dependence.h"

#include <algorithm>

#include "runtime/op.h"

namespace graft {
namespace {

// A value is in the set if it is a seed, or if `joins` says so of the node that makes it.
template <class Joins>
std::vector<bool> Walk(const Graph& g, std::span<const ValueId> seeds, const Joins& joins,
                       std::span<const NodeId> order = {}) {
  std::vector<bool> set(g.num_values());
  for (ValueId v : seeds) set[v.i] = true;
  std::vector<NodeId> own;
  if (order.empty()) order = own = g.TopoOrder();
  for (NodeId id : order) {
    const Node& n = g.node(id);
    if (!joins(n, [&](ValueId v) { return set[v.i]; })) continue;
    for (ValueId v : n.out) set[v.i] = true;
  }
  return set;
}

bool Varies(const Node& n) { return n.phase != Phase::kMain || n.op->random || n.in.empty(); }

}  // namespace

std::vector<bool> DependsOnAny(const Graph& g, std::span<const ValueId> seeds,
                               std::span<const NodeId> order) {
  return Walk(
      g, seeds, [](const Node& n, const auto& inside) { return std::ranges::any_of(n.in, inside); },
      order);
}

std::vector<bool> DependsOnlyOn(const Graph& g, std::span<const ValueId> seeds,
                                const std::function<bool(const Node&)>& breaks) {
  return Walk(g, seeds, [&](const Node& n, const auto& inside) {
    return !breaks(n) && std::ranges::all_of(n.in, inside);
  });
}

std::vector<bool> NeededForAny(const Graph& g, std::span<const ValueId> seeds) {
  std::vector<bool> set(g.num_values());
  for (ValueId v : seeds) set[v.i] = true;
  const std::vector<NodeId> order = g.TopoOrder();
  for (auto id = order.rbegin(); id != order.rend(); ++id) {
    const Node& n = g.node(*id);
    if (!std::ranges::any_of(n.out, [&](ValueId v) { return set[v.i]; })) continue;
    for (ValueId v : n.in) set[v.i] = true;
  }
  return set;
}

std::vector<bool> DependsOnlyOnParameters(const Graph& g, std::span<const NodeId> order) {
  return Walk(
      g, g.Leaves(Role::kParam),
      [](const Node& n, const auto& inside) {
        return !Varies(n) && std::ranges::all_of(n.in, inside);
      },
      order);
}

void ExtendOnlyOnParameters(const Graph& g, std::vector<bool>& known) {
  while (known.size() < g.num_values()) {
    const Value& value = g.value({static_cast<uint32_t>(known.size())});
    bool constant = value.role == Role::kParam;
    if (value.producer.valid()) {  // it read what was there when it was added
      const Node& n = g.node(value.producer);
      constant = !Varies(n) && std::ranges::all_of(n.in, [&](ValueId v) { return known[v.i]; });
    }
    known.push_back(constant);
  }
}

std::vector<ValueId> NeededOutside(const Graph& g, const std::vector<bool>& set) {
  std::vector<bool> result(g.num_values());
  for (const GraphOutput& o : g.outputs) result[o.value.i] = true;
  for (const Update& u : g.updates) result[u.value.i] = true;
  const auto outside = [&](NodeId user) { return !set[g.node(user).out[0].i]; };
  std::vector<ValueId> needed;
  for (uint32_t i = 0; i < g.num_values(); ++i)
    if (set[i] && g.IsAlive({i}) && (result[i] || std::ranges::any_of(g.users({i}), outside)))
      needed.push_back({i});
  return needed;
}

}  // namespace graft
