#include "runtime/session.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "runtime/call_log.h"
#include "runtime/cpu.h"
#include "runtime/session_impl.h"
#include "runtime/threads.h"
#include "runtime/verify.h"

namespace graft {

SharedMemory::SharedMemory() : impl_(std::make_unique<Impl>()) {}
SharedMemory::~SharedMemory() = default;

Session::Session(Graph own, ParamStore& params, SessionOptions options)
    : options_(options), impl_(std::make_unique<Impl>(std::move(own), params, options.capacity)) {
  CheckInstructions();
  const Graph& graph = impl_->graph;
  if (options_.threads == 0) options_.threads = Threads();
  Verify(graph);
  impl_->order = OrderNodes(graph);
  impl_->PlaceLeaves(options_);
  impl_->Prepare(options_, info_);
  memory_ = impl_->Plan(options_);
  if (!options_.plan_only) impl_->MakeWorkers(options_, memory_.bytes);
  impl_->extents = std::vector<Extents>();  // that only building asks for
  // Another session may run before this one, and reads what it has packed.
  if (options_.shared) impl_->Finish();
  for (const Update& u : graph.updates) {
    const Node& n = graph.node(graph.value(u.value).producer);
    const auto& out = n.out;
    GRAFT_CHECK(!out.empty() && std::find(n.in.begin(), n.in.end(), u.target) != n.in.end(),
                "{} does not read '{}' that it updates", n.op->name, graph.value(u.target).name);
  }
  packed_bytes_ = impl_->packed_bytes;
  shared_bytes_ = packed_bytes_ + impl_->once_bytes;
  worker_bytes_ = memory_.bytes + impl_->input_bytes;
  lane_bytes_ = impl_->state_bytes;
  thread_bytes_ = impl_->thread_bytes;
}

Session::~Session() = default;
Session::Session(Session&&) noexcept = default;

const Graph& Session::graph() const { return impl_->graph; }

namespace {

using Clock = std::chrono::steady_clock;
int64_t Nanoseconds(Clock::time_point t) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(t.time_since_epoch()).count();
}

bool HasLeaf(const Graph& g, std::string_view name, Role role) {
  const ValueId v = g.FindLeaf(name);
  return v.valid() && g.value(v).role == role;
}

ValueId LeafOf(const Graph& g, std::string_view name, Role role, const char* kind) {
  if (HasLeaf(g, name, role)) return g.FindLeaf(name);
  std::vector<std::string> names;
  for (ValueId v : g.Leaves(role)) names.push_back(g.value(v).name);
  Fail("the graph has no {} '{}'{}", kind, name, DidYouMean(name, names));
}

// Without what Graph::output allocates for its message.
ValueId OutputOf(const Graph& g, std::string_view name) {
  for (const GraphOutput& o : g.outputs)
    if (o.name == name) return o.value;
  return g.output(name);  // throws
}

}  // namespace

Tensor Session::Input(std::string_view name, int worker) {
  const ValueId v = LeafOf(impl_->graph, name, Role::kInput, "input");
  return {impl_->Address(v, impl_->workers.at(static_cast<size_t>(worker))),
          impl_->graph.type(v).dtype, At(impl_->graph.shape(v), options_.capacity)};
}

bool Session::HasInput(std::string_view name) const {
  return HasLeaf(impl_->graph, name, Role::kInput);
}

Tensor Session::State(std::string_view name, int lane) {
  const ValueId v = LeafOf(impl_->graph, name, Role::kState, "state");
  GRAFT_CHECK(lane < options_.lanes);
  return {impl_->States(lane) + impl_->place[v.i].offset, DType::kF32,
          At(impl_->graph.shape(v), {})};
}

Tensor Session::Output(std::string_view name, int worker) const {
  const ValueId v = OutputOf(impl_->graph, name);
  const Impl::Worker& w = impl_->workers.at(static_cast<size_t>(worker));
  return {impl_->Address(v, w), impl_->graph.type(v).dtype, At(impl_->graph.shape(v), w.bound)};
}

void Session::ZeroStates(int lanes) noexcept {
  ParallelFor(lanes, [&](int64_t lane) {
    std::fill_n(impl_->States(static_cast<int>(lane)), impl_->state_bytes, std::byte{0});
  });
}

void Session::SumStates(int lanes) noexcept {
  const FixedChunks cut(static_cast<int64_t>(impl_->state_bytes / sizeof(float)), 1 << 14);
  float* sum = reinterpret_cast<float*>(impl_->States(0));
  ParallelFor(cut.count(), [&](int64_t i) {
    for (int lane = 1; lane < lanes; ++lane) {
      const float* add = reinterpret_cast<const float*>(impl_->States(lane));
      for (int64_t k = cut.begin(i); k < cut.end(i); ++k) sum[k] += add[k];
    }
  });
}

std::vector<StepInfo> Session::steps() const {
  std::vector<StepInfo> steps = info_;
  for (const Impl::Worker& worker : impl_->workers)
    for (size_t t = 0; t < steps.size(); ++t) {
      steps[t].seconds += worker.calls[t].seconds;
      steps[t].calls += worker.calls[t].count;
    }
  return steps;
}

void Session::Execute(size_t begin, size_t end, int worker) noexcept {
  for (size_t t = begin; t < end; ++t) {
    const Impl::Step& step = impl_->steps[t];
    Impl::Call& call = impl_->workers[worker].calls[t];
    if (options_.poison && !step.in_place) {
      constexpr std::byte kNan{0xFF};  // four of these are a NaN of f32, two one of bf16
      for (const Tensor& out : call.out)
        if (std::none_of(call.in.begin(), call.in.end(),
                         [&](const Tensor& in) { return in.data == out.data; }))
          std::fill_n(static_cast<std::byte*>(out.data),
                      static_cast<size_t>(out.shape.size()) * ByteSize(out.dtype), kNan);
      std::fill_n(call.scratch, step.scratch_bytes, kNan);
      const int threads = LoopThreads() > 1 ? 1 : call.own.threads;
      std::fill_n(call.own.data, static_cast<size_t>(threads) * call.own.bytes, kNan);
    }
    const Clock::time_point start = profile_ ? Clock::now() : Clock::time_point();
    step.run({call.in, call.out, step.node->attrs, step.state.get(), call.scratch, call.own});
    if (profile_) {
      const Clock::time_point stop = Clock::now();
      call.seconds += std::chrono::duration<double>(stop - start).count() / LoopThreads();
      ++call.count;
      if (CallLog* log = CallLog::Current())
        log->Add({static_cast<uint32_t>(t), worker, Nanoseconds(start), Nanoseconds(stop)});
    }
  }
}

void Session::Run(const Counts& counts, int worker, int lane) noexcept {
  GRAFT_CHECK(
      counts.sequences <= options_.capacity.sequences && counts.tokens <= options_.capacity.tokens,
      "{} sequences, {} tokens", counts.sequences, counts.tokens);
  GRAFT_CHECK(worker < options_.workers && lane < options_.lanes && !options_.plan_only);
  Refresh();
  Impl::Worker& w = impl_->workers[worker];
  if (!(counts == w.bound)) impl_->BindExtents(w, counts);
  if (lane != w.lane) impl_->BindLane(w, lane);
  Execute(impl_->order.once_end, impl_->order.main_end, worker);
}

void Session::Impl::Finish() noexcept {
  ParallelFor(static_cast<int64_t>(unfinished.size()), [&](int64_t i) { unfinished[i](); });
  unfinished.clear();
}

void Session::Refresh() noexcept {
  if (!impl_->unfinished.empty()) impl_->Finish();
  if (!params_changed_) return;  // runs beside each other must not write what they all read
  Execute(0, impl_->order.once_end, 0);
  params_changed_ = false;
}

void Session::RunUpdate() noexcept {
  if (impl_->workers[0].lane != 0) impl_->BindLane(impl_->workers[0], 0);
  Execute(impl_->order.main_end, impl_->steps.size(), 0);
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
