// From graph to steps: order, places, kernels, memory plan, arguments.
#include <sys/mman.h>

#include <algorithm>

#include "runtime/session_impl.h"

namespace graft {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;

size_t RoundUp(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

// Pages are touched only when used; large blocks ask for huge pages (fewer faults and TLB misses).
AlignedBytes AllocateAligned(size_t bytes) {
  if (bytes == 0) return nullptr;
  const size_t alignment = bytes >= 2 * kHugePage ? kHugePage : kAlignment;
  bytes = RoundUp(bytes, alignment);
  void* p = std::aligned_alloc(alignment, bytes);
  if (!p) Fail("cannot allocate {} MiB for activations", bytes >> 20);
  if (alignment == kHugePage) madvise(p, bytes, MADV_HUGEPAGE);
  return AlignedBytes(static_cast<std::byte*>(p));
}

size_t Bytes(const TensorType& type, const Counts& counts) {
  return static_cast<size_t>(std::max<int64_t>(0, At(type.shape, counts).size())) *
         ByteSize(type.dtype);
}

}  // namespace

// once | main | update, each in topological order.
void Session::Impl::Order() {
  order = graph.TopoOrder();
  std::vector<bool> fixed(graph.num_values());
  for (ValueId v : graph.Leaves(Role::kParam)) fixed[v.i] = true;
  std::vector<bool> once(graph.num_nodes());
  for (NodeId id : order) {
    const Node& n = graph.node(id);
    once[id.i] = n.phase == Phase::kMain && !n.in.empty() && !n.op->random &&
                 std::all_of(n.in.begin(), n.in.end(), [&](ValueId v) { return fixed[v.i]; });
    for (ValueId v : n.out) fixed[v.i] = once[id.i];
  }
  auto group = [&](NodeId id) {
    return once[id.i] ? 0 : graph.node(id).phase == Phase::kMain ? 1 : 2;
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](NodeId a, NodeId b) { return group(a) < group(b); });
  for (NodeId id : order) once_end += group(id) == 0, main_end += group(id) <= 1;
}

bool Session::Impl::IsConstant(ValueId v) const {
  const Value& value = graph.value(v);
  return value.role == Role::kParam && !value.trainable &&
         std::none_of(graph.updates.begin(), graph.updates.end(),
                      [&](const Update& u) { return u.target == v; });
}

void Session::Impl::PlaceLeaves(const SessionOptions& options) {
  place.resize(graph.num_values());
  for (ValueId v : graph.Leaves(Role::kParam)) {
    const Value& value = graph.value(v);
    const Extents want = At(value.type.shape, {});
    const Extents& have = params.shape(value.name);
    if (!(want == have))
      Fail("parameter '{}': the graph wants {}, the store has {}", value.name, ToString(want),
           ToString(have));
    // Mutable also for trainable ones without an update here: somebody is about to write them.
    place[v.i] = {Place::kFixed, 0,
                  IsConstant(v)
                      ? reinterpret_cast<std::byte*>(const_cast<float*>(params.data(value.name)))
                      : reinterpret_cast<std::byte*>(params.Mutable(value.name))};
  }
  const auto append = [&](Role role, Place::Kind kind, size_t& bytes, auto& ids) {
    for (ValueId v : graph.Leaves(role)) {
      place[v.i] = {kind, bytes, nullptr};
      bytes += RoundUp(Bytes(graph.type(v), options.capacity), kAlignment);
      ids[graph.value(v).name] = v;
    }
  };
  append(Role::kInput, Place::kInput, input_bytes, inputs);
  append(Role::kState, Place::kState, state_bytes, state_ids);
  for (const GraphOutput& o : graph.outputs) outputs[o.name] = o.value;
}

void Session::Impl::Prepare(const SessionOptions& options, std::vector<StepInfo>& info) {
  PackedConstants packed;
  for (size_t t = 0; t < order.size(); ++t) {
    const Node& n = graph.node(order[t]);
    std::vector<Extents> in, out;
    std::vector<const float*> constant;
    for (ValueId v : n.in) {
      in.push_back(At(graph.shape(v), options.capacity));
      constant.push_back(IsConstant(v) ? reinterpret_cast<const float*>(place[v.i].fixed)
                                       : nullptr);
    }
    for (ValueId v : n.out) out.push_back(At(graph.shape(v), options.capacity));
    Prepared prepared;
    if (n.op->prepare)
      prepared = n.op->prepare({in, out, constant, n.attrs, packed});
    else
      prepared.run = n.op->kernel;
    GRAFT_CHECK(prepared.run, "operator {} has no kernel", n.op->name);
    steps.push_back({prepared.run, n.attrs, prepared.state, prepared.scratch, false, n.in, n.out});
    packed_bytes += prepared.state_bytes;
    if (prepared.finish) unfinished.push_back(std::move(prepared.finish));
    info.push_back({order[t], std::string(n.op->name), n.scope,
                    prepared.impl.empty() ? "simd" : prepared.impl, n.phase, t < once_end,
                    n.op->cost ? n.op->cost(in, out, n.attrs) : Cost{}, 0, 0});
  }
}

ValueId Session::Impl::ShareRoot(ValueId v) const {
  while (alias[v.i] != v) v = alias[v.i];
  return v;
}

// Lifetimes: a result lives from its node to its last reader; results of `once` nodes and outputs
// to the end; scratch during its node. A result may take over the memory of an input that dies
// there, and the value of an update must take that of its target. Results and scratch of `once`
// nodes have a block of their own, which the workers share; the plan returned is a worker's arena.
MemoryPlan Session::Impl::Plan(const SessionOptions& options) {
  const int end = static_cast<int>(order.size());
  std::vector<int> last_use(graph.num_values(), -1);
  alias.resize(graph.num_values());
  for (uint32_t i = 0; i < alias.size(); ++i) alias[i] = {i};
  for (int t = 0; t < end; ++t)
    for (ValueId v : graph.node(order[static_cast<size_t>(t)]).in) last_use[v.i] = t;
  for (const GraphOutput& o : graph.outputs) last_use[o.value.i] = end;
  std::map<ValueId, ValueId> target_of;
  for (const Update& u : graph.updates) target_of[u.value] = u.target;

  std::vector<Interval> of_once, of_arena;
  std::vector<int> slot(graph.num_values(), -1), scratch_slot(steps.size(), -1);
  for (int t = 0; t < end; ++t) {
    Step& step = steps[static_cast<size_t>(t)];
    const Node& n = graph.node(order[static_cast<size_t>(t)]);
    const bool is_once = static_cast<size_t>(t) < once_end;
    std::vector<Interval>& intervals = is_once ? of_once : of_arena;
    for (size_t k = 0; k < n.out.size(); ++k) {
      const ValueId v = n.out[k];
      const int last = is_once ? end : std::max(last_use[v.i], t);
      const size_t bytes = Bytes(graph.type(v), options.capacity);
      if (const auto update = target_of.find(v); update != target_of.end()) {
        place[v.i] = place[update->second.i];
        continue;
      }
      const size_t reused = static_cast<size_t>(std::max(n.op->in_place, 0));
      const bool reuses = k == 0 && !is_once && n.op->in_place >= 0 && reused < n.in.size();
      const ValueId source = reuses ? n.in[reused] : ValueId{};
      // The end of a `once` result is never at a node: it has another block's slot, but never
      // joins.
      const bool joins = options.share_memory && source.valid() &&
                         graph.value(source).role == Role::kIntermediate &&
                         place[ShareRoot(source).i].kind == Place::kArena &&
                         intervals[static_cast<size_t>(slot[ShareRoot(source).i])].last == t &&
                         std::count(n.in.begin(), n.in.end(), source) == 1 &&
                         Bytes(graph.type(source), options.capacity) == bytes;
      if (joins) {
        alias[v.i] = source;
        step.in_place = true;
        Interval& shared = intervals[static_cast<size_t>(slot[ShareRoot(source).i])];
        shared.last = std::max(shared.last, last);
        continue;
      }
      place[v.i].kind = is_once ? Place::kFixed : Place::kArena;
      slot[v.i] = static_cast<int>(intervals.size());
      intervals.push_back({bytes, t, options.share_memory ? last : end});
      if (!options.share_memory) intervals.back().first = 0;
    }
    if (step.scratch_bytes) {
      scratch_slot[static_cast<size_t>(t)] = static_cast<int>(intervals.size());
      intervals.push_back({step.scratch_bytes, t, t});
    }
  }
  const MemoryPlan shared = PlanMemory(of_once), plan = PlanMemory(of_arena);
  once = AllocateAligned(shared.bytes);
  once_bytes = shared.bytes;
  for (uint32_t i = 0; i < graph.num_values(); ++i) {
    const ValueId root = ShareRoot({i});
    if (slot[root.i] < 0) continue;
    const size_t at = static_cast<size_t>(slot[root.i]);
    place[i] = place[root.i].kind == Place::kFixed
                   ? Place{Place::kFixed, 0, once.get() + shared.offset[at]}
                   : Place{Place::kArena, plan.offset[at], nullptr};
  }
  scratch_offset.resize(steps.size());
  for (size_t t = 0; t < steps.size(); ++t)
    if (scratch_slot[t] >= 0)
      scratch_offset[t] =
          (t < once_end ? shared : plan).offset[static_cast<size_t>(scratch_slot[t])];
  return plan;
}

std::byte* Session::Impl::Address(ValueId v, const Worker& worker) const {
  const Place& p = place[v.i];
  switch (p.kind) {
    case Place::kNone:
      return nullptr;
    case Place::kFixed:
      return p.fixed;
    case Place::kInput:
      return worker.inputs.get() + p.offset;
    case Place::kState:
      return States(worker.lane) + p.offset;
    case Place::kArena:
      return worker.arena.get() + p.offset;
  }
  return nullptr;
}

void Session::Impl::MakeWorkers(const SessionOptions& options, size_t arena_bytes) {
  GRAFT_CHECK(options.workers > 0 && options.lanes > 0);
  states = AllocateAligned(state_bytes * static_cast<size_t>(options.lanes));
  // Not memset, which takes no null for no bytes.
  std::fill_n(states.get(), state_bytes * static_cast<size_t>(options.lanes), std::byte{0});
  for (size_t t = 0; t < steps.size(); ++t)
    for (bool result : {false, true}) {
      const std::vector<ValueId>& ids = result ? steps[t].out : steps[t].in;
      for (size_t i = 0; i < ids.size(); ++i)
        if (place[ids[i].i].kind == Place::kState)
          state_uses.push_back({t, i, result, place[ids[i].i].offset});
    }
  workers.resize(static_cast<size_t>(options.workers));
  for (Worker& worker : workers) {
    worker.arena = AllocateAligned(arena_bytes);
    worker.inputs = AllocateAligned(input_bytes);
    std::fill_n(worker.inputs.get(), input_bytes, std::byte{0});
    for (size_t t = 0; t < steps.size(); ++t) {
      Call call;
      for (ValueId v : steps[t].in)
        call.in.push_back({Address(v, worker), graph.type(v).dtype, {}});
      for (ValueId v : steps[t].out)
        call.out.push_back({Address(v, worker), graph.type(v).dtype, {}});
      if (steps[t].scratch_bytes)
        call.scratch = (t < once_end ? once : worker.arena).get() + scratch_offset[t];
      worker.calls.push_back(std::move(call));
    }
    BindExtents(worker, options.capacity);
  }
}

void Session::Impl::BindExtents(Worker& worker, const Counts& counts) noexcept {
  for (size_t t = 0; t < steps.size(); ++t) {
    Call& call = worker.calls[t];
    for (size_t i = 0; i < call.in.size(); ++i)
      call.in[i].shape = At(graph.shape(steps[t].in[i]), counts);
    for (size_t i = 0; i < call.out.size(); ++i)
      call.out[i].shape = At(graph.shape(steps[t].out[i]), counts);
  }
  worker.bound = counts;
}

void Session::Impl::BindLane(Worker& worker, int lane) noexcept {
  for (const StateUse& use : state_uses) {
    Call& call = worker.calls[use.step];
    (use.result ? call.out : call.in)[use.index].data = States(lane) + use.offset;
  }
  worker.lane = lane;
}

}  // namespace graft
