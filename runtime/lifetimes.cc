#include "runtime/lifetimes.h"

#include <algorithm>

#include "runtime/dependence.h"

namespace graft {

size_t Bytes(const TensorType& type, const Counts& counts) {
  return static_cast<size_t>(std::max<int64_t>(0, At(type.shape, counts).size())) *
         ByteSize(type.dtype);
}

Cost CostOf(const Graph& g, const Node& n, const Counts& counts) {
  std::vector<Extents> in, out;
  for (ValueId v : n.in) in.push_back(At(g.shape(v), counts));
  for (ValueId v : n.out) out.push_back(At(g.shape(v), counts));
  return n.op->cost ? n.op->cost(in, out, n.attrs) : Cost{};
}

NodeOrder OrderNodes(const Graph& g) {
  NodeOrder order{g.TopoOrder()};
  const std::vector<bool> fixed = DependsOnlyOnParameters(g);
  auto group = [&](NodeId id) {
    const Node& n = g.node(id);
    return fixed[n.out[0].i] ? 0 : n.phase == Phase::kMain ? 1 : 2;
  };
  std::stable_sort(order.nodes.begin(), order.nodes.end(),
                   [&](NodeId a, NodeId b) { return group(a) < group(b); });
  for (NodeId id : order.nodes) order.once_end += group(id) == 0, order.main_end += group(id) <= 1;
  return order;
}

namespace {

void CopyLeaf(const Graph& from, ValueId v, Graph& to) {
  const Value& leaf = from.value(v);
  if (leaf.role == Role::kInput) {
    to.AddInput(leaf.name, leaf.type);
  } else if (leaf.role == Role::kParam) {
    to.AddParam(leaf.name, leaf.type.shape, leaf.trainable);
  } else {
    to.AddState(leaf.name, leaf.type.shape);
  }
}

}  // namespace

Graph Renumbered(const Graph& g, std::span<const NodeId> order) {
  Graph result;
  std::vector<ValueId> to(g.num_values());
  for (uint32_t i = 0; i < g.num_values(); ++i) {
    if (g.value({i}).role == Role::kIntermediate || !g.IsAlive({i})) continue;
    to[i] = {static_cast<uint32_t>(result.num_values())};
    CopyLeaf(g, {i}, result);
  }
  for (NodeId id : order) {
    const Node& n = g.node(id);
    std::vector<ValueId> in;
    for (ValueId v : n.in) in.push_back(to[v.i]);
    result.scope = n.scope;
    result.phase = n.phase;
    const std::vector<ValueId> out = result.Add(*n.op, std::move(in), n.attrs, n.built_at);
    for (size_t k = 0; k < out.size(); ++k) {
      to[n.out[k].i] = out[k];
      result.SetName(out[k], g.value(n.out[k]).name);
    }
  }
  result.scope = g.scope;
  result.phase = g.phase;
  for (const GraphOutput& o : g.outputs) result.AddOutput(o.name, to[o.value.i]);
  for (const Update& u : g.updates) result.AddUpdate(to[u.target.i], to[u.value.i]);
  return result;
}

namespace {

class LifetimeFinder {
 public:
  LifetimeFinder(const Graph& g, const NodeOrder& order, std::span<const size_t> bytes, bool share)
      : g_(g), bytes_(bytes), end_(static_cast<int>(order.nodes.size())), share_(share) {
    last_use_.assign(g.num_values(), -1);
    in_update_.resize(g.num_values());
    of_once_.resize(g.num_values());
    life_.slot.assign(g.num_values(), -1);
    life_.scratch.assign(order.nodes.size(), -1);
    life_.in_place.resize(order.nodes.size());
    for (int t = 0; t < end_; ++t)
      for (ValueId v : g.node(order.nodes[static_cast<size_t>(t)]).in) last_use_[v.i] = t;
    for (const GraphOutput& o : g.outputs) last_use_[o.value.i] = end_;
    for (const Update& u : g.updates) in_update_[u.value.i] = true;
  }

  void Place(int t, const Node& n, bool once, size_t scratch) {
    const size_t at = static_cast<size_t>(t);
    std::vector<Interval>& block = once ? life_.once : life_.arena;
    for (size_t k = 0; k < n.out.size(); ++k) {
      const ValueId v = n.out[k];
      if (in_update_[v.i]) continue;
      const int last = once ? end_ : std::max(last_use_[v.i], t);
      if (const int taken = k == 0 && !once ? TakenOver(t, n) : -1; taken >= 0) {
        life_.slot[v.i] = taken;
        life_.in_place[at] = true;
        Interval& shared = life_.arena[static_cast<size_t>(taken)];
        shared.last = std::max(shared.last, last);
      } else {
        life_.slot[v.i] = Add(block, {bytes_[v.i], share_ ? t : 0, share_ ? last : end_});
        of_once_[v.i] = once;
      }
    }
    if (scratch) life_.scratch[at] = Add(block, {scratch, t, t});
  }

  Lifetimes Take() { return std::move(life_); }

 private:
  static int Add(std::vector<Interval>& block, Interval interval) {
    block.push_back(interval);
    return static_cast<int>(block.size()) - 1;
  }

  // The interval that result 0 of n takes over from an input; -1 if it needs its own.
  int TakenOver(int t, const Node& n) const {
    if (!share_ || n.op->in_place < 0) return -1;
    const size_t reused = static_cast<size_t>(n.op->in_place);
    if (reused >= n.in.size()) return -1;
    const ValueId source = n.in[reused];
    const int slot = life_.slot[source.i];
    const bool dies =
        slot >= 0 && !of_once_[source.i] && life_.arena[static_cast<size_t>(slot)].last == t;
    const bool fits = dies && std::count(n.in.begin(), n.in.end(), source) == 1 &&
                      bytes_[source.i] == bytes_[n.out[0].i];
    return fits ? slot : -1;
  }

  const Graph& g_;
  const std::span<const size_t> bytes_;  // by value
  const int end_;
  const bool share_;
  std::vector<int> last_use_;
  std::vector<bool> in_update_, of_once_;  // by value
  Lifetimes life_;
};

}  // namespace

Lifetimes FindLifetimes(const Graph& g, const NodeOrder& order, std::span<const size_t> scratch,
                        const Counts& counts, bool share) {
  std::vector<size_t> bytes(g.num_values());
  for (NodeId id : order.nodes)
    for (ValueId v : g.node(id).out) bytes[v.i] = Bytes(g.type(v), counts);
  return FindLifetimes(g, order, scratch, bytes, share);
}

Lifetimes FindLifetimes(const Graph& g, const NodeOrder& order, std::span<const size_t> scratch,
                        std::span<const size_t> bytes, bool share) {
  LifetimeFinder finder(g, order, bytes, share);
  for (size_t t = 0; t < order.nodes.size(); ++t)
    finder.Place(static_cast<int>(t), g.node(order.nodes[t]), t < order.once_end,
                 scratch.empty() ? 0 : scratch[t]);
  return finder.Take();
}

}  // namespace graft
