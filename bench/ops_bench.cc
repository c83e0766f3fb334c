// Every operator's "bench" samples: time, GFLOP/s, GB/s, share of this machine's measured FMA peak
// and of the node's roofline, min(peak, flops / bytes * bandwidth). Operators are verified first.
//   ops_bench --threads=1 --op='layer_norm*' [flags of Google Benchmark]
// Peak and bandwidth are measured in the same run with the same threads; a share above 1 means that
// the operands stayed in cache.
#include <benchmark/benchmark.h>

#include "ops/isa.h"
#include "ops/peak.h"
#include "runtime/cpu.h"
#include "runtime/threads.h"
#include "tests/op_testing.h"

namespace graft {
namespace {

// Compares the kernel on every small sample with the reference; throws Error where they differ.
void VerifyOperator(const OpDef& op) {
  for (const Sample& s : op.samples()) {
    if (testing::IsBench(s)) continue;
    const testing::OpCase c = testing::MakeCase(op, s, 7);
    const std::string wrong = testing::Compare(c, testing::RunKernel(c), c.Reference(c.in));
    if (!wrong.empty()) Fail("{}/{}: {}", op.name, s.label, wrong);
  }
}

void Register(const OpDef& op, const Sample& s, const MachinePeak& machine) {
  const std::string name =
      s.label == "bench" ? std::string(op.name) : fmt::format("{}/{}", op.name, s.label);
  benchmark::RegisterBenchmark(
      name.c_str(),
      [&op, s, machine](benchmark::State& state) {
        const testing::OpCase c = testing::MakeCase(op, s, 7);
        testing::Runner runner(c, {.constant = true, .share = {}});
        runner.Run();
        for (auto _ : state) runner.Run();
        const Cost cost =  // all inputs are constant
            op.cost({c.in_shape, c.out_shape, c.attrs, c.in_type, c.out_type, ~0u});
        const double bound =
            std::max(cost.flops / (1e9 * machine.gflops), cost.bytes / machine.bytes_per_second);
        using benchmark::Counter;
        auto rate = [&](double amount) {
          return Counter(amount, Counter::kIsIterationInvariantRate);
        };
        state.counters["GFLOP/s"] = rate(cost.flops * 1e-9);
        state.counters["GB/s"] = rate(cost.bytes * 1e-9);
        state.counters["of_peak"] = rate(cost.flops / (1e9 * machine.gflops));
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
  const MachinePeak machine = MeasurePeak(Threads(), 1.0);
#ifdef NDEBUG
  const char* build = "release";
#else
  const char* build = "DEBUG: figures mean nothing";
#endif
  fmt::print("{}, {} threads, {}, build {}; FMA peak {:.0f} GFLOP/s, bandwidth {:.1f} GB/s\n",
             Cpu().model, Threads(), ActiveIsa(), build, machine.gflops,
             machine.bytes_per_second * 1e-9);
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
