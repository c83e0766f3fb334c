// Sessions: whatever the memory plan, the batch or the history, results are those of the graph; a
// run allocates nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>

#include "autograd/train_step.h"
#include "models/vit.h"
#include "ops/optimise.h"
#include "runtime/threads.h"
#include "tests/graph_testing.h"

// Every allocation of the process is seen here, those of libraries too. oneDNN makes small ones in
// each call and offers no way around, so its own are counted apart. Sanitizers bring an allocator
// of their own.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(__GLIBC__)
#define GRAFT_COUNTS_ALLOCATIONS
#include <dlfcn.h>

#include <cstring>
#include <new>

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
}
static std::atomic<bool> g_counting{false};
static std::atomic<int> g_allocations{0}, g_by_onednn{0};

static void Count(const void* caller) {
  if (!g_counting) return;
  Dl_info info;
  const bool onednn = dladdr(caller, &info) && std::strstr(info.dli_fname, "libdnnl") != nullptr;
  (onednn ? g_by_onednn : g_allocations).fetch_add(1);
}
extern "C" {
void* malloc(size_t n) noexcept {
  Count(__builtin_return_address(0));
  return __libc_malloc(n);
}
void* calloc(size_t n, size_t size) noexcept {
  Count(__builtin_return_address(0));
  return __libc_calloc(n, size);
}
void* realloc(void* p, size_t n) noexcept {
  Count(__builtin_return_address(0));
  return __libc_realloc(p, n);
}
void* aligned_alloc(size_t alignment, size_t n) noexcept {
  Count(__builtin_return_address(0));
  return __libc_memalign(alignment, n);
}
int posix_memalign(void** p, size_t alignment, size_t n) noexcept {
  Count(__builtin_return_address(0));
  return (*p = __libc_memalign(alignment, n)) ? 0 : 12;
}
}
// This is replaced, too, because malloc sees only the standard library as the caller of new.
void* operator new(size_t n) {
  Count(__builtin_return_address(0));
  if (void* p = __libc_malloc(n)) return p;
  throw std::bad_alloc();
}
void* operator new[](size_t n) {
  Count(__builtin_return_address(0));
  if (void* p = __libc_malloc(n)) return p;
  throw std::bad_alloc();
}
// Not inlined: the compiler would take new and free for a mismatch.
#define GRAFT_DELETE __attribute__((noinline)) void operator
GRAFT_DELETE delete (void* p) noexcept { std::free(p); }
GRAFT_DELETE delete[](void* p) noexcept { std::free(p); }
GRAFT_DELETE delete (void* p, size_t) noexcept { std::free(p); }
GRAFT_DELETE delete[](void* p, size_t) noexcept { std::free(p); }
#endif

namespace graft::testing::session_test {
namespace {

using ::testing::HasSubstr;

const VitConfig kTiny{.image_size = 8,
                      .patch_size = 4,
                      .width = 16,
                      .depth = 2,
                      .heads = 2,
                      .mlp_width = 32,
                      .classes = 5};

// Both outputs of a random graph after two runs and an update, then one more run.
std::vector<std::vector<float>> RunAll(const Graph& g, SessionOptions options,
                                       const std::vector<Counts>& batches) {
  ParamStore params = RandomParams(g, 1);
  Session session(g, params, options);
  std::vector<std::vector<float>> results;
  for (size_t i = 0; i < batches.size(); ++i) {
    SetInputs(session, RandomInputs(g, batches[i], 10 + static_cast<uint32_t>(i)));
    session.Run(batches[i]);
    results.push_back(OutputValues(session, "first"));
    results.push_back(OutputValues(session, "second"));
    session.RunUpdate();
    session.ZeroStates();
  }
  results.push_back(
      std::vector<float>(params.values("weight").begin(), params.values("weight").end()));
  return results;
}

TEST(Session, RandomGraphsEqualTheInterpreter) {
  for (uint32_t seed = 0; seed < 60; ++seed) {
    const Graph g = RandomGraph(seed, 5 + static_cast<int>(seed % 25));
    ParamStore params = RandomParams(g, seed);
    const Counts counts{1 + seed % 4, 0};
    const Leaves inputs = RandomInputs(g, counts, seed + 100);
    const Values64 want = Interpret(g, {counts, inputs, &params});
    Session session(g, params, {.capacity = {4, 0}});
    SetInputs(session, inputs);
    session.Run(counts);
    for (const char* name : {"first", "second"})
      EXPECT_LE(RelativeError(OutputValues(session, name), want[g.output(name).i]), 2e-5)
          << "seed " << seed;
    const Tensor sums = session.State("acc.sums");
    const std::vector<float> got(sums.f32(), sums.f32() + sums.shape.size());
    EXPECT_LE(RelativeError(got, want[g.updates[0].value.i]), 2e-5) << "seed " << seed;
  }
}

TEST(Session, SharedPoisonedAndSeparateMemoryGiveTheSameBits) {
  const std::vector<Counts> batches{{3, 0}, {1, 0}, {3, 0}};
  for (uint32_t seed = 0; seed < 40; ++seed) {
    const Graph g = RandomGraph(seed, 30);
    const auto plain = RunAll(g, {.capacity = {3, 0}}, batches);
    for (const auto& values : plain)
      for (float v : values) ASSERT_TRUE(std::isfinite(v)) << "seed " << seed;
    EXPECT_EQ(plain, RunAll(g, {.capacity = {3, 0}, .share_memory = false}, batches)) << seed;
    EXPECT_EQ(plain, RunAll(g, {.capacity = {3, 0}, .poison = true}, batches)) << seed;
    const SessionOptions both{.capacity = {3, 0}, .share_memory = false, .poison = true};
    EXPECT_EQ(plain, RunAll(g, both, batches)) << seed;
  }
}

TEST(Session, SharingSavesMemory) {
  const Graph g = RandomGraph(3, 40);
  ParamStore params = RandomParams(g, 1);
  const Session shared(g, params, {.capacity = {64, 0}});
  const Session separate(g, params, {.capacity = {64, 0}, .share_memory = false});
  EXPECT_LT(shared.memory().bytes, separate.memory().bytes / 2);
  EXPECT_GE(shared.memory().bytes, shared.memory().lower_bound);
  EXPECT_GE(shared.planned_bytes(), shared.memory().bytes);
}

TEST(Session, APlanCountsWhatASessionTakes) {
  const Graph g = RandomGraph(3, 40);
  ParamStore params = RandomParams(g, 1);
  const SessionOptions options{.capacity = {64, 0}, .workers = 3, .lanes = 2};
  SessionOptions planned = options;
  planned.plan_only = true;
  const Session session(g, params, options), plan(g, params, planned);
  EXPECT_EQ(plan.planned_bytes(), session.planned_bytes());
  EXPECT_EQ(plan.memory().bytes, session.memory().bytes);
  EXPECT_EQ(plan.steps().size(), session.steps().size());
  planned.capacity.sequences = int64_t{1} << 40;  // no machine has that
  EXPECT_GT(Session(g, params, planned).planned_bytes(), size_t{1} << 40);
}

TEST(Session, AFullBatchAndASmallerCapacityGiveTheSameBits) {
  for (uint32_t seed = 0; seed < 30; ++seed) {
    const Graph g = RandomGraph(seed, 20);
    const std::vector<Counts> batches{{2, 0}};
    EXPECT_EQ(RunAll(g, {.capacity = {2, 0}}, batches), RunAll(g, {.capacity = {7, 0}}, batches))
        << "seed " << seed;
  }
}

TEST(Session, AModelAtFewerSequencesEqualsOneCompiledForFewer) {
  const Graph g = BuildVit(kTiny);
  ParamStore params;
  InitVit(kTiny, params, 1);
  Session large(g, params, {.capacity = {9, 0}, .poison = true});
  Session small(g, params, {.capacity = {2, 0}});
  const Leaves inputs = RandomInputs(g, {2, 0}, 3);
  SetInputs(large, RandomInputs(g, {9, 0}, 5));
  large.Run({9, 0});
  SetInputs(large, inputs);
  SetInputs(small, inputs);
  large.Run({2, 0});
  small.Run({2, 0});
  EXPECT_EQ(large.Output("logits").shape, (Extents{2, 5}));
  EXPECT_LE(RelativeError(OutputValues(large, "logits"), OutputValues(small, "logits")), 1e-6);
}

TEST(Session, AnEmptyBatchRuns) {
  const Graph g = BuildVit(kTiny);
  ParamStore params;
  InitVit(kTiny, params, 1);
  Session session(g, params, {.capacity = {2, 0}});
  session.Run({0, 0});
  EXPECT_EQ(session.Output("logits").shape, (Extents{0, 5}));
}

TEST(SessionDeathTest, MoreThanTheCapacityIsABug) {
  const Graph g = RandomGraph(1);
  ParamStore params = RandomParams(g, 1);
  Session session(g, params, {.capacity = {2, 0}});
  EXPECT_DEATH(session.Run({3, 0}), "3 sequences");
}

TEST(Session, NamesThatAreMissingGiveTheNearest) {
  const Graph g = RandomGraph(1);
  ParamStore params = RandomParams(g, 1);
  Session session(g, params, {.capacity = {2, 0}});
  EXPECT_EQ(MessageOf([&] { session.Input("hyperr"); }),
            "the graph has no input 'hyperr'; did you mean 'hyper'?");
  EXPECT_EQ(MessageOf([&] { session.Output("firts"); }),
            "the graph has no output 'firts'; did you mean 'first'?");
  EXPECT_EQ(MessageOf([&] { session.State("acc.sum"); }),
            "the graph has no state 'acc.sum'; did you mean 'acc.sums'?");
  EXPECT_TRUE(session.HasInput("hyper"));
  EXPECT_FALSE(session.HasInput("hyperr"));
  params.SetShared("weights", params, "weight");
  params.Erase("weight");
  EXPECT_THAT(MessageOf([&] {
                Session(g, params, {.capacity = {2, 0}});
              }),
              AllOf(HasSubstr("'weight'"), HasSubstr("'weights'")));
  Graph texts;
  texts.SetOutput("y", texts.AddInput("ids", {DType::kI32, {Dim::Tokens()}}));
  EXPECT_THAT(MessageOf([&] {
                Session(texts, params, {.capacity = {4, 0}});
              }),
              HasSubstr("capacity: no tokens, but 'ids' is i32[t]"));
  params.Set("weight", {9}, std::vector<float>(9));
  EXPECT_EQ(MessageOf([&] {
              Session(g, params, {.capacity = {2, 0}});
            }),
            "parameter 'weight': the graph wants f32[8], the store has f32[9]");
  params.SetU8("weight", {8}, std::vector<uint8_t>(8));
  EXPECT_EQ(MessageOf([&] {
              Session(g, params, {.capacity = {2, 0}});
            }),
            "parameter 'weight': the graph wants f32[8], the store has u8[8]");
}

TEST(Session, UpdatesWriteStateAndStore) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({4}));
  const ValueId acc = g.AddState("acc", {4}), w = g.AddParam("w", {4}, true);
  g.AddUpdate(acc, Add(g, acc, x));
  g.phase = Phase::kUpdate;
  g.AddUpdate(w, Sub(g, w, Scale(g, acc, 0.5)));
  ParamStore params, other;
  params.Set("w", {4}, std::vector<float>{1, 2, 3, 4});
  other = params;
  Session session(g, params, {.capacity = {1, 0}});
  for (float value : {2.0f, 4.0f}) {  // two micro-batches
    std::fill_n(session.Input("x").f32(), 4, value);
    session.Run({1, 0});
  }
  EXPECT_EQ(session.State("acc").f32()[3], 6);
  EXPECT_EQ(params.data("w")[0], 1);  // not before RunUpdate
  session.RunUpdate();
  EXPECT_EQ(params.data("w")[0], 1 - 3);
  EXPECT_EQ(params.data("w")[3], 4 - 3);
  EXPECT_EQ(other.data("w")[3], 4);  // a copy of the store is another store
  session.ZeroStates();
  EXPECT_EQ(session.State("acc").f32()[0], 0);
}

TEST(Session, OnceNodesRunAgainAfterParametersChanged) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({2}));
  const ValueId w = g.AddParam("w", {2}, true);
  const ValueId scaled = Scale(g, w, 10);  // fed by parameters only
  g.SetOutput("y", Add(g, x, scaled));
  g.phase = Phase::kUpdate;
  g.AddUpdate(w, Add(g, w, x));
  ParamStore params;
  params.Set("w", {2}, std::vector<float>{1, 2});
  Session session(g, params, {.capacity = {1, 0}});
  ASSERT_EQ(session.steps().size(), 3u);
  EXPECT_TRUE(session.steps()[0].once);
  EXPECT_FALSE(session.steps()[1].once);
  EXPECT_EQ(session.steps()[2].phase, Phase::kUpdate);
  session.EnableProfile(true);
  std::fill_n(session.Input("x").f32(), 2, 1.0f);
  session.Run({1, 0});
  session.Run({1, 0});
  EXPECT_EQ(OutputValues(session, "y"), (std::vector<float>{11, 21}));
  EXPECT_EQ(session.steps()[0].calls, 1);
  EXPECT_EQ(session.steps()[1].calls, 2);
  session.RunUpdate();  // w += x
  session.Run({1, 0});
  EXPECT_EQ(OutputValues(session, "y"), (std::vector<float>{21, 31}));
  EXPECT_EQ(session.steps()[0].calls, 2);
  params.Mutable("w")[0] = 5;
  session.ParamsChanged();
  session.Run({1, 0});
  EXPECT_EQ(OutputValues(session, "y"), (std::vector<float>{51, 31}));
}

TEST(Session, OutputsMayBeLeavesAndSharedValues) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({Dim::Sequences(), 2})), w = g.AddParam("w", {2});
  const ValueId y = Add(g, x, w);
  g.SetOutput("x", x);
  g.SetOutput("w", w);
  g.SetOutput("y", y);
  g.SetOutput("same", y);
  g.SetOutput("z", Scale(g, y, 2));  // must not take the memory of y
  ParamStore params;
  params.Set("w", {2}, std::vector<float>{1, 2});
  Session session(g, params, {.capacity = {1, 0}});
  std::fill_n(session.Input("x").f32(), 2, 1.0f);
  session.Run({1, 0});
  EXPECT_EQ(OutputValues(session, "x"), (std::vector<float>{1, 1}));
  EXPECT_EQ(OutputValues(session, "w"), (std::vector<float>{1, 2}));
  EXPECT_EQ(OutputValues(session, "same"), (std::vector<float>{2, 3}));
  EXPECT_EQ(OutputValues(session, "z"), (std::vector<float>{4, 6}));
}

// One packed copy for all products with W', another for those with W.
TEST(Session, ProductsWithOneWeightShareItsPackedCopy) {
  const auto build = [](int with_transposed, int with_plain) {
    Graph g;
    const ValueId x = g.AddInput("x", F32({Dim::Sequences(), 20})), w = g.AddParam("w", {20, 20});
    ValueId y = x;
    for (int i = 0; i < with_transposed; ++i) y = g.Add1(kTanh, {Matmul(g, y, w, false, true)});
    for (int i = 0; i < with_plain; ++i) y = g.Add1(kTanh, {Matmul(g, y, w)});
    g.SetOutput("y", y);
    return g;
  };
  ParamStore params = RandomParams(build(1, 0), 3);
  const auto packed = [&](int with_transposed, int with_plain) {
    return Session(build(with_transposed, with_plain), params, {.capacity = {3, 0}}).packed_bytes();
  };
  EXPECT_GT(packed(1, 0), 0u);
  EXPECT_EQ(packed(3, 0), packed(1, 0));
  EXPECT_EQ(packed(2, 2), packed(1, 0) + packed(0, 1));
  const Graph g = build(2, 2);
  Session session(g, params, {.capacity = {3, 0}});
  const Leaves inputs = RandomInputs(g, {3, 0}, 4);
  SetInputs(session, inputs);
  session.Run({3, 0});
  const Values64 expected = Interpret(g, {{3, 0}, inputs, &params});
  EXPECT_LT(RelativeError(OutputValues(session, "y"), expected[g.output("y").i]), 1e-6);
}

TEST(Session, AMovedSessionRuns) {
  const Graph g = RandomGraph(2);
  ParamStore params = RandomParams(g, 1);
  Session first(g, params, {.capacity = {1, 0}});
  Session session(std::move(first));
  SetInputs(session, RandomInputs(g, {1, 0}, 1));
  session.Run({1, 0});
  EXPECT_EQ(OutputValues(session, "first").size(), 32u);
}

TEST(Session, CostsAddUpByPhase) {
  const Graph g = BuildVit(kTiny);
  ParamStore params;
  InitVit(kTiny, params, 1);
  const Session session(g, params, {.capacity = {2, 0}});
  double flops = 0;
  for (const StepInfo& step : session.steps())
    if (!step.once) flops += step.cost.flops;
  EXPECT_DOUBLE_EQ(session.cost(Phase::kMain).flops, flops);
  EXPECT_EQ(session.cost(Phase::kUpdate).flops, 0);
}

#ifdef GRAFT_COUNTS_ALLOCATIONS
// Allocations during f, those of oneDNN left out.
template <class F>
int Allocations(const F& f) {
  g_allocations = 0;
  g_counting = true;
  f();
  g_counting = false;
  return g_allocations;
}

TEST(Session, AStepAllocatesNothing) {
  for (int threads : {1, 2}) {
    SetThreads(threads);
    const VitConfig config = VitByName("vit_nano_patch4_32");
    Graph g = BuildVit(config, {.loss = true, .drop_path = 0.1});
    for (ValueId v : g.Leaves(Role::kParam)) g.SetTrainable(v, true);
    ParamStore params;
    InitVit(config, params, 1);
    TrainStep::Passes passes;
    for (Pass& pass : ForwardPasses()) passes.forward.Add(std::move(pass));
    for (Pass& pass : StepPasses()) passes.step.Add(std::move(pass));
    TrainStep step(g, params, {.clip = 1, .decays = {}}, 8, passes);
    const TrainStep::Fill fill = [&](int64_t, int64_t count, int worker) {
      std::fill_n(step.session().Input("image", worker).f32(), count * 3 * 32 * 32, 0.5f);
      std::fill_n(step.session().Input("labels", worker).i32(), count, 1);
    };
    const std::vector<Counts> parts{{8, 0}, {4, 0}};
    step.Run(parts, 0, 1e-3, fill), step.Run(12, 1, 1e-3, fill);  // warm: threads, all sizes
    Session& session = step.session();
    EXPECT_EQ(Allocations([&] { session.Run({8, 0}); }), 0) << threads << " threads";
    EXPECT_EQ(Allocations([&] { session.Run({4, 0}); }), 0) << threads << " threads, fewer";
    EXPECT_EQ(Allocations([&] { session.RunUpdate(); }), 0) << threads << " threads, update";
    EXPECT_EQ(Allocations([&] { step.Run(12, 2, 1e-3, fill); }), 0) << threads << ", the step";
  }
  RecordProperty("allocations_by_onednn", g_by_onednn);
}

TEST(Session, TheCountersCount) {
  EXPECT_GT(Allocations([] { std::vector<int> some(100); }), 0);
  EXPECT_GT(Allocations([] { std::free(std::malloc(100)); }), 0);
}
#endif

}  // namespace
}  // namespace graft::testing::session_test
