// Measures matrix products of ViT and BERT, gemm_core beside oneDNN, as GFLOP/s and a share of the
// multiply-add peak of one core, measured in the same run.
//   gemm_bench [--isa=avx2] [--cold] [--benchmark_filter=core/NT.*threads:1]
// --cold: A and C of gemm_core are others each time, that no cache still has, as in a step of a
// large batch.
// A core is shared with whoever runs on its other hardware thread, so its peak changes from one
// millisecond to the next: each repetition samples the peak just before and just after the product,
// and peak% is the median of the ratios. GFLOP/s is the best of the repetitions, quiet% its share
// of the best peak among them. Names: who/operands[/packed]/MxKxN/threads. NT: torch weight [N, K];
// NN: gradient to the input; TN: gradient to the weight, where M is the reduction.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <memory>
#include <vector>

#include "ops/gemm_core.h"
#include "ops/isa.h"
#include "ops/onednn_gemm.h"
#include "ops/peak.h"
#include "runtime/threads.h"

namespace graft {
namespace {

// On huge pages, as the arena of a session is.
struct Buffer {
  explicit Buffer(size_t bytes) {
    constexpr size_t kHuge = size_t{2} << 20;
    const size_t rounded = (bytes + kHuge) / kHuge * kHuge;
    data.reset(static_cast<std::byte*>(std::aligned_alloc(kHuge, rounded)));
    madvise(data.get(), rounded, MADV_HUGEPAGE);
    float* f = f32();
    for (size_t i = 0; i < bytes / 4; ++i) f[i] = 0.001f * static_cast<float>(i % 1013) - 0.5f;
  }
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  float* f32() const { return reinterpret_cast<float*>(data.get()); }
  std::unique_ptr<std::byte, Free> data;
};
// With one thread this is its own CPU time, so that other programs on the core do not count; else
// it is the wall time.
double Seconds(int threads) {
  timespec t;
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}
size_t Floats(int64_t n) { return static_cast<size_t>(n) * sizeof(float); }

enum class Operands { kNN, kNT, kTN };

struct Product {
  bool onednn, packed;
  Operands operands;
  int64_t m, k, n;  // of the product: C [m, n]
  int threads;
  Activation activation = Activation::kNone;
};

bool g_cold = false;

// As many buffers of A or C as no cache holds together, or one.
std::vector<std::shared_ptr<Buffer>> Buffers(size_t bytes) {
  constexpr size_t kBeyondCaches = size_t{256} << 20;
  std::vector<std::shared_ptr<Buffer>> buffers;
  for (size_t i = 0; i == 0 || (g_cold && i * bytes < kBeyondCaches); ++i)
    buffers.push_back(std::make_shared<Buffer>(bytes));
  return buffers;
}

// The product as a function, or nothing if oneDNN refuses it.
std::function<void()> Build(const Product& p) {
  const bool nt = p.operands == Operands::kNT, tn = p.operands == Operands::kTN;
  const auto all_a = Buffers(Floats(p.m * p.k)), all_c = Buffers(Floats(p.m * p.n));
  const auto a = all_a[0], b = std::make_shared<Buffer>(Floats(p.k * p.n)), c = all_c[0];
  const MatrixView vb{b->f32(), nt ? 1 : p.n, nt ? p.k : 1};
  if (p.onednn) {
    const auto gemm = OnednnGemm::Prepare({.m = p.m,
                                           .k = p.k,
                                           .n = p.n,
                                           .a_transposed = tn,
                                           .b_transposed = nt,
                                           .packed_b = p.packed,
                                           .activation = p.activation});
    if (!gemm) return {};
    const auto scratch = std::make_shared<Buffer>(gemm->scratch_bytes());
    const auto pads =
        std::make_shared<Buffer>(gemm->thread_bytes() * static_cast<size_t>(p.threads));
    const auto packed = std::make_shared<Buffer>(gemm->packed_bytes());
    if (p.packed) gemm->Pack(b->f32(), packed->data.get());
    const void* weights = p.packed ? packed->f32() : b->f32();
    return [=] {
      gemm->Run(p.m, a->f32(), weights, nullptr, nullptr, c->f32(), scratch->data.get(),
                {pads->data.get(), gemm->thread_bytes(), p.threads});
      (void)b, (void)packed;
    };
  }
  const BOrder order = p.packed ? BOrder::kPacked : nt ? BOrder::kOther : BOrder::kRows;
  const GemmPlan plan = PlanGemm({.m = p.m, .k = p.k, .n = p.n, .b = order, .a_by_rows = !tn});
  const auto scratch = std::make_shared<Buffer>(plan.scratch_bytes);
  const auto packed = std::make_shared<Buffer>(p.packed ? PackedBytes(p.k, p.n) : 0);
  if (p.packed) PackB(vb, p.k, p.n, packed->f32());
  const GemmB operand = p.packed ? GemmB{packed->f32(), {}} : GemmB{nullptr, vb};
  return [=, turn = size_t{0}]() mutable {
    const MatrixView va{all_a[turn % all_a.size()]->f32(), tn ? 1 : p.k, tn ? p.m : 1};
    Gemm(plan, p.m, va, operand, all_c[turn % all_c.size()]->f32(), p.n,
         {.activation = p.activation}, scratch->data.get());
    ++turn;
    (void)b, (void)packed;
  };
}

void Measure(benchmark::State& state, const Product& p) {
  SetThreads(p.threads);
  const std::function<void()> run = Build(p);
  if (!run) {
    state.SkipWithError("oneDNN has only reference code");
    return;
  }
  run();
  const double flops = 2e-9 * static_cast<double>(p.m * p.k * p.n);
  // A small product is repeated to last as long as a sample of the peak.
  const int repeats = std::max(1, static_cast<int>(0.02 * p.threads / flops));
  double best = 0, best_peak = 0;
  std::vector<double> shares;
  for (auto _ : state) {
    const double before = SamplePeak(p.threads);
    const double start = Seconds(p.threads);
    for (int i = 0; i < repeats; ++i) run();
    const double rate = repeats * flops / (Seconds(p.threads) - start);
    const double after = SamplePeak(p.threads);
    best = std::max(best, rate);
    best_peak = std::max({best_peak, before, after});
    shares.push_back(2 * rate / (before + after));
  }
  const double bytes = 4e-9 * static_cast<double>(p.m * p.k + p.k * p.n + p.m * p.n);
  state.counters["GFLOP/s"] = best;
  state.counters["GB/s"] = bytes * best / flops;
  const auto middle = shares.begin() + static_cast<std::ptrdiff_t>(shares.size() / 2);
  std::nth_element(shares.begin(), middle, shares.end());
  state.counters["peak%"] = 100 * *middle;
  state.counters["quiet%"] = 100 * best / best_peak;
}

void Register(const Product& p, const char* suffix = "") {
  constexpr const char* kNames[] = {"NN", "NT", "TN"};
  const std::string name =
      fmt::format("{}/{}{}{}/{}x{}x{}/threads:{}", p.onednn ? "onednn" : "core",
                  kNames[static_cast<int>(p.operands)], p.packed ? "/packed" : "", suffix, p.m, p.k,
                  p.n, p.threads);
  benchmark::RegisterBenchmark(name.c_str(), [p](benchmark::State& s) {
    Measure(s, p);
  })->Unit(benchmark::kMicrosecond);
}

void RegisterAll() {
  constexpr int64_t kRows[] = {197, 394, 788, 1576};
  constexpr int64_t kWeights[][2] = {{768, 768}, {768, 2304}, {768, 3072}, {3072, 768},
                                     {384, 384}, {384, 1536}, {1536, 384}, {192, 192},
                                     {192, 576}, {192, 768},  {768, 192}};
  for (const int threads : {1, 2}) {
    for (const auto& [k, n] : kWeights) {
      for (const int64_t m : kRows) {
        for (const bool onednn : {false, true}) {
          Register({onednn, true, Operands::kNT, m, k, n, threads});
          Register({onednn, false, Operands::kNT, m, k, n, threads});
          Register({onednn, false, Operands::kNN, m, n, k, threads});  // dX = dY W
          Register({onednn, false, Operands::kTN, n, m, k, threads});  // dW = dY' X
        }
      }
    }
    for (const bool onednn : {false, true}) {
      for (const int64_t d : {192, 768}) {
        for (const int64_t m : {int64_t{1}, int64_t{8}}) {
          Register({onednn, true, Operands::kNT, m, d, d, threads});
          Register({onednn, false, Operands::kNT, m, d, d, threads});
        }
        for (const int64_t m : {1576, 12608}) {
          Register({onednn, false, Operands::kNT, m, d, 8, threads});  // x A'
          Register({onednn, false, Operands::kNT, m, 8, d, threads});  // h B'
          Register({onednn, false, Operands::kNN, m, 8, d, threads});  // dH A
          Register({onednn, false, Operands::kTN, 8, m, d, threads});  // dA, and dB transposed
        }
      }
      Register({onednn, true, Operands::kNT, 1576, 768, 3072, threads, Activation::kGeluErf},
               "/gelu_erf");
      Register({onednn, true, Operands::kNT, 1576, 192, 768, threads, Activation::kGeluErf},
               "/gelu_erf");
    }
  }
}

}  // namespace
}  // namespace graft

int main(int argc, char** argv) {
  for (int i = 1; i < argc;) {
    const bool isa = std::strcmp(argv[i], "--isa=avx2") == 0;
    if (isa) graft::LimitIsa("avx2");
    if (!isa && std::strcmp(argv[i], "--cold") != 0) {
      ++i;
      continue;
    }
    if (!isa) graft::g_cold = true;
    std::rotate(argv + i, argv + i + 1, argv + argc--);
  }
  graft::RegisterAll();
  benchmark::Initialize(&argc, argv);
  fmt::print("Peak of one core: {:.1f} GFLOP/s, {}\n", graft::SamplePeak(1), graft::ActiveIsa());
  benchmark::RunSpecifiedBenchmarks();
}
