#include "autograd/recompute.h"

#include <algorithm>
#include <map>

#include "runtime/lifetimes.h"

namespace graft {

double ModelSeconds(const Cost& cost) {
  // Rates of two cores with AVX-512; the last term is what a call costs before any work.
  return std::max(cost.flops / 300e9, cost.bytes / 12e9) + 5e-6;
}

namespace {

constexpr size_t kLongestChain = 8;
constexpr size_t kTrials = 64;  // candidates of one step, best first
// An arena is laid out anew each time that so much less is alive, as a layout costs more than a
// step.
constexpr double kLayoutShare = 0.005;
constexpr size_t kMostKept = size_t{1} << 22;  // intervals to lay out later: 64 MiB

// Nodes that are cloned together, from first to last, for the readers of `values` after the peak.
struct Candidate {
  std::vector<NodeId> chain;
  std::vector<ValueId> values;
  double seconds = 0, per_byte = 0;
  int before = 0;  // position of the first of those readers
};

// What follows from the order of the nodes.
struct Timeline {
  Lifetimes life;
  std::vector<int> position;  // by node
  std::vector<int> last_use;  // by value
  int peak = 0;
  size_t peak_bytes = 0;
};

// What is alive at each time after some steps; and the bytes that its plan takes, or a lower bound
// of them if it is not laid out.
struct Attempt {
  RecomputeResult result;
  std::vector<Interval> arena;  // empty: it is known
};

// The smallest plan, the first of equal ones. Plans come close to their bounds, so that by going
// through the bounds in falling order only the last layouts have to be made.
RecomputeResult Smallest(const std::vector<Attempt>& attempts) {
  RecomputeResult best{0, SIZE_MAX, 0};
  for (auto at = attempts.rbegin(); at != attempts.rend(); ++at) {
    RecomputeResult result = at->result;
    if (result.arena_bytes > best.arena_bytes) continue;
    if (!at->arena.empty()) result.arena_bytes = PlanMemory(at->arena).bytes;
    if (result.arena_bytes <= best.arena_bytes) best = result;
  }
  return best;
}

class Recomputer {
 public:
  Recomputer(Graph& g, const RecomputeLimit& limit) : g_(g), limit_(limit), order_(OrderNodes(g)) {
    AddBytes();
    scratch_.resize(g.num_nodes());
    cost_.resize(g.num_nodes());
    for (NodeId id : order_.nodes)
      cost_[id.i] = ModelSeconds(CostOf(g, g.node(id), limit.capacity));
    for (const StepInfo& info : limit.kernels) {
      GRAFT_CHECK(info.node.i < g.num_nodes(), "kernels of another graph");
      scratch_[info.node.i] = info.scratch_bytes;
    }
    written_.resize(g.num_values());
    clone_.resize(g.num_values());
    for (const Update& u : g.updates)
      if (g.node(g.value(u.value).producer).phase == Phase::kMain) written_[u.target.i] = true;
    most_nodes_ = 2 * order_.main_end;
    Refresh();
  }

  RecomputeResult Run();
  Graph Result() const {
    Graph result = g_;
    result.Renumber(order_.nodes);
    return result;
  }

 private:
  void Refresh();
  bool Relieve();
  void Apply(const Candidate& c);
  void Undo(const Candidate& c);
  bool IsIdle(ValueId v) const;
  int64_t Saved(NodeId id) const;
  Candidate Evaluate(NodeId id) const;
  void Deepen(Candidate& c, int64_t saved) const;
  ValueId Operand(ValueId v, int before) const;

  void AddBytes() {
    for (uint32_t v = static_cast<uint32_t>(bytes_.size()); v < g_.num_values(); ++v)
      bytes_.push_back(Bytes(g_.type({v}), limit_.capacity));
  }
  int64_t Size(ValueId v) const { return static_cast<int64_t>(bytes_[v.i]); }
  bool IsLeaf(ValueId v) const { return !g_.value(v).producer.valid(); }
  // Whether a reader placed at `before` finds v there, without keeping v longer than now.
  bool Kept(ValueId v, int before) const {
    if (IsLeaf(v)) return true;
    const int made = now_.position[g_.value(v).producer.i];
    return made < before && (made > now_.peak || now_.last_use[v.i] > now_.peak);
  }
  bool Clonable(NodeId id) const {
    const Node& n = g_.node(id);
    const int t = now_.position[id.i];
    return t >= static_cast<int>(order_.once_end) && t < now_.peak &&
           std::none_of(n.in.begin(), n.in.end(),
                        [&](ValueId v) { return IsLeaf(v) && written_[v.i]; });
  }

  Graph& g_;
  const RecomputeLimit& limit_;
  NodeOrder order_;
  size_t most_nodes_ = 0;
  std::vector<size_t> bytes_;    // by value
  std::vector<size_t> scratch_;  // by node
  std::vector<double> cost_;     // by node: ModelSeconds
  std::vector<bool> written_;    // by leaf: an update in a Run changes it
  std::vector<ValueId> clone_;   // by value: the latest, if any
  int clones_ = 0;
  double seconds_ = 0;
  Timeline now_, before_;  // of the present order, and before the last Apply
  std::vector<std::pair<ValueId, ValueId>> clone_before_;  // what the last Apply changed
};

// An arena is laid out where it may be within the limit. The other plans only tell the smallest
// possible size, and are looked at if nothing is within the limit.
RecomputeResult Recomputer::Run() {
  RecomputeResult best{0, SIZE_MAX, 0};
  std::vector<Attempt> tried;
  size_t kept = 0;  // intervals in `tried`
  for (bool more = true;;) {
    Attempt now{{clones_, now_.peak_bytes, seconds_}, {}};
    if (now_.peak_bytes <= limit_.arena_bytes) {
      now.result.arena_bytes = PlanMemory(now_.life.arena).bytes;
      if (now.result.arena_bytes <= limit_.arena_bytes) return now.result;
    } else {
      now.arena = now_.life.arena;
      kept += now.arena.size();
    }
    tried.push_back(std::move(now));
    if (!more || kept > kMostKept) {
      const RecomputeResult smallest = Smallest(tried);
      if (smallest.arena_bytes < best.arena_bytes) best = smallest;
      tried.clear();
      kept = 0;
    }
    if (!more) return best;
    const double next = static_cast<double>(now_.peak_bytes) * (1 - kLayoutShare);
    do more = order_.main_end < most_nodes_ && Relieve();
    while (more && static_cast<double>(now_.peak_bytes) > next);
  }
}

void Recomputer::Refresh() {
  now_.position.assign(g_.num_nodes(), -1);
  now_.last_use.assign(g_.num_values(), -1);
  const int end = static_cast<int>(order_.nodes.size());
  std::vector<size_t> scratch;
  for (int t = 0; t < end; ++t) {
    const NodeId id = order_.nodes[t];
    now_.position[id.i] = t;
    scratch.push_back(scratch_[id.i]);
    for (ValueId v : g_.node(id).in) now_.last_use[v.i] = t;
    if (t < static_cast<int>(order_.once_end))
      for (ValueId v : g_.node(id).out) now_.last_use[v.i] = end;
  }
  for (const GraphOutput& o : g_.outputs) now_.last_use[o.value.i] = end;
  now_.life = FindLifetimes(g_, order_, scratch, bytes_);
  const std::vector<size_t> live = LiveBytes(now_.life.arena);
  const auto most = std::max_element(live.begin(), live.end());
  now_.peak = static_cast<int>(most - live.begin());
  now_.peak_bytes = *most;
}

// Whether v lies idle at the peak, for readers in the main phase.
bool Recomputer::IsIdle(ValueId v) const {
  return now_.life.slot[v.i] >= 0 && now_.last_use[v.i] > now_.peak &&
         now_.last_use[v.i] < static_cast<int>(order_.main_end) &&
         std::ranges::none_of(g_.users(v),
                              [&](NodeId reader) { return now_.position[reader.i] == now_.peak; });
}

// The bytes of the idle results of a node, if it would be needed twice: a node without a reader
// before the peak would not be.
int64_t Recomputer::Saved(NodeId id) const {
  int64_t saved = 0;
  for (ValueId v : g_.node(id).out)
    if (now_.last_use[v.i] > now_.peak && IsIdle(v)) saved += Size(v);
  if (saved == 0) return 0;
  for (ValueId v : g_.node(id).out)
    for (NodeId reader : g_.users(v))
      if (now_.position[reader.i] <= now_.peak) return saved;
  return 0;
}

// Builds the candidate around a node. One without values saves nothing.
Candidate Recomputer::Evaluate(NodeId id) const {
  Candidate c{{id}, {}, 0, 0, static_cast<int>(order_.main_end)};
  for (ValueId v : g_.node(id).out) {
    if (!IsIdle(v)) continue;
    c.values.push_back(v);
    for (NodeId reader : g_.users(v)) {
      const int t = now_.position[reader.i];
      if (t > now_.peak) c.before = std::min(c.before, t);
    }
  }
  Deepen(c, Saved(id));
  return c;
}

// What a clone placed at `before` reads for v if nothing is kept or made for it; invalid if v is
// gone by then.
ValueId Recomputer::Operand(ValueId v, int before) const {
  if (Kept(v, before)) return v;
  const ValueId again = clone_[v.i];
  return again.valid() && Kept(again, before) ? again : ValueId{};
}

// Operands that are gone after the peak are kept until the clone, which takes from what is saved,
// or their producers join the chain, and in turn theirs. The depth with the lowest cost per byte
// wins.
void Recomputer::Deepen(Candidate& c, int64_t saved) const {
  std::vector<NodeId> chain = c.chain;
  std::vector<ValueId> kept;  // for the clone
  std::vector<ValueId> gone;
  const auto add = [](std::vector<ValueId>& to, ValueId v) {
    if (std::find(to.begin(), to.end(), v) == to.end()) to.push_back(v);
  };
  for (ValueId v : g_.node(c.chain[0]).in)
    if (!Operand(v, c.before).valid()) add(gone, v);
  double seconds = cost_[chain[0].i];
  c.chain.clear();
  while (true) {
    int64_t gain = saved;
    for (ValueId v : kept) gain -= Size(v);
    for (ValueId v : gone) gain -= Size(v);
    if (gain > 0 && (c.chain.empty() || seconds / static_cast<double>(gain) < c.per_byte)) {
      c.chain = chain;
      c.seconds = seconds;
      c.per_byte = seconds / static_cast<double>(gain);
    }
    std::vector<ValueId> next;
    bool deeper = false;
    for (ValueId v : gone) {
      const NodeId producer = g_.value(v).producer;
      if (!Clonable(producer) || chain.size() >= kLongestChain) {
        add(kept, v);
        continue;
      }
      deeper = true;
      if (std::find(chain.begin(), chain.end(), producer) != chain.end()) continue;
      chain.push_back(producer);
      seconds += cost_[producer.i];
      for (ValueId u : g_.node(producer).in)
        if (!Operand(u, c.before).valid()) add(next, u);
    }
    if (!deeper) break;
    gone = std::move(next);
    // A value that the chain makes anyway need not be kept for it.
    std::erase_if(gone, [&](ValueId v) {
      return std::find(chain.begin(), chain.end(), g_.value(v).producer) != chain.end();
    });
  }
  if (c.chain.empty()) c.values.clear();
  std::sort(c.chain.begin(), c.chain.end(),
            [&](NodeId a, NodeId b) { return now_.position[a.i] < now_.position[b.i]; });
}

// Takes the best candidate after which less is alive at the peak, and no more elsewhere; returns
// false if there is none. A chain only adds time and takes from what is saved, so the time per byte
// of the node alone bounds it from below, and nodes beyond the best are not evaluated.
bool Recomputer::Relieve() {
  struct Choice {
    double per_byte;
    int at;              // position: the earlier of equal ones is first
    int candidate = -1;  // none: per_byte is the bound
  };
  std::vector<Choice> heap;
  std::vector<Candidate> candidates;
  for (int t = static_cast<int>(order_.once_end); t < now_.peak; ++t) {
    const NodeId id = order_.nodes[t];
    const int64_t saved = Saved(id);
    if (saved > 0 && Clonable(id)) heap.push_back({cost_[id.i] / static_cast<double>(saved), t});
  }
  const auto later = [](const Choice& a, const Choice& b) {
    return a.per_byte != b.per_byte ? a.per_byte > b.per_byte : a.at > b.at;
  };
  std::ranges::make_heap(heap, later);
  for (size_t trials = 0; trials < kTrials && !heap.empty();) {
    std::ranges::pop_heap(heap, later);
    const Choice choice = heap.back();
    heap.pop_back();
    if (choice.candidate < 0) {
      Candidate c = Evaluate(order_.nodes[choice.at]);
      if (c.values.empty()) continue;
      heap.push_back({c.per_byte, choice.at, static_cast<int>(candidates.size())});
      std::ranges::push_heap(heap, later);
      candidates.push_back(std::move(c));
      continue;
    }
    ++trials;
    const Candidate& c = candidates[choice.candidate];
    Apply(c);
    // Clones come after the peak, so that a peak of the same size may now be further on.
    if (now_.peak_bytes < before_.peak_bytes ||
        (now_.peak_bytes == before_.peak_bytes && now_.peak > before_.peak)) {
      clones_ += static_cast<int>(c.chain.size());
      seconds_ += c.seconds;
      return true;
    }
    Undo(c);
  }
  return false;
}

void Recomputer::Apply(const Candidate& c) {
  std::vector<std::vector<NodeId>> late;
  for (ValueId v : c.values) {
    late.emplace_back(g_.users(v).begin(), g_.users(v).end());
    std::erase_if(late.back(), [&](NodeId reader) { return now_.position[reader.i] < now_.peak; });
  }
  std::map<ValueId, ValueId> made;
  std::vector<NodeId> clones;
  for (NodeId id : c.chain) {
    const Node n = g_.node(id);  // a copy: Add moves the nodes
    std::vector<ValueId> in;
    for (ValueId v : n.in) {
      const auto own = made.find(v);
      const ValueId there = own != made.end() ? own->second : Operand(v, c.before);
      in.push_back(there.valid() ? there : v);
    }
    g_.scope = n.scope + ".recompute";
    const ValueList out = g_.Add(*n.op, std::move(in), n.attrs, n.built_at);
    for (size_t k = 0; k < out.size(); ++k) made[n.out[k]] = out[k];
    clones.push_back(g_.value(out[0]).producer);
    scratch_.push_back(scratch_[id.i]);
    cost_.push_back(cost_[id.i]);
  }
  g_.scope.clear();
  for (size_t k = 0; k < c.values.size(); ++k)
    g_.ReplaceUsesIn(c.values[k], made[c.values[k]], late[k]);
  order_.nodes.insert(order_.nodes.begin() + c.before, clones.begin(), clones.end());
  order_.main_end += clones.size();
  written_.resize(g_.num_values());
  clone_.resize(g_.num_values());
  AddBytes();
  clone_before_.clear();
  for (const auto& [v, again] : made) {
    clone_before_.push_back({v, clone_[v.i]});
    clone_[v.i] = again;
  }
  std::swap(now_, before_);
  Refresh();
}

// Takes the last Apply back.
void Recomputer::Undo(const Candidate& c) {
  for (ValueId v : c.values) g_.ReplaceUses(clone_[v.i], v);
  const auto first = order_.nodes.begin() + c.before;
  const auto last = first + static_cast<ptrdiff_t>(c.chain.size());
  for (auto id = last; id != first;) g_.EraseNode(*--id);
  order_.nodes.erase(first, last);
  order_.main_end -= c.chain.size();
  for (const auto& [v, again] : clone_before_) clone_[v.i] = again;
  std::swap(now_, before_);
}

}  // namespace

RecomputeResult Recompute(Graph& g, const RecomputeLimit& limit) {
  Graph work = g;
  Recomputer recomputer(work, limit);
  const RecomputeResult result = recomputer.Run();
  if (result.nodes > 0 && result.arena_bytes <= limit.arena_bytes) g = recomputer.Result();
  return result;
}

Pass RecomputePass(const RecomputeLimit& limit) {
  return {"recompute", [limit](Graph& g) {
            PassReport report;
            if (limit.arena_bytes != SIZE_MAX) report.rewrites = Recompute(g, limit).nodes;
            return report;
          }};
}

}  // namespace graft
