// Products with weights in 4 bits beside those with f32 weights, at the shapes of ViT-B's layers.
//   nf4_bench [--isa=avx2] [--benchmark_filter=...]
// Each repetition runs in turn: nf4_matmul; matmul with the frozen f32 weight, as a session would
// run it; and the bare product with panels that were packed before. Counters are the medians of the
// ratios nf4/matmul and nf4/packed, and GFLOP/s of the best repetition of each. Names:
// direction/rows x K x N/threads, NT is the forward pass and NN the gradient to the input.
#include <benchmark/benchmark.h>

#include <cstring>
#include <ctime>

#include "ops/gemm_core.h"
#include "ops/isa.h"
#include "ops/nf4.h"
#include "runtime/threads.h"
#include "tests/op_testing.h"

namespace graft {
namespace {

using testing::MakeCase;
using testing::OpCase;
using testing::Runner;

// With one thread this is its own CPU time, so that other programs on the core do not count; else
// it is the wall time.
double Seconds(int threads) {
  timespec t;
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

struct Product {
  bool transposed;  // y = a W', W [n,k]; else a W, W [k,n]
  int64_t m, k, n;
  int threads;
};

OpCase Quantised(const Product& p) {
  const Nf4Attrs w{p.transposed ? p.n : p.k, p.transposed ? p.k : p.n};
  const Nf4Sizes sizes = Nf4SizesOf(w);
  const Sample sample{"bench",
                      {{{p.m, p.k}},
                       {.shape = {sizes.codes}, .u8 = true},
                       {.shape = {sizes.blocks}, .u8 = true},
                       {{sizes.absmax2}, 0, 1},
                       {{1}, 0, 1}},
                      Nf4MatmulAttrs{w, {.tb = p.transposed}}};
  return MakeCase(kNf4Matmul, sample, 7);
}

OpCase Plain(const Product& p) {
  const Extents w = p.transposed ? Extents{p.n, p.k} : Extents{p.k, p.n};
  return MakeCase(kMatmul, {"bench", {{{p.m, p.k}}, {w}}, MatmulAttrs{.tb = p.transposed}}, 7);
}

// The product of gemm_core with packed panels.
struct Packed {
  GemmPlan plan;
  std::vector<float> a, b, c;
  explicit Packed(const Product& p)
      : plan(PlanGemm({p.m, p.k, p.n, BOrder::kPacked})),
        a(static_cast<size_t>(p.m * p.k), 0.5f),
        b(PackedBytes(p.k, p.n) / sizeof(float), 0.25f),
        c(static_cast<size_t>(p.m * p.n)) {}
  void Run() {
    Gemm(plan, plan.shape.m, {a.data(), plan.shape.k, 1}, {.packed = b.data()}, c.data(),
         plan.shape.n, {}, nullptr);
  }
};

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void Measure(benchmark::State& state, const Product& p) {
  SetThreads(p.threads);
  const OpCase quantised_case = Quantised(p), plain_case = Plain(p);
  Runner quantised(quantised_case, {.constant = true, .share = {}});
  Runner plain(plain_case, {.constant = true, .share = {}});
  Packed packed(p);
  const auto timed = [&](auto& product) {
    const double start = Seconds(p.threads);
    product.Run();
    return Seconds(p.threads) - start;
  };
  timed(quantised), timed(plain), timed(packed);
  std::vector<double> to_plain, to_packed;
  double best[3] = {1e9, 1e9, 1e9};
  for (auto _ : state) {
    const double q = timed(quantised), f = timed(plain), b = timed(packed);
    to_plain.push_back(q / f), to_packed.push_back(q / b);
    best[0] = std::min(best[0], q), best[1] = std::min(best[1], f), best[2] = std::min(best[2], b);
    state.SetIterationTime(q);
  }
  const double flops = 2e-9 * static_cast<double>(p.m * p.k * p.n);
  state.counters["nf4/matmul"] = Median(to_plain);
  state.counters["nf4/packed"] = Median(to_packed);
  state.counters["nf4 GFLOP/s"] = flops / best[0];
  state.counters["matmul GFLOP/s"] = flops / best[1];
  state.counters["packed GFLOP/s"] = flops / best[2];
  state.SetLabel(quantised.Result().impl + " beside " + plain.Result().impl);
}

void RegisterAll() {
  constexpr int64_t kImage = 197;
  constexpr int64_t kWeights[][2] = {{768, 768}, {768, 3072}, {3072, 768}};  // in, out
  for (const int threads : {1, 2})
    for (const auto& [in, out] : kWeights)
      for (const int64_t rows : {int64_t{1}, int64_t{16}, 2 * kImage, 16 * kImage})
        for (const bool transposed : {true, false}) {
          const Product p = transposed ? Product{true, rows, in, out, threads}
                                       : Product{false, rows, out, in, threads};
          const std::string name = fmt::format("{}/{}x{}x{}/threads:{}", transposed ? "NT" : "NN",
                                               p.m, p.k, p.n, p.threads);
          benchmark::RegisterBenchmark(name.c_str(), [p](benchmark::State& s) { Measure(s, p); })
              ->Unit(benchmark::kMillisecond)
              ->UseManualTime();
        }
}

}  // namespace
}  // namespace graft

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--isa=avx2") != 0) continue;
    graft::LimitIsa("avx2");
    std::rotate(argv + i, argv + i + 1, argv + argc--);
    break;
  }
  graft::RegisterAll();
  benchmark::Initialize(&argc, argv);
  fmt::print("{}\n", graft::ActiveIsa());
  benchmark::RunSpecifiedBenchmarks();
}
