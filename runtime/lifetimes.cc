#include "runtime/lifetimes.h"

#include <algorithm>
#include <functional>
#include <queue>

#include "runtime/dependence.h"

namespace graft {

size_t Bytes(const TensorType& type, const Counts& counts) {
  return static_cast<size_t>(std::max<int64_t>(0, At(type.shape, counts).size())) *
         ByteSize(type.dtype);
}

Cost CostOf(const Graph& g, const Node& n, const Counts& counts) {
  if (!n.op->cost) return {};
  std::vector<Extents> in, out;
  std::vector<DType> in_type, out_type;
  uint32_t frozen = 0;
  for (ValueId v : n.in) {
    const Value& value = g.value(v);
    if (value.role == Role::kParam && !value.trainable && in.size() < 32) frozen |= 1u << in.size();
    in.push_back(At(value.type.shape, counts)), in_type.push_back(value.type.dtype);
  }
  for (ValueId v : n.out)
    out.push_back(At(g.shape(v), counts)), out_type.push_back(g.type(v).dtype);
  return n.op->cost({in, out, n.attrs, in_type, out_type, frozen});
}

namespace {

// Whether all results take the place of states or parameters. Such a node needs no memory of its
// own, and its operands may go when it has run.
bool OnlyUpdates(const Node& n, const std::vector<bool>& in_update) {
  return std::ranges::all_of(n.out, [&](ValueId v) { return in_update[v.i]; });
}

// Orders live nodes by dependence, and by `key` where that leaves a choice. Beside its operands, a
// node that writes a state or a parameter waits for the others of its group that read it, as they
// want the value before.
class Scheduler {
 public:
  using Key = uint64_t;  // of a node: its group, then whether it is no early update, then its id
  static Key MakeKey(int group, bool late, uint32_t id) {
    return static_cast<uint64_t>(group) << 33 | static_cast<uint64_t>(late) << 32 | id;
  }

  Scheduler(const Graph& g, std::vector<Key> key)
      : g_(g), key_(std::move(key)), waiting_(g.num_nodes()), writers_(g.num_nodes()) {
    for (const Update& u : g.updates) {
      const NodeId writer = g.value(u.value).producer;
      for (NodeId reader : g.users(u.target))
        if (reader != writer && Group(reader) == Group(writer))
          writers_[reader.i].push_back(writer), ++waiting_[writer.i];
    }
  }

  std::vector<NodeId> Run() {
    std::priority_queue<Key, std::vector<Key>, std::greater<>> ready;
    for (uint32_t i = 0; i < g_.num_nodes(); ++i) {
      if (!g_.node({i}).op) continue;
      for (ValueId v : g_.node({i}).in) waiting_[i] += g_.value(v).producer.valid();
      if (waiting_[i] == 0) ready.push(key_[i]);
    }
    std::vector<NodeId> order;
    order.reserve(g_.live_nodes());
    const auto done = [&](NodeId user) {
      if (--waiting_[user.i] == 0) ready.push(key_[user.i]);
    };
    while (!ready.empty()) {
      const NodeId id{static_cast<uint32_t>(ready.top())};
      ready.pop();
      order.push_back(id);
      for (ValueId v : g_.node(id).out) std::ranges::for_each(g_.users(v), done);
      std::ranges::for_each(writers_[id.i], done);
    }
    if (order.size() != g_.live_nodes())
      Fail("{} of {} nodes ordered: nodes read the values that each other's updates replace",
           order.size(), g_.live_nodes());
    return order;
  }

 private:
  int Group(NodeId id) const { return static_cast<int>(key_[id.i] >> 33); }

  const Graph& g_;
  const std::vector<Key> key_;                // by node
  std::vector<size_t> waiting_;               // by node: what has to run before it
  std::vector<std::vector<NodeId>> writers_;  // by node: of what it reads
};

}  // namespace

namespace {

// `fixed` is DependsOnlyOnParameters.
NodeOrder OrderWith(const Graph& g, const std::vector<bool>& fixed, UpdateTime updates) {
  std::vector<bool> in_update(g.num_values());
  for (const Update& u : g.updates) in_update[u.value.i] = true;
  std::vector<Scheduler::Key> key(g.num_nodes());
  NodeOrder order;
  for (uint32_t i = 0; i < g.num_nodes(); ++i) {
    const Node& n = g.node({i});
    if (!n.op) continue;
    const int group = fixed[n.out[0].i] ? 0 : n.phase == Phase::kMain ? 1 : 2;
    const bool early = updates == UpdateTime::kEarly && OnlyUpdates(n, in_update);
    key[i] = Scheduler::MakeKey(group, !early, i);
    order.once_end += group == 0, order.main_end += group <= 1;
  }
  order.nodes = Scheduler(g, std::move(key)).Run();
  return order;
}

}  // namespace

NodeOrder OrderNodes(const Graph& g, UpdateTime updates) {
  return OrderWith(g, DependsOnlyOnParameters(g), updates);
}

ValueId CopyLeaf(const Graph& from, ValueId v, Graph& to) {
  const Value& leaf = from.value(v);
  if (leaf.role == Role::kInput) return to.AddInput(leaf.name, leaf.type);
  if (leaf.role == Role::kState) return to.AddState(leaf.name, leaf.type.shape);
  return to.AddParam(leaf.name, leaf.type.shape, leaf.trainable, leaf.type.dtype);
}

PassReport UpdateEarly(Graph& g) {
  PassReport report{"early_updates", 0, g.live_nodes(), g.live_nodes(), 0};
  const std::vector<bool> fixed = DependsOnlyOnParameters(g);
  const NodeOrder before = OrderWith(g, fixed, UpdateTime::kById),
                  after = OrderWith(g, fixed, UpdateTime::kEarly);
  if (before.nodes == after.nodes) return report;
  std::vector<size_t> position(g.num_nodes());
  for (size_t t = 0; t < before.nodes.size(); ++t) position[before.nodes[t].i] = t;
  for (size_t t = 0; t < after.nodes.size(); ++t) report.rewrites += t < position[after.nodes[t].i];
  g.Renumber(after.nodes);
  return report;
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
      for (ValueId v : g.node(order.nodes[t]).in) last_use_[v.i] = t;
    for (const GraphOutput& o : g.outputs) last_use_[o.value.i] = end_;
    for (const Update& u : g.updates) in_update_[u.value.i] = true;
  }

  void Place(int t, const Node& n, bool once, size_t scratch) {
    const size_t at = static_cast<size_t>(t);
    std::vector<Interval>& block = once ? life_.once : life_.arena;
    for (size_t k = 0; k < n.out.size(); ++k) {
      const ValueId v = n.out[k];
      if (in_update_[v.i]) continue;
      const int last = std::max(last_use_[v.i], t);
      if (const int taken = k == 0 && !once ? TakenOver(t, n) : -1; taken >= 0) {
        life_.slot[v.i] = taken;
        life_.in_place[at] = true;
        Interval& shared = life_.arena[taken];
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

  // The interval that result 0 of n takes over from an input; -1 if it needs one of its own.
  int TakenOver(int t, const Node& n) const {
    if (!share_ || n.op->in_place < 0) return -1;
    const size_t reused = static_cast<size_t>(n.op->in_place);
    if (reused >= n.in.size()) return -1;
    const ValueId source = n.in[reused];
    const int slot = life_.slot[source.i];
    const bool dies = slot >= 0 && !of_once_[source.i] && life_.arena[slot].last == t;
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
