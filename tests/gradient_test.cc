// Compares every gradient rule with central differences of the reference, in double precision.
//   gradient_test --op=layer_norm --sample=odd repeats one case (each flag may be missing).
#include <gtest/gtest.h>

#include <map>

#include "tests/op_testing.h"

namespace graft::testing {
namespace {

std::string g_op = "*", g_sample = "*";

// Operators without a gradient rule, with the reason. A record that has none must be here.
const std::map<std::string_view, std::string_view>& WithoutGradient() {
  static const std::string_view kSecond = "made by gradient rules; second derivatives are not used";
  static const std::string_view kIntegers = "computes integers";
  static const std::string_view kCompiled = "is made when gradients have been taken";
  static const std::string_view kUpdate = "updates parameters after the gradients";
  static const std::map<std::string_view, std::string_view> kReasons{
      {"gelu_grad", kSecond},
      {"gelu_tanh_grad", kSecond},
      {"relu_grad", kSecond},
      {"silu_grad", kSecond},
      {"tanh_grad", kSecond},
      {"sigmoid_grad", kSecond},
      {"layer_norm_grad_input", kSecond},
      {"layer_norm_grad_affine", kSecond},
      {"attention_grad", kSecond},
      {"nf4_dequantize", "makes weights that are frozen by their form"},
      {"gelu_near", kCompiled},
      {"low_matmul", kCompiled},
      {"byte_rows", kCompiled},
      {"low_layer_norm", kCompiled},
      {"to_bf16", kCompiled},
      {"to_f32", kCompiled},
      {"low_attention", kCompiled},
      {"low_attention_grad", kCompiled},
      {"cross_entropy_grad", kSecond},
      {"patchify", "reads images, which are inputs"},
      {"offsets", kIntegers},
      {"shift_offsets", kIntegers},
      {"first_rows", kIntegers},
      {"adamw", kUpdate},
      {"sgd", kUpdate},
      {"clip_scale", kUpdate}};
  return kReasons;
}

// Lists the operators whose rule refuses, with an Error, to differentiate some of the floats that
// it reads, which never train. The rule must do without them and give the other gradients.
const std::map<std::string_view, std::string_view>& WithFrozenInputs() {
  static const std::map<std::string_view, std::string_view> kReasons{
      {"nf4_matmul", "scales of a quantised weight"}};
  return kReasons;
}

// A case with random weights of its results: the function whose gradient is tested is
//   F(inputs) = sum over results k and elements i of weight[k][i] result[k][i].
// A plain sum would hide mistakes that are symmetric, or is constant as for softmax.
struct GradientCase {
  OpCase c;
  Doubles weight;
  std::vector<bool> reached;  // by result: whether a cotangent reaches it; no weights otherwise
  std::vector<bool> trains;   // by input: a float that the rule differentiates

  double F(const Doubles& inputs) const {
    const Doubles out = c.Reference(inputs);
    double sum = 0;
    for (size_t k = 0; k < weight.size(); ++k)
      for (size_t i = 0; i < weight[k].size(); ++i) sum += weight[k][i] * out[k][i];
    return sum;
  }
  // dF / dt at x + t v, by differences of fourth order.
  double Slope(const Doubles& x, const Doubles& v) const {
    const double h = 1e-3;
    auto at = [&](double t) {
      Doubles moved = x;
      for (size_t k = 0; k < v.size(); ++k)
        for (size_t i = 0; i < v[k].size(); ++i) moved[k][i] += t * v[k][i];
      return F(moved);
    };
    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
  }
};

// Computes the gradients of F by the record's rule, interpreted; empty where the rule gives none.
Doubles RuleGradients(const GradientCase& t, const std::vector<bool>& need) {
  Graph g;
  InterpretOptions options;
  options.counts = {.sequences = 3, .tokens = 3};
  auto leaf = [&](const std::string& name, DType dtype, const Extents& e,
                  const std::vector<double>& v) {
    options.leaves[name] = v;
    return g.AddInput(name, {dtype, ToShape(e)});
  };
  std::vector<ValueId> in, cotangent;
  for (size_t i = 0; i < t.c.in.size(); ++i)
    in.push_back(leaf(fmt::format("in{}", i), t.c.in_type[i], t.c.in_shape[i], t.c.in[i]));
  const ValueList out = g.Add(*t.c.op, in, t.c.attrs);
  for (size_t k = 0; k < out.size(); ++k)
    cotangent.push_back(!t.reached[k] ? ValueId{}
                                      : leaf(fmt::format("d_out{}", k), DType::kF32,
                                             t.c.out_shape[k], t.weight[k]));
  const std::vector<ValueId> d = t.c.op->gradient({g, in, out, cotangent, need, t.c.attrs});
  EXPECT_EQ(d.size(), in.size());
  const Values64 values = Interpret(g, options);
  Doubles gradients(in.size());
  for (size_t i = 0; i < d.size(); ++i) {
    if (!d[i].valid()) continue;
    EXPECT_EQ(ToString(g.type(d[i])), ToString(g.type(in[i]))) << "gradient of input " << i;
    gradients[i] = values[d[i].i];
  }
  return gradients;
}

std::vector<bool> Floats(const OpCase& c) {
  std::vector<bool> floats;
  for (size_t i = 0; i < c.in.size(); ++i) floats.push_back(c.IsFloat(i));
  return floats;
}

// Takes away the inputs that the rule refuses, if its operator may.
void DropFrozenInputs(GradientCase& t) {
  t.trains = Floats(t.c);
  if (!WithFrozenInputs().contains(t.c.op->name)) return;
  GradientCase first = t;
  for (size_t k = 1; k < t.weight.size(); ++k) first.weight[k].clear(), first.reached[k] = false;
  for (size_t i = 0; i < t.trains.size(); ++i) {
    if (!t.trains[i]) continue;
    std::vector<bool> need(t.trains.size());
    need[i] = true;
    try {
      RuleGradients(first, need);
    } catch (const Error&) {
      t.trains[i] = false;
    }
  }
  EXPECT_NE(t.trains, Floats(t.c)) << t.c.op->name << " refuses nothing";
  EXPECT_TRUE(t.trains[0]) << t.c.op->name;
}

// A rule may refuse cotangents of results but the first with an Error. Takes those away.
void DropRefusedResults(GradientCase& t) {
  for (size_t k = 1; k < t.weight.size(); ++k) {
    GradientCase alone = t;
    for (size_t other = 0; other < t.weight.size(); ++other)
      if (other != k) alone.weight[other].clear(), alone.reached[other] = false;
    try {
      RuleGradients(alone, t.trains);
    } catch (const Error&) {
      t.weight[k].clear(), t.reached[k] = false;
    }
  }
}

class GradientTest : public ::testing::TestWithParam<const OpDef*> {
 protected:
  const OpDef& op() const { return *GetParam(); }

  template <class F>  // f(case, line)
  void ForEachSample(const F& f) {
    if (!op().gradient || !GlobMatch(g_op, op().name)) GTEST_SKIP();
    for (const Sample& s : op().samples()) {
      if (IsBench(s) || !GlobMatch(g_sample, s.label)) continue;
      const std::string line = fmt::format("gradient_test --op={} --sample={}", op().name, s.label);
      SCOPED_TRACE(line);
      GradientCase t{MakeCase(op(), s, 11), {}, {}, {}};
      t.reached.assign(t.c.out_shape.size(), true);
      std::mt19937 random(5);
      std::uniform_real_distribution<double> uniform(-1, 1);
      for (size_t k = 0; k < t.c.out_shape.size(); ++k) {
        t.weight.emplace_back(static_cast<size_t>(t.c.out_shape[k].size()));
        for (double& w : t.weight.back()) w = uniform(random);
      }
      DropFrozenInputs(t);
      DropRefusedResults(t);
      f(t, line);
    }
  }
};

// Checks each element of each input, and large cases along eight random directions.
void ExpectSlopes(const GradientCase& t, const Doubles& gradients, const std::string& line) {
  size_t elements = 0;
  for (size_t i = 0; i < t.c.in.size(); ++i)
    if (t.trains[i]) elements += t.c.in[i].size();
  const bool large = elements > 600;
  std::mt19937 random(3);
  std::normal_distribution<double> normal;
  const double rounding = 5e-11 * std::abs(t.F(t.c.in));  // of F, divided by the step
  for (size_t i = 0; i < t.c.in.size(); ++i) {
    if (!t.trains[i] || t.c.in[i].empty()) continue;
    const size_t n = t.c.in[i].size(), directions = large ? 8 : n;
    std::vector<double> by_rule(directions), by_difference(directions);
    double scale = 1e-3;
    for (size_t k = 0; k < directions; ++k) {
      Doubles v(t.c.in.size());
      v[i].resize(n);
      if (large) {
        for (double& x : v[i]) x = normal(random) / std::sqrt(static_cast<double>(n));
      } else {
        v[i][k] = 1;
      }
      by_difference[k] = t.Slope(t.c.in, v);
      if (!gradients[i].empty())
        for (size_t e = 0; e < n; ++e) by_rule[k] += gradients[i][e] * v[i][e];
      scale = std::max(scale, std::abs(by_difference[k]));
    }
    for (size_t k = 0; k < directions; ++k)
      ASSERT_NEAR(by_rule[k], by_difference[k], (large ? 1e-7 : 1e-8) * scale + rounding)
          << line << ": input " << i << (large ? ", direction " : ", element ") << k;
  }
}

TEST_P(GradientTest, RuleMatchesDifferences) {
  ForEachSample([&](const GradientCase& t, const std::string& line) {
    if (std::isnan(t.F(t.c.in))) return;  // wrong labels
    ExpectSlopes(t, RuleGradients(t, t.trains), line);
  });
}

TEST_P(GradientTest, EachResultAlone) {
  ForEachSample([&](const GradientCase& t, const std::string& line) {
    if (std::count(t.reached.begin(), t.reached.end(), true) < 2) return;
    for (size_t k = 0; k < t.weight.size(); ++k) {
      if (!t.reached[k]) continue;
      GradientCase alone = t;
      for (size_t other = 0; other < t.weight.size(); ++other)
        if (other != k) alone.weight[other].clear(), alone.reached[other] = false;
      ExpectSlopes(alone, RuleGradients(alone, t.trains),
                   fmt::format("{}, result {} alone", line, k));
    }
  });
}

// What is asked for does not change what is answered; nothing else is built.
TEST_P(GradientTest, AnySubsetOfInputs) {
  ForEachSample([&](const GradientCase& t, const std::string& line) {
    const std::vector<bool>& floats = t.trains;
    const size_t count = static_cast<size_t>(std::count(floats.begin(), floats.end(), true));
    if (count < 1 || count > 3) return;
    const Doubles all = RuleGradients(t, floats);
    for (uint32_t subset = 1; subset < 1u << floats.size(); ++subset) {
      std::vector<bool> need = floats;
      bool valid = true;
      for (size_t i = 0; i < need.size(); ++i) {
        need[i] = subset >> i & 1;
        valid &= floats[i] || !need[i];
      }
      if (!valid) continue;
      const Doubles some = RuleGradients(t, need);
      for (size_t i = 0; i < need.size(); ++i) {
        const std::vector<double> want = need[i] ? all[i] : std::vector<double>{};
        ASSERT_EQ(some[i].size(), want.size()) << line << ": subset " << subset << ", input " << i;
        for (size_t e = 0; e < want.size(); ++e)
          ASSERT_TRUE(some[i][e] == want[e] || (std::isnan(some[i][e]) && std::isnan(want[e])))
              << line << ": subset " << subset << ", input " << i << ", element " << e;
      }
    }
  });
}

TEST_P(GradientTest, HasARuleOrAReason) {
  EXPECT_NE(op().gradient != nullptr, WithoutGradient().contains(op().name))
      << op().name << (op().gradient ? " has a rule" : " has neither a rule nor a reason");
}

INSTANTIATE_TEST_SUITE_P(All, GradientTest, ::testing::ValuesIn(AllOps().begin(), AllOps().end()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace graft::testing

int main(int argc, char** argv) {
  using namespace graft::testing;
  ::testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    for (auto [name, value] : {std::pair{"--op=", &g_op}, {"--sample=", &g_sample}})
      if (flag.starts_with(name)) *value = flag.substr(std::string_view(name).size());
  }
  return RUN_ALL_TESTS();
}
