// From graph to steps: order, places, kernels, memory plan, arguments.
#include <algorithm>

#include "runtime/session_impl.h"

namespace graft {
namespace {

// The block that sessions share, which a larger one replaces.
template <class Block>
std::shared_ptr<std::byte> Grown(Block& block, size_t bytes) {
  if (!block.bytes || block.size < bytes) block = {AllocateAligned(bytes, "activations"), bytes};
  return block.bytes;
}

}  // namespace

bool Session::Impl::IsConstant(ValueId v) const {
  const Value& value = graph.value(v);
  return value.role == Role::kParam && !value.trainable && !updated[v.i];
}

void Session::Impl::PlaceLeaves(const SessionOptions& options) {
  place.resize(graph.num_values());
  updated.resize(graph.num_values());
  for (const Update& u : graph.updates) updated[u.target.i] = true;
  for (ValueId v : graph.Leaves(Role::kParam)) {
    const Value& value = graph.value(v);
    const ParamStore::Entry& entry = params.Get(value.name);
    if (const TensorType have = entry.type(); !(value.type == have))
      Fail("parameter '{}': the graph wants {}, the store has {}", value.name, ToString(value.type),
           ToString(have));
    // Trainable ones without an update here are mutable, too: somebody is about to write them.
    void* data = IsConstant(v) ? const_cast<void*>(entry.data) : params.Mutable(value.name);
    place[v.i] = {Place::kFixed, 0, static_cast<std::byte*>(data)};
  }
  const auto append = [&](Role role, Place::Kind kind, size_t& bytes) {
    for (ValueId v : graph.Leaves(role)) {
      for (const Dim& d : graph.shape(v))
        if (d.tokens > 0 && options.capacity.tokens == 0 && options.capacity.sequences > 0)
          Fail("capacity: no tokens, but '{}' is {}; hint: {{sequences, tokens}}",
               graph.value(v).name, ToString(graph.type(v)));
      place[v.i] = {kind, bytes, nullptr};
      bytes += RoundUpAligned(BytesOf(v));
    }
  };
  append(Role::kInput, Place::kInput, input_bytes);
  append(Role::kState, Place::kState, state_bytes);
}

void Session::Impl::Prepare(const SessionOptions& options, std::vector<StepInfo>& info) {
  PackedConstants own;
  PackedConstants& packed = options.shared ? Shared(options)->packed : own;
  std::vector<Extents> in, out;
  std::vector<DType> in_type;
  std::vector<const float*> constant;
  steps.reserve(order.nodes.size()), info.reserve(order.nodes.size());
  for (size_t t = 0; t < order.nodes.size(); ++t) {
    const Node& n = graph.node(order.nodes[t]);
    in.clear(), out.clear(), in_type.clear(), constant.clear();
    for (ValueId v : n.in) {
      in.push_back(extents[v.i]);
      in_type.push_back(graph.type(v).dtype);
      const bool floats = IsConstant(v) && graph.type(v).dtype == DType::kF32;
      constant.push_back(floats ? reinterpret_cast<const float*>(place[v.i].fixed) : nullptr);
    }
    for (ValueId v : n.out) out.push_back(extents[v.i]);
    Prepared prepared;
    if (n.op->prepare)
      prepared = n.op->prepare({in, out, constant, n.attrs, packed, in_type});
    else
      prepared.run = n.op->kernel;
    GRAFT_CHECK(prepared.run, "operator {} has no kernel", n.op->name);
    steps.push_back({prepared.run, &n, std::move(prepared.state), prepared.scratch});
    packed_bytes += prepared.state_bytes;
    thread_bytes = std::max(thread_bytes, RoundUpAligned(prepared.thread_scratch));
    if (prepared.finish) unfinished.push_back(std::move(prepared.finish));
    info.push_back({order.nodes[t], std::string(n.op->name), n.scope,
                    prepared.impl.empty() ? "simd" : prepared.impl, n.phase, t < order.once_end,
                    CostOf(graph, n, options.capacity), prepared.scratch, 0, 0});
  }
}

// What was made of parameters alone is made anew at the first run and after updates, so sessions
// that update in each run may write over each other's.
std::shared_ptr<std::byte> Session::Impl::OnceMemory(const SessionOptions& options, size_t bytes) {
  SharedMemory::Impl* shared = Shared(options);
  if (shared && !graph.updates.empty()) return Grown(shared->once, bytes);
  return AllocateAligned(bytes, "activations");
}

// The workers share the block of `once` results; the plan returned is a worker's arena.
MemoryPlan Session::Impl::Plan(const SessionOptions& options) {
  std::vector<size_t> scratch, bytes(graph.num_values());
  for (const Step& step : steps) {
    scratch.push_back(step.scratch_bytes);
    for (ValueId v : step.node->out) bytes[v.i] = BytesOf(v);
  }
  const Lifetimes life = FindLifetimes(graph, order, scratch, bytes, options.share_memory);
  const MemoryPlan shared = PlanMemory(life.once), plan = PlanMemory(life.arena);
  if (!options.plan_only) once = OnceMemory(options, shared.bytes);
  once_bytes = shared.bytes;
  scratch_offset.resize(steps.size());
  for (size_t t = 0; t < steps.size(); ++t) {
    const bool is_once = t < order.once_end;
    const std::vector<size_t>& offset = is_once ? shared.offset : plan.offset;
    steps[t].in_place = life.in_place[t];
    if (life.scratch[t] >= 0) scratch_offset[t] = offset[life.scratch[t]];
    for (ValueId v : steps[t].node->out) {
      if (life.slot[v.i] < 0) continue;
      const size_t at = offset[life.slot[v.i]];
      place[v.i] =
          is_once ? Place{Place::kFixed, 0, once.get() + at} : Place{Place::kArena, at, nullptr};
    }
  }
  for (const Update& u : graph.updates) place[u.value.i] = place[u.target.i];
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
  SharedMemory::Impl* shared = Shared(options);
  const size_t all_states = state_bytes * static_cast<size_t>(options.lanes);
  if (shared) {
    states = Grown(shared->states, all_states);
    for (auto* blocks : {&shared->arenas, &shared->inputs})
      blocks->resize(std::max(blocks->size(), static_cast<size_t>(options.workers)));
  } else {
    states = AllocateAligned(all_states, "activations");
    // This is no memset, which takes no null for no bytes.
    std::fill_n(states.get(), all_states, std::byte{0});
  }
  for (size_t t = 0; t < steps.size(); ++t)
    for (bool result : {false, true}) {
      const ValueList& ids = result ? steps[t].node->out : steps[t].node->in;
      for (size_t i = 0; i < ids.size(); ++i)
        if (place[ids[i].i].kind == Place::kState)
          state_uses.push_back({t, i, result, place[ids[i].i].offset});
    }
  // Runs beside each other use one thread each; a run alone, on the first worker, uses them all.
  const int most = std::max(options.workers, options.threads);
  const size_t of_threads = thread_bytes * static_cast<size_t>(most);
  if (shared)
    threads = Grown(shared->threads, of_threads);
  else
    threads = AllocateAligned(of_threads, "activations");
  workers.resize(options.workers);
  for (size_t w = 0; w < workers.size(); ++w) {
    Worker& worker = workers[w];
    const ThreadScratch own{threads.get() + w * thread_bytes, thread_bytes, w == 0 ? most : 1};
    worker.arena = shared ? Grown(shared->arenas[w], arena_bytes)
                          : std::shared_ptr<std::byte>(AllocateAligned(arena_bytes, "activations"));
    if (shared) {
      worker.inputs = Grown(shared->inputs[w], input_bytes);
    } else {
      worker.inputs = AllocateAligned(input_bytes, "activations");
      std::fill_n(worker.inputs.get(), input_bytes, std::byte{0});
    }
    BindArguments(worker, own);
    worker.bound = options.capacity;
  }
}

// The arguments of all calls, with the extents of the capacity.
void Session::Impl::BindArguments(Worker& worker, const ThreadScratch& own) {
  size_t tensors = 0;
  for (const Step& step : steps) tensors += step.node->in.size() + step.node->out.size();
  worker.tensors.reserve(tensors);
  worker.calls.reserve(steps.size());
  const auto append = [&](const ValueList& ids) {
    const size_t begin = worker.tensors.size();
    for (ValueId v : ids)
      worker.tensors.push_back({Address(v, worker), graph.type(v).dtype, extents[v.i]});
    return std::span(worker.tensors).subspan(begin);
  };
  for (size_t t = 0; t < steps.size(); ++t) {
    Call& call = worker.calls.emplace_back();
    call.own = own;
    call.in = append(steps[t].node->in), call.out = append(steps[t].node->out);
    if (steps[t].scratch_bytes)
      call.scratch = (t < order.once_end ? once.get() : worker.arena.get()) + scratch_offset[t];
  }
}

void Session::Impl::BindExtents(Worker& worker, const Counts& counts) noexcept {
  for (size_t t = 0; t < steps.size(); ++t) {
    Call& call = worker.calls[t];
    for (size_t i = 0; i < call.in.size(); ++i)
      call.in[i].shape = At(graph.shape(steps[t].node->in[i]), counts);
    for (size_t i = 0; i < call.out.size(); ++i)
      call.out[i].shape = At(graph.shape(steps[t].node->out[i]), counts);
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
