// Compares every operator's kernel and record with its reference, from the records alone.
//   ops_test --op=layer_norm --sample=odd --target=AVX2 repeats one case (each flag may be
//   missing).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "ops/targets.h"
// After targets.h, which limits the targets that are compiled.
#include "hwy/highway.h"
#include "runtime/threads.h"
#include "tests/op_testing.h"

namespace graft::testing {
namespace {

std::string g_op = "*", g_sample = "*", g_target = "*";

// f(target name) with kernels of each SIMD target that this CPU has.
template <class F>
void ForEachTarget(const F& f) {
  for (int64_t target : hwy::SupportedAndGeneratedTargets()) {
    const std::string name = hwy::TargetName(target);
    if (!GlobMatch(g_target, name)) continue;
    hwy::SetSupportedTargetsForTest(target);
    f(name);
    hwy::SetSupportedTargetsForTest(0);
  }
}

class OpTest : public ::testing::TestWithParam<const OpDef*> {
 protected:
  const OpDef& op() const { return *GetParam(); }
  void SetUp() override {
    if (!GlobMatch(g_op, op().name)) GTEST_SKIP();
  }
  void TearDown() override { SetThreads(1); }

  // f(case, line): the line repeats the case.
  template <class F>
  void ForEachSample(bool bench, const F& f) {
    for (const Sample& s : op().samples()) {
      if (!GlobMatch(g_sample, s.label) || (IsBench(s) && !bench)) continue;
      const std::string line = fmt::format("ops_test --op={} --sample={}", op().name, s.label);
      SCOPED_TRACE(line);
      f(MakeCase(op(), s, 7), line);
    }
  }
};

TEST_P(OpTest, KernelMatchesReference) {
  ForEachSample(false, [&](const OpCase& c, const std::string& line) {
    const Doubles want = c.Reference(c.in);
    ForEachTarget([&](const std::string& target) {
      const std::string full = line + " --target=" + target;
      EXPECT_EQ(Compare(c, RunKernel(c), want), "") << full;
      EXPECT_EQ(Compare(c, RunKernel(c, {.shift = 1, .share = {}}), want), "")
          << full << ", inputs aligned to 4 bytes only";
      if (op().prepare) {
        EXPECT_EQ(Compare(c, RunKernel(c, {.constant = true, .share = {}}), want), "")
            << full << ", constant inputs";
      }
    });
  });
}

TEST_P(OpTest, SameBitsForAnyThreads) {
  ForEachSample(true, [&](const OpCase& c, const std::string& line) {
    SetThreads(1);
    const RunResult one = RunKernel(c);
    for (int threads : {2, 3, 8}) {
      SetThreads(threads);
      EXPECT_TRUE(RunKernel(c).out == one.out) << line << " with " << threads << " threads";
    }
  });
}

TEST_P(OpTest, SameBitsInPlace) {
  if (op().in_place < 0) GTEST_SKIP();
  const size_t input = static_cast<size_t>(op().in_place);
  ForEachSample(false, [&](const OpCase& c, const std::string& line) {
    if (c.in[input].size() != static_cast<size_t>(c.out_shape[0].size())) return;
    ForEachTarget([&](const std::string& target) {
      EXPECT_TRUE(RunKernel(c, {.in_place = true, .share = {}}).out == RunKernel(c).out)
          << line << " --target=" << target;
    });
  });
}

// One element of one input is NaN or infinite: results are so exactly where the reference says.
TEST_P(OpTest, NonFiniteAsReference) {
  ForEachSample(false, [&](const OpCase& original, const std::string& line) {
    for (size_t i = 0; i < original.in.size(); ++i) {
      if (!original.IsFloat(i) || original.in[i].empty()) continue;
      for (double bad :
           {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(),
            -std::numeric_limits<double>::infinity()}) {
        if (std::isinf(bad) && !original.infinite[i]) continue;
        OpCase c = original;
        c.in[i][c.in[i].size() * 2 / 3] = bad;
        const Doubles want = c.Reference(c.in);
        ForEachTarget([&](const std::string& target) {
          const RunResult got = RunKernel(c);
          for (size_t k = 0; k < want.size(); ++k)
            for (size_t e = 0; e < want[k].size(); ++e) {
              if (c.out_type[k] == DType::kI32) continue;
              const double x = Element(c, got, k, e), y = want[k][e];
              const bool same = std::isnan(y)   ? std::isnan(x)
                                : std::isinf(y) ? x == y
                                                : std::isfinite(x);
              ASSERT_TRUE(same) << line << " --target=" << target << ", " << bad << " in input "
                                << i << ": result " << k << " element " << e << " is " << x
                                << ", the reference has " << y;
            }
        });
      }
    }
  });
}

TEST_P(OpTest, ErrorsNameWhatIsWrong) {
  ASSERT_TRUE(op().error_samples) << op().name << " has no error samples";
  const std::vector<ErrorSample> samples = op().error_samples();
  EXPECT_FALSE(samples.empty()) << op().name;
  for (const ErrorSample& s : samples) {
    const Attrs attrs = s.attrs.empty() && op().default_attrs ? op().default_attrs() : s.attrs;
    try {
      op().infer(s.in, attrs);
      ADD_FAILURE() << op().name << ": expected an error with '" << s.message << "'";
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), ::testing::HasSubstr(s.message)) << op().name;
    }
  }
}

TEST_P(OpTest, CommutativeAsFlagged) {
  if (!op().commutative) GTEST_SKIP();
  size_t swapped = 0;
  ForEachSample(false, [&](const OpCase& c, const std::string& line) {
    OpCase other = c;
    std::swap(other.in[0], other.in[1]);
    std::swap(other.in_shape[0], other.in_shape[1]);
    try {
      InferCase(other);
    } catch (const Error&) {
      return;  // broadcasting goes one way
    }
    ++swapped;
    EXPECT_EQ(c.Reference(c.in), other.Reference(other.in)) << line;
    EXPECT_EQ(RunKernel(c).out, RunKernel(other).out) << line;
  });
  if (g_sample == "*") {
    EXPECT_GT(swapped, 0u) << op().name;
  }
}

// To pick rows of the flagged inputs picks rows of result 0.
TEST_P(OpTest, RowsAsFlagged) {
  if (op().row_inputs == 0) GTEST_SKIP();
  ForEachSample(false, [&](const OpCase& c, const std::string& line) {
    const int64_t rows = c.out_shape[0][0];
    const std::vector<int64_t> pick =
        rows == 0 ? std::vector<int64_t>{} : std::vector<int64_t>{rows - 1, 0, rows / 2, 0};
    auto picked = [&](const std::vector<double>& x, const Extents& e) {
      const int64_t size = e[0] == 0 ? 0 : e.size() / e[0];
      std::vector<double> result;
      for (int64_t r : pick)
        result.insert(result.end(), x.begin() + r * size, x.begin() + (r + 1) * size);
      return result;
    };
    OpCase few = c;
    bool any = false;
    for (size_t i = 0; i < c.in.size(); ++i)
      if ((op().row_inputs >> i & 1) && c.in_shape[i].rank == c.out_shape[0].rank &&
          c.in_shape[i][0] == rows) {
        few.in[i] = picked(c.in[i], c.in_shape[i]);
        few.in_shape[i].d[0] = static_cast<int64_t>(pick.size());
        any = true;
      }
    // Attributes turn the input over (matmul with ta).
    if (!any || ((op().row_inputs & 1) && c.in_shape[0][0] != rows)) return;
    InferCase(few);
    EXPECT_EQ(few.Reference(few.in)[0], picked(c.Reference(c.in)[0], c.out_shape[0])) << line;
  });
}

TEST_P(OpTest, CostIsGiven) {
  ASSERT_TRUE(op().cost) << op().name;
  ForEachSample(true, [&](const OpCase& c, const std::string& line) {
    const Cost cost = op().cost({c.in_shape, c.out_shape, c.attrs, c.in_type, c.out_type});
    EXPECT_GE(cost.flops, 0) << line;
    double written = 0;
    for (size_t i = 0; i < c.out_shape.size(); ++i)
      written += CostArgs::BytesOf(c.out_shape[i], c.out_type[i]);
    EXPECT_GE(cost.bytes, written) << line;
  });
}

// Labels that each record must have, unless its shapes do not allow them.
TEST_P(OpTest, SamplesCoverTheUsualShapes) {
  const std::map<std::string_view, std::set<std::string>> missing{
      {"clip_scale", {"odd", "prime", "empty", "bench"}},  // a single number
      {"offsets", {"odd", "prime", "empty", "bench"}},     // no inputs
      {"shift_offsets", {"prime", "bench"}},               // a few integers
      {"first_rows", {"prime", "bench"}}};
  std::set<std::string> labels;
  for (const Sample& s : op().samples())
    EXPECT_TRUE(labels.insert(s.label).second) << op().name << " has two samples " << s.label;
  for (const std::string label : {"one", "odd", "prime", "empty", "bench"}) {
    const auto known = missing.find(op().name);
    if (known != missing.end() && known->second.contains(label)) continue;
    EXPECT_TRUE(labels.contains(label)) << op().name << " has no sample '" << label << "'";
  }
}

INSTANTIATE_TEST_SUITE_P(All, OpTest, ::testing::ValuesIn(AllOps().begin(), AllOps().end()),
                         [](const auto& info) { return std::string(info.param->name); });

TEST(Registry, NamesAreUniqueAndRecordsComplete) {
  std::set<std::string_view> names;
  for (const OpDef* op : AllOps()) {
    EXPECT_TRUE(names.insert(op->name).second) << op->name;
    EXPECT_TRUE(op->infer && op->reference && op->samples) << op->name;
    EXPECT_TRUE((op->kernel != nullptr) != (op->prepare != nullptr)) << op->name;
    for (char letter : op->name)
      EXPECT_TRUE(std::islower(letter) || std::isdigit(letter) || letter == '_') << op->name;
  }
}

// The session lets all results of an update take the place of what they update.
TEST(Optimizers, UpdateInPlace) {
  const std::pair<const OpDef*, std::vector<int>> updates[] = {{&kAdamW, {0, 2, 3}},
                                                               {&kSgd, {0, 2}}};
  for (const auto& [op, share] : updates)
    for (const Sample& s : op->samples()) {
      const OpCase c = MakeCase(*op, s, 7);
      EXPECT_TRUE(RunKernel(c, {.share = share}).out == RunKernel(c).out)
          << op->name << " " << s.label;
    }
}

}  // namespace
}  // namespace graft::testing

int main(int argc, char** argv) {
  using namespace graft::testing;
  ::testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    for (auto [name, value] :
         {std::pair{"--op=", &g_op}, {"--sample=", &g_sample}, {"--target=", &g_target}})
      if (flag.starts_with(name)) *value = flag.substr(std::string_view(name).size());
  }
  return RUN_ALL_TESTS();
}
