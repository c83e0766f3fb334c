// Every operator's "bench" samples: time, GFLOP/s, GB/s, share of this machine's measured FMA peak
// and of the node's roofline, min(peak, flops / bytes * bandwidth). Operators are verified first.
//   ops_bench --threads=1 --op='layer_norm*' [flags of Google Benchmark]
// Peak and bandwidth are measured in the same run with the same threads; a share above 1 means that
// the operands stayed in cache.
#include "ops/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/ops_bench.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "runtime/threads.h"

HWY_BEFORE_NAMESPACE();
namespace graft::HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

// Ten independent chains of `steps` multiply-adds; returns the flops. The chains start from
// different values: the compiler merges equal ones into one, and the peak then comes out too high.
double MultiplyAdds(int64_t steps, float* sink) {
  const hn::ScalableTag<float> d;
  const auto a = hn::Set(d, 0.999f), b = hn::Set(d, 1e-3f);
  auto v0 = hn::Set(d, 1.0f), v1 = hn::Set(d, 1.1f), v2 = hn::Set(d, 1.2f), v3 = hn::Set(d, 1.3f);
  auto v4 = hn::Set(d, 1.4f), v5 = hn::Set(d, 1.5f), v6 = hn::Set(d, 1.6f), v7 = hn::Set(d, 1.7f);
  auto v8 = hn::Set(d, 1.8f), v9 = hn::Set(d, 1.9f);
  for (int64_t i = 0; i < steps; ++i) {
    v0 = hn::MulAdd(v0, a, b), v1 = hn::MulAdd(v1, a, b), v2 = hn::MulAdd(v2, a, b);
    v3 = hn::MulAdd(v3, a, b), v4 = hn::MulAdd(v4, a, b), v5 = hn::MulAdd(v5, a, b);
    v6 = hn::MulAdd(v6, a, b), v7 = hn::MulAdd(v7, a, b), v8 = hn::MulAdd(v8, a, b);
    v9 = hn::MulAdd(v9, a, b);
  }
  const auto low = hn::Add(hn::Add(hn::Add(v0, v1), hn::Add(v2, v3)), v4);
  const auto high = hn::Add(hn::Add(hn::Add(v5, v6), hn::Add(v7, v8)), v9);
  *sink = hn::GetLane(hn::SumOfLanes(d, hn::Add(low, high)));
  return 20.0 * static_cast<double>(hn::Lanes(d)) * static_cast<double>(steps);
}

// y = 2 x + y over n elements.
void Triad(const float* x, float* y, size_t n) {
  const hn::ScalableTag<float> d;
  const auto two = hn::Set(d, 2.0f);
  for (size_t i = 0; i + hn::Lanes(d) <= n; i += hn::Lanes(d))
    hn::StoreU(hn::MulAdd(two, hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, y + i);
}

}  // namespace
}  // namespace graft::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <benchmark/benchmark.h>

#include <chrono>

#include "runtime/cpu.h"
#include "tests/op_testing.h"

namespace graft {
namespace {

HWY_EXPORT(MultiplyAdds);
HWY_EXPORT(Triad);

double Seconds(auto&& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct Machine {
  double flops = 0, bandwidth = 0;  // per second, all threads
};

// The best of several rounds: neighbours only take away.
Machine Measure() {
  constexpr int64_t kSteps = 2'000'000;
  constexpr size_t kElements = size_t{1} << 25;  // 128 MiB, beyond any cache in use
  const int64_t threads = Threads();
  std::vector<float> sinks(static_cast<size_t>(threads) * 64);
  std::vector<float> x(kElements, 1.0f), y(kElements, 1.0f);
  Machine best;
  for (int round = 0; round < 5; ++round) {
    double flops = 0;
    const double compute = Seconds([&] {
      ParallelFor(threads, [&](int64_t t) {
        const double done =
            HWY_DYNAMIC_DISPATCH(MultiplyAdds)(kSteps, &sinks[static_cast<size_t>(t) * 64]);
        if (t == 0) flops = done * static_cast<double>(threads);
      });
    });
    best.flops = std::max(best.flops, flops / compute);
    const double copy = Seconds([&] {
      const size_t piece = kElements / static_cast<size_t>(threads);
      ParallelFor(threads, [&](int64_t t) {
        const size_t at = static_cast<size_t>(t) * piece;
        HWY_DYNAMIC_DISPATCH(Triad)(&x[at], &y[at], piece);
      });
    });
    best.bandwidth = std::max(best.bandwidth, 12.0 * static_cast<double>(kElements) / copy);
  }
  return best;
}

// The kernel on every small sample against the reference; throws Error.
void VerifyOperator(const OpDef& op) {
  for (const Sample& s : op.samples()) {
    if (testing::IsBench(s)) continue;
    const testing::OpCase c = testing::MakeCase(op, s, 7);
    const std::string wrong = testing::Compare(c, testing::RunKernel(c), c.Reference(c.in));
    if (!wrong.empty()) Fail("{}/{}: {}", op.name, s.label, wrong);
  }
}

void Register(const OpDef& op, const Sample& s, const Machine& machine) {
  const std::string name =
      s.label == "bench" ? std::string(op.name) : fmt::format("{}/{}", op.name, s.label);
  benchmark::RegisterBenchmark(name.c_str(),
                               [&op, s, machine](benchmark::State& state) {
                                 const testing::OpCase c = testing::MakeCase(op, s, 7);
                                 testing::Runner runner(c, {.constant = true, .share = {}});
                                 runner.Run();
                                 for (auto _ : state) runner.Run();
                                 const Cost cost = op.cost(c.in_shape, c.out_shape, c.attrs);
                                 const double bound = std::max(cost.flops / machine.flops,
                                                               cost.bytes / machine.bandwidth);
                                 using benchmark::Counter;
                                 auto rate = [&](double amount) {
                                   return Counter(amount, Counter::kIsIterationInvariantRate);
                                 };
                                 state.counters["GFLOP/s"] = rate(cost.flops * 1e-9);
                                 state.counters["GB/s"] = rate(cost.bytes * 1e-9);
                                 state.counters["of_peak"] = rate(cost.flops / machine.flops);
                                 state.counters["of_roofline"] = rate(bound);
                                 std::string shapes;
                                 for (const Extents& e : c.in_shape) shapes += ToString(e);
                                 state.SetLabel(shapes + " " + runner.Result().impl);
                               })
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond)
      ->Repetitions(5)
      ->ReportAggregatesOnly();
}

int Main(int argc, char** argv) {
  std::string glob = "*";
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag.starts_with("--threads=")) SetThreads(std::max(1, std::atoi(argv[i] + 10)));
    if (flag.starts_with("--op=")) glob = flag.substr(5);
  }
  benchmark::Initialize(&argc, argv);
  const Machine machine = Measure();
#ifdef NDEBUG
  const char* build = "release";
#else
  const char* build = "DEBUG: figures mean nothing";
#endif
  fmt::print("{}, {} threads, {}, build {}; FMA peak {:.0f} GFLOP/s, bandwidth {:.1f} GB/s\n",
             Cpu().model, Threads(), hwy::TargetName(hwy::SupportedAndGeneratedTargets()[0]), build,
             machine.flops * 1e-9, machine.bandwidth * 1e-9);
  for (const OpDef* op : AllOps()) {
    if (!GlobMatch(glob, op->name)) continue;
    VerifyOperator(*op);
    for (const Sample& s : op->samples())
      if (testing::IsBench(s)) Register(*op, s, machine);
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace
}  // namespace graft

int main(int argc, char** argv) {
  try {
    return graft::Main(argc, argv);
  } catch (const std::exception& e) {
    fmt::print(stderr, "ops_bench: {}\n", e.what());
    return 1;
  }
}
#endif  // HWY_ONCE
