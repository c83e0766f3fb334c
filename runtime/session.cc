#include "runtime/session.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <map>

#include "runtime/verify.h"

namespace graft {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;

struct FreeDeleter {
  void operator()(std::byte* p) const { std::free(p); }
};
using AlignedBytes = std::unique_ptr<std::byte, FreeDeleter>;

// Pages are touched only when used; large blocks ask for huge pages (fewer faults and TLB misses).
AlignedBytes AllocateAligned(size_t bytes) {
  if (bytes == 0) return nullptr;
  const size_t alignment = bytes >= 2 * kHugePage ? kHugePage : kAlignment;
  bytes = (bytes + alignment - 1) / alignment * alignment;
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

struct Session::Impl {
  struct Step {
    Kernel run;
    Attrs attrs;
    std::vector<Tensor> in, out;
    std::shared_ptr<const void> state;
    std::byte* scratch = nullptr;
    size_t scratch_bytes = 0;
    bool in_place = false;
    std::vector<ValueId> in_id, out_id;
  };

  Impl(const Graph& g, ParamStore& p) : graph(g), params(p) {}

  void Order();
  void BindLeaves(const SessionOptions& options);
  void Prepare(const SessionOptions& options, std::vector<StepInfo>& info);
  MemoryPlan Plan(const SessionOptions& options);
  void BindSteps();
  void BindExtents(const Counts& counts) noexcept;
  bool IsConstant(ValueId v) const;
  ValueId ShareRoot(ValueId v) const;

  Graph graph;
  ParamStore& params;
  std::vector<NodeId> order;
  size_t once_end = 0, main_end = 0;
  std::vector<Step> steps;
  std::vector<std::byte*> address;  // by value
  std::vector<ValueId> alias;       // by value: whose memory it takes (itself if none)
  AlignedBytes arena, leaves;
  std::vector<std::pair<std::byte*, size_t>> states;
  std::map<std::string, ValueId, std::less<>> inputs, state_ids, outputs;
  size_t leaf_bytes = 0, state_bytes = 0;
  Counts bound{-1, -1};
};

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

void Session::Impl::BindLeaves(const SessionOptions& options) {
  address.assign(graph.num_values(), nullptr);
  for (ValueId v : graph.Leaves(Role::kParam)) {
    const Value& value = graph.value(v);
    const Extents want = At(value.type.shape, {});
    const Extents& have = params.shape(value.name);
    if (!(want == have))
      Fail("parameter '{}': the graph wants {}, the store has {}", value.name, ToString(want),
           ToString(have));
    // Mutable also for trainable ones without an update here: somebody is about to write them.
    address[v.i] = IsConstant(v)
                       ? reinterpret_cast<std::byte*>(const_cast<float*>(params.data(value.name)))
                       : reinterpret_cast<std::byte*>(params.Mutable(value.name));
  }
  std::vector<std::pair<ValueId, size_t>> place;
  for (Role role : {Role::kInput, Role::kState})
    for (ValueId v : graph.Leaves(role)) {
      place.emplace_back(v, leaf_bytes);
      const size_t bytes = Bytes(graph.type(v), options.capacity);
      leaf_bytes += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    }
  leaves = AllocateAligned(leaf_bytes);
  for (auto [v, offset] : place) {
    address[v.i] = leaves.get() + offset;
    const size_t bytes = Bytes(graph.type(v), options.capacity);
    std::fill_n(address[v.i], bytes, std::byte{0});  // memset takes no null, for no bytes
    if (graph.value(v).role == Role::kState) {
      states.emplace_back(address[v.i], bytes);
      state_ids[graph.value(v).name] = v;
    } else {
      inputs[graph.value(v).name] = v;
    }
  }
  for (const GraphOutput& o : graph.outputs) outputs[o.name] = o.value;
}

void Session::Impl::Prepare(const SessionOptions& options, std::vector<StepInfo>& info) {
  for (size_t t = 0; t < order.size(); ++t) {
    const Node& n = graph.node(order[t]);
    std::vector<Extents> in, out;
    std::vector<const float*> constant;
    for (ValueId v : n.in) {
      in.push_back(At(graph.shape(v), options.capacity));
      constant.push_back(IsConstant(v) ? reinterpret_cast<const float*>(address[v.i]) : nullptr);
    }
    for (ValueId v : n.out) out.push_back(At(graph.shape(v), options.capacity));
    Prepared prepared;
    if (n.op->prepare)
      prepared = n.op->prepare({in, out, constant, n.attrs});
    else
      prepared.run = n.op->kernel;
    GRAFT_CHECK(prepared.run, "operator {} has no kernel", n.op->name);
    Step step{prepared.run, n.attrs,          {},    {},   prepared.state,
              nullptr,      prepared.scratch, false, n.in, n.out};
    for (ValueId v : n.in) step.in.push_back({nullptr, graph.type(v).dtype, {}});
    for (ValueId v : n.out) step.out.push_back({nullptr, graph.type(v).dtype, {}});
    steps.push_back(std::move(step));
    state_bytes += prepared.state_bytes;
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
// there, and the value of an update must take that of its target.
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

  std::vector<Interval> intervals;
  std::vector<int> slot(graph.num_values(), -1);
  std::vector<std::pair<size_t, size_t>> scratch;  // step, interval
  for (int t = 0; t < end; ++t) {
    Step& step = steps[static_cast<size_t>(t)];
    const Node& n = graph.node(order[static_cast<size_t>(t)]);
    for (size_t k = 0; k < n.out.size(); ++k) {
      const ValueId v = n.out[k];
      const bool once = static_cast<size_t>(t) < once_end;
      const int last = once ? end : std::max(last_use[v.i], t);
      const size_t bytes = Bytes(graph.type(v), options.capacity);
      if (const auto update = target_of.find(v); update != target_of.end()) {
        address[v.i] = address[update->second.i];
        continue;
      }
      const size_t reused = static_cast<size_t>(std::max(n.op->in_place, 0));
      const bool reuses = k == 0 && n.op->in_place >= 0 && reused < n.in.size();
      const ValueId source = reuses ? n.in[reused] : ValueId{};
      const bool joins = options.share_memory && source.valid() &&
                         graph.value(source).role == Role::kIntermediate &&
                         slot[ShareRoot(source).i] >= 0 &&
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
      slot[v.i] = static_cast<int>(intervals.size());
      intervals.push_back({bytes, t, options.share_memory ? last : end});
      if (!options.share_memory) intervals.back().first = 0;
    }
    if (step.scratch_bytes) {
      scratch.emplace_back(t, intervals.size());
      intervals.push_back({step.scratch_bytes, t, t});
    }
  }
  MemoryPlan plan = PlanMemory(intervals);
  arena = AllocateAligned(plan.bytes);
  for (uint32_t i = 0; i < graph.num_values(); ++i)
    if (slot[ShareRoot({i}).i] >= 0)
      address[i] = arena.get() + plan.offset[static_cast<size_t>(slot[ShareRoot({i}).i])];
  for (auto [t, interval] : scratch) steps[t].scratch = arena.get() + plan.offset[interval];
  return plan;
}

void Session::Impl::BindSteps() {
  for (Step& step : steps) {
    for (size_t i = 0; i < step.in.size(); ++i) step.in[i].data = address[step.in_id[i].i];
    for (size_t i = 0; i < step.out.size(); ++i) step.out[i].data = address[step.out_id[i].i];
  }
}

void Session::Impl::BindExtents(const Counts& counts) noexcept {
  for (Step& step : steps) {
    for (size_t i = 0; i < step.in.size(); ++i)
      step.in[i].shape = At(graph.shape(step.in_id[i]), counts);
    for (size_t i = 0; i < step.out.size(); ++i)
      step.out[i].shape = At(graph.shape(step.out_id[i]), counts);
  }
  bound = counts;
}

Session::Session(const Graph& graph, ParamStore& params, SessionOptions options)
    : options_(options), impl_(std::make_unique<Impl>(graph, params)) {
  Verify(graph);
  impl_->Order();
  impl_->BindLeaves(options_);
  impl_->Prepare(options_, info_);
  memory_ = impl_->Plan(options_);
  impl_->BindSteps();
  impl_->BindExtents(options_.capacity);
  for (const Update& u : graph.updates) {
    const Node& n = graph.node(graph.value(u.value).producer);
    const auto& out = n.out;
    GRAFT_CHECK(!out.empty() && std::find(n.in.begin(), n.in.end(), u.target) != n.in.end(),
                "{} does not read '{}' that it updates", n.op->name, graph.value(u.target).name);
  }
  packed_bytes_ = impl_->state_bytes;
  planned_bytes_ = memory_.bytes + impl_->leaf_bytes + impl_->state_bytes;
}

Session::~Session() = default;
Session::Session(Session&&) noexcept = default;

namespace {

ValueId FindByName(const std::map<std::string, ValueId, std::less<>>& map, std::string_view name,
                   const char* kind) {
  if (const auto it = map.find(name); it != map.end()) return it->second;
  std::vector<std::string> names;
  for (const auto& [known, v] : map) names.push_back(known);
  Fail("the graph has no {} '{}'{}", kind, name, DidYouMean(name, names));
}

}  // namespace

Tensor Session::Input(std::string_view name) {
  const ValueId v = FindByName(impl_->inputs, name, "input");
  return {impl_->address[v.i], impl_->graph.type(v).dtype,
          At(impl_->graph.shape(v), options_.capacity)};
}

bool Session::HasInput(std::string_view name) const { return impl_->inputs.contains(name); }

Tensor Session::State(std::string_view name) {
  const ValueId v = FindByName(impl_->state_ids, name, "state");
  return {impl_->address[v.i], DType::kF32, At(impl_->graph.shape(v), {})};
}

Tensor Session::Output(std::string_view name) const {
  const ValueId v = FindByName(impl_->outputs, name, "output");
  return {impl_->address[v.i], impl_->graph.type(v).dtype, At(impl_->graph.shape(v), impl_->bound)};
}

void Session::ZeroStates() noexcept {
  for (auto [data, bytes] : impl_->states) std::fill_n(data, bytes, std::byte{0});
}

void Session::Execute(size_t begin, size_t end) noexcept {
  using Clock = std::chrono::steady_clock;
  for (size_t t = begin; t < end; ++t) {
    Impl::Step& step = impl_->steps[t];
    if (options_.poison && !step.in_place) {
      const float nan = std::numeric_limits<float>::quiet_NaN();
      for (const Tensor& out : step.out)
        if (std::none_of(step.in.begin(), step.in.end(),
                         [&](const Tensor& in) { return in.data == out.data; }))
          std::fill_n(out.f32(), out.shape.size(), nan);
      std::fill_n(reinterpret_cast<float*>(step.scratch), step.scratch_bytes / 4, nan);
    }
    const Clock::time_point start = profile_ ? Clock::now() : Clock::time_point();
    step.run({step.in, step.out, step.attrs, step.state.get(), step.scratch});
    if (profile_) {
      info_[t].seconds += std::chrono::duration<double>(Clock::now() - start).count();
      ++info_[t].calls;
    }
  }
}

void Session::Run(const Counts& counts) noexcept {
  GRAFT_CHECK(
      counts.sequences <= options_.capacity.sequences && counts.tokens <= options_.capacity.tokens,
      "{} sequences, {} tokens", counts.sequences, counts.tokens);
  if (!(counts == impl_->bound)) impl_->BindExtents(counts);
  if (params_changed_) Execute(0, impl_->once_end);
  params_changed_ = false;
  Execute(impl_->once_end, impl_->main_end);
}

void Session::RunUpdate() noexcept {
  Execute(impl_->main_end, impl_->steps.size());
  params_changed_ = true;
}

Cost Session::cost(Phase phase) const {
  Cost total;
  for (const StepInfo& step : info_)
    if (step.phase == phase && !step.once)
      total.flops += step.cost.flops, total.bytes += step.cost.bytes;
  return total;
}

}  // namespace graft
