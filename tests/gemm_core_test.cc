// Compares gemm_core on every SIMD target of this machine with sums in double, and oneDNN with
// gemm_core.
#include "ops/gemm_core.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <random>
#include <span>
#include <thread>
#include <vector>

#include "ops/onednn_gemm.h"
#include "ops/targets.h"
#include "runtime/threads.h"
#include "tests/simd_testing.h"

namespace graft::gemm_core_test {
namespace {

constexpr float kGuard = 12345.5f;

std::vector<float> Random(size_t n, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> v(n);
  for (float& x : v) x = normal(rng);
  return v;
}

struct Scratch {
  explicit Scratch(size_t bytes)
      : data(static_cast<std::byte*>(std::aligned_alloc(64, (bytes + 127) / 64 * 64))) {
    std::fill(data.get(), data.get() + bytes, std::byte{0xff});  // NaN
    guard = data.get() + bytes;
    *guard = std::byte{0x5a};
  }
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::unique_ptr<std::byte, Free> data;
  std::byte* guard;
};

struct Case {
  int64_t m, n, k;
  bool a_transposed = false;
  enum { kNN, kNT, kOdd, kPackedNN, kPackedNT } b = kNN;
  float alpha = 1;
  bool bias = false, residual = false, in_place = false, slope = false;
  Activation activation = Activation::kNone;
  int64_t capacity = 0;  // 0: m
};

struct Problem {
  explicit Problem(const Case& which) : t(which) {
    a = Random(static_cast<size_t>(t.m * t.k) + 7, 1);
    b = Random(static_cast<size_t>(2 * t.k * t.n) + 7, 2);
    bias = Random(static_cast<size_t>(t.n), 3);
    residual = Random(static_cast<size_t>(t.m * ldc()) + 1, 4);
    a_view = t.a_transposed ? MatrixView{a.data(), 1, t.m} : MatrixView{a.data(), t.k, 1};
    const bool transposed = t.b == Case::kNT || t.b == Case::kPackedNT;
    b_view = t.b == Case::kOdd ? MatrixView{b.data(), 2 * t.n, 2}
             : transposed      ? MatrixView{b.data(), 1, t.k}
                               : MatrixView{b.data(), t.n, 1};
  }
  int64_t ldc() const { return t.n + 3; }

  std::vector<float> Run(std::vector<float>* slopes = nullptr) const {
    const bool packed = t.b == Case::kPackedNN || t.b == Case::kPackedNT;
    const BOrder order = packed             ? BOrder::kPacked
                         : t.b == Case::kNN ? BOrder::kRows
                                            : BOrder::kOther;
    const GemmPlan plan = PlanGemm({.m = std::max(t.m, t.capacity),
                                    .k = t.k,
                                    .n = t.n,
                                    .b = order,
                                    .a_by_rows = !t.a_transposed});
    Scratch scratch(plan.scratch_bytes), panels(packed ? PackedBytes(t.k, t.n) : 0);
    GemmB operand{.packed = nullptr, .view = b_view};
    if (packed) {
      float* to = reinterpret_cast<float*>(panels.data.get());
      PackB(b_view, t.k, t.n, to);
      operand = {.packed = to, .view = {}};
    }
    std::vector<float> c(residual.size(), kGuard);
    if (t.in_place) c = residual;
    c.back() = kGuard;
    if (slopes != nullptr) slopes->assign(residual.size(), kGuard);
    GemmEpilogue e{.alpha = t.alpha, .bias = t.bias ? bias.data() : nullptr};
    e.residual = t.in_place ? c.data() : t.residual ? residual.data() : nullptr;
    e.residual_stride = ldc();
    e.activation = t.activation;
    e.slope = slopes != nullptr ? slopes->data() : nullptr;
    Gemm(plan, t.m, a_view, operand, c.data(), ldc(), e, scratch.data.get());
    EXPECT_EQ(*scratch.guard, std::byte{0x5a});
    EXPECT_EQ(*panels.guard, std::byte{0x5a});
    return c;
  }

  void Check() const {
    SCOPED_TRACE(::testing::Message() << "m " << t.m << " n " << t.n << " k " << t.k << " b " << t.b
                                      << " at " << t.a_transposed);
    std::vector<float> slopes;
    const std::vector<float> c = Run(t.slope ? &slopes : nullptr);
    for (int64_t i = 0; i < t.m; ++i) {
      for (int64_t j = 0; j < ldc(); ++j) {
        const size_t at = static_cast<size_t>(i * ldc() + j);
        if (j >= t.n) {
          ASSERT_EQ(c[at], t.in_place ? residual[at] : kGuard) << "outside C, row " << i;
          continue;
        }
        double sum = 0, size = 0;
        for (int64_t k = 0; k < t.k; ++k) {
          const double x =
              static_cast<double>(a_view.data[i * a_view.row_stride + k * a_view.col_stride]) *
              b_view.data[k * b_view.row_stride + j * b_view.col_stride];
          sum += x;
          size += std::abs(x);
        }
        sum *= t.alpha;
        if (t.bias) sum += bias[j];
        size = (std::abs(t.alpha) * size + 4) * (4 + 0.02 * static_cast<double>(t.k));
        const double tolerance = 6e-8 * size;
        double slope = 1;
        if (t.activation == Activation::kGeluErf) {
          const double cdf = 0.5 * std::erfc(-sum / std::sqrt(2.0));
          slope = cdf + sum * std::exp(-0.5 * sum * sum) / std::sqrt(2 * M_PI);
          sum *= cdf;
        }
        if (t.activation == Activation::kGeluTanh) {
          const double c1 = std::sqrt(2 / M_PI), cubic = 0.044715 * sum * sum;
          const double tanh = std::tanh(c1 * sum * (1 + cubic)), half = 0.5 * (1 + tanh);
          slope = half + 0.5 * sum * (1 - tanh * tanh) * c1 * (1 + 3 * cubic);
          sum *= half;
        }
        if (t.slope) {
          ASSERT_NEAR(slopes[at], slope, 1.2 * tolerance) << i << ", " << j;
        }
        if (t.residual || t.in_place) sum += residual[at];
        ASSERT_NEAR(c[at], sum, 1.2 * tolerance) << i << ", " << j;
      }
    }
    ASSERT_EQ(c.back(), kGuard);
  }

  Case t;
  std::vector<float> a, b, bias, residual;
  MatrixView a_view, b_view;
};

TEST(GemmCore, MatchesDouble) {
  ForEachTarget([] {
    for (const auto& [m, n, k] : std::vector<std::array<int64_t, 3>>{{1, 1, 1},
                                                                     {1, 33, 7},
                                                                     {13, 1, 5},
                                                                     {5, 31, 1},
                                                                     {7, 16, 3},
                                                                     {12, 32, 64},
                                                                     {23, 67, 29},
                                                                     {17, 8, 131},
                                                                     {97, 8, 768},
                                                                     {8, 768, 67},
                                                                     {101, 97, 389},
                                                                     {3, 5, 1543}}) {
      for (const bool at : {false, true}) {
        for (const auto b : {Case::kNN, Case::kNT, Case::kOdd, Case::kPackedNN, Case::kPackedNT}) {
          Problem({.m = m, .n = n, .k = k, .a_transposed = at, .b = b}).Check();
        }
      }
    }
  });
}

TEST(GemmCore, Epilogues) {
  ForEachTarget([] {
    for (const int64_t k : {0, 19, 800}) {
      for (const auto b : {Case::kNN, Case::kNT, Case::kPackedNT}) {
        for (const int64_t n : {37, 64}) {
          const Case base{.m = 29, .n = n, .k = k, .b = b};
          Case t = base;
          t.alpha = -0.75f, t.bias = true;
          Problem(t).Check();
          t.residual = true;
          Problem(t).Check();
          t.in_place = true;
          Problem(t).Check();
          t = base, t.bias = t.slope = true, t.alpha = 0.1f;
          for (const Activation f :
               {Activation::kNone, Activation::kGeluErf, Activation::kGeluTanh}) {
            t.activation = f;
            t.residual = !t.residual;
            Problem(t).Check();
          }
          t.slope = false;
          Problem(t).Check();
        }
      }
    }
  });
}

TEST(GemmCore, Empty) {
  Problem({.m = 0, .n = 5, .k = 3, .capacity = 4}).Check();
  Problem({.m = 4, .n = 0, .k = 3}).Check();
  Problem({.m = 4, .n = 40, .k = 0}).Check();
  Problem({.m = 4, .n = 40, .k = 0, .b = Case::kPackedNN, .bias = true}).Check();
}

TEST(GemmCore, InPlaceResidualGivesTheSameBits) {
  Case t{.m = 45, .n = 70, .k = 900, .alpha = 0.3f, .bias = true, .residual = true};
  const std::vector<float> apart = Problem(t).Run();
  t.in_place = true;
  std::vector<float> in_place = Problem(t).Run();
  for (int64_t i = 0; i < t.m; ++i) {
    for (int64_t j = 0; j < t.n; ++j) {
      const size_t at = static_cast<size_t>(i * (t.n + 3) + j);
      ASSERT_EQ(apart[at], in_place[at]);
    }
  }
}

TEST(GemmCore, SameBitsForAnyNumberOfThreads) {
  const int threads = Threads();
  ForEachTarget([] {
    for (const bool at : {false, true}) {
      for (const auto& [m, n, k] : std::vector<std::array<int64_t, 3>>{
               {197, 200, 500}, {8, 300, 3000}, {192, 192, 2100}, {1, 1000, 300}}) {
        const Problem p({.m = m, .n = n, .k = k, .a_transposed = at});
        SetThreads(1);
        const std::vector<float> one = p.Run();
        for (const int t : {2, 3, 8}) {
          SetThreads(t);
          ASSERT_EQ(p.Run(), one) << t << " threads";
        }
      }
    }
  });
  SetThreads(threads);
}

TEST(GemmCore, RowsDoNotDependOnOtherRows) {
  ForEachTarget([] {
    for (const auto& [n, k] : std::vector<std::array<int64_t, 2>>{{70, 900}, {8, 100}}) {
      std::vector<float> whole;
      for (const auto b : {Case::kNN, Case::kNT, Case::kPackedNT, Case::kPackedNN}) {
        Problem all({.m = 211, .n = n, .k = k, .b = b});
        const std::vector<float> c = all.Run();
        for (const int64_t m : {1, 2, 5, 12, 13, 100}) {
          Problem some({.m = m, .n = n, .k = k, .b = b, .capacity = m < 10 ? 500 : 0});
          for (const int64_t from : {int64_t{0}, 211 - m}) {
            some.a_view.data = all.a.data() + from * k;
            some.b_view = all.b_view;
            const std::vector<float> part = some.Run();
            for (int64_t i = 0; i < m * (n + 3); ++i) {
              ASSERT_EQ(part[i], c[from * (n + 3) + i]);
            }
          }
        }
      }
    }
  });
}

TEST(GemmCore, PackedAndPlainGiveTheSameBits) {
  ForEachTarget([] {
    for (const int64_t m : {3, 50}) {
      Case t{.m = m, .n = 77, .k = 1000};
      const std::vector<float> plain = Problem(t).Run();
      t.b = Case::kPackedNN;
      ASSERT_EQ(Problem(t).Run(), plain);
    }
  });
}

TEST(GemmCore, ScratchOfALargerKIsEnough) {
  for (const auto& [m, n] : std::vector<std::array<int64_t, 2>>{{768, 768}, {3072, 768}, {8, 50}}) {
    size_t before = 0;
    for (int64_t k = 0; k < 4000; ++k) {
      const GemmPlan p = PlanGemm({.m = m, .k = k, .n = n, .b = BOrder::kRows, .a_by_rows = false});
      const size_t used =
          static_cast<size_t>(p.group * m + p.group * (p.pack_b ? p.n_block : p.panel));
      ASSERT_LE(used * sizeof(float), p.scratch_bytes) << k;
      ASSERT_LE(before, p.scratch_bytes) << k;
      before = p.scratch_bytes;
    }
  }
}

TEST(OnednnGemm, MatchesGemmCoreAndKeepsToItsRows) {
  int served = 0;  // the library may refuse a shape, but not all of them
  for (const bool packed : {false, true}) {
    for (const bool nt : {false, true}) {
      for (const int64_t m : {1, 13, 64, 100, 197, 300}) {  // of 300: blocks of 100
        for (const Activation f : {Activation::kNone, Activation::kGeluErf}) {
          Case t{.m = m, .n = 37, .k = 53, .bias = true, .residual = true};
          t.b = nt ? Case::kNT : Case::kNN;
          t.activation = f;
          const Problem p(t);
          const auto gemm = OnednnGemm::Prepare({.m = 300,
                                                 .k = t.k,
                                                 .n = t.n,
                                                 .b_transposed = nt,
                                                 .packed_b = packed,
                                                 .bias = true,
                                                 .residual = true,
                                                 .activation = f});
          if (!gemm) continue;
          ++served;
          Scratch scratch(gemm->scratch_bytes()), weights(gemm->packed_bytes());
          Scratch pads(gemm->thread_bytes() * static_cast<size_t>(Threads()));
          if (packed) gemm->Pack(p.b.data(), weights.data.get());
          const void* b = packed ? static_cast<const void*>(weights.data.get()) : p.b.data();
          std::vector<float> residual(m * t.n);
          for (int64_t i = 0; i < m; ++i)
            std::copy_n(&p.residual[i * p.ldc()], t.n, &residual[i * t.n]);
          std::vector<float> c(residual.size() + 40, kGuard);
          gemm->Run(m, p.a.data(), b, p.bias.data(), residual.data(), c.data(), scratch.data.get(),
                    {pads.data.get(), gemm->thread_bytes(), Threads()});
          EXPECT_EQ(*scratch.guard, std::byte{0x5a});
          EXPECT_EQ(*pads.guard, std::byte{0x5a});
          const std::vector<float> expected = p.Run();
          for (int64_t i = 0; i < m; ++i)
            for (int64_t j = 0; j < t.n; ++j)
              ASSERT_NEAR(c[i * t.n + j], expected[i * p.ldc() + j], 5e-5)
                  << i << "," << j << " of " << m << " rows";
          EXPECT_THAT(std::span(c).subspan(residual.size()), ::testing::Each(kGuard));
        }
      }
    }
  }
  EXPECT_GT(served, 0);
}

// In dW = dY' X, A is stored [k, m] and cut along m into several blocks.
TEST(OnednnGemm, TransposedAInBlocks) {
  constexpr int64_t kK = 75, kN = 90;
  for (const int64_t m : {64, 192, 300}) {
    const auto gemm =
        OnednnGemm::Prepare({.m = m, .k = kK, .n = kN, .a_transposed = true, .residual = true});
    ASSERT_TRUE(gemm.has_value());
    std::vector<float> a(static_cast<size_t>(kK * m)), b(static_cast<size_t>(kK * kN));
    for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i % 17) / 8 - 1;
    for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(i % 23) / 11 - 1;
    std::vector<float> c(static_cast<size_t>(m * kN), 0.5f);
    Scratch scratch(gemm->scratch_bytes());
    Scratch pads(gemm->thread_bytes() * static_cast<size_t>(Threads()));
    gemm->Run(m, a.data(), b.data(), nullptr, c.data(), c.data(), scratch.data.get(),
              {pads.data.get(), gemm->thread_bytes(), Threads()});
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < kN; ++j) {
        double want = 0.5;
        for (int64_t x = 0; x < kK; ++x) want += static_cast<double>(a[x * m + i]) * b[x * kN + j];
        ASSERT_NEAR(c[i * kN + j], want, 1e-4) << m << ": " << i << "," << j;
      }
  }
}

// Products of one shape share what they execute with, also where threads of a user's own run them.
TEST(OnednnGemm, OneShapeInSeveralThreads) {
  constexpr int64_t kM = 32, kK = 64, kN = 80;
  const auto filled = [](int64_t n, int by) {
    std::vector<float> values(static_cast<size_t>(n));
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>((static_cast<int>(i) * by) % 19) / 8 - 1;
    return values;
  };
  const auto product = [&](int by) {
    const auto gemm = OnednnGemm::Prepare({.m = kM, .k = kK, .n = kN, .a_transposed = true});
    const std::vector<float> a = filled(kK * kM, by), b = filled(kK * kN, by + 1);
    std::vector<float> c(static_cast<size_t>(kM * kN));
    Scratch scratch(gemm->scratch_bytes());
    Scratch pads(gemm->thread_bytes() * static_cast<size_t>(Threads()));
    gemm->Run(kM, a.data(), b.data(), nullptr, nullptr, c.data(), scratch.data.get(),
              {pads.data.get(), gemm->thread_bytes(), Threads()});
    return c;
  };
  constexpr int kThreads = 4, kRounds = 200;
  std::vector<std::vector<float>> expected;
  for (int t = 0; t < kThreads; ++t) expected.push_back(product(t + 1));
  std::vector<int> wrong(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < kRounds; ++i) wrong[t] += product(t + 1) != expected[t];
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(kThreads));
}

TEST(OnednnGemm, RefusesEmptyShapes) {
  EXPECT_FALSE(OnednnGemm::Prepare({.m = 0, .k = 4, .n = 4}));
  EXPECT_FALSE(OnednnGemm::Prepare({.m = 4, .k = 0, .n = 4}));
  EXPECT_FALSE(OnednnGemm::Prepare({.m = 4, .k = 4, .n = 0}));
}

}  // namespace
}  // namespace graft::gemm_core_test
