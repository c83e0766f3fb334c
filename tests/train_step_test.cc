// Tests what a training step promises beyond its numbers.
#include "autograd/train_step.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "autograd/gradient.h"
#include "autograd/late_gradient.h"
#include "ops/ops.h"
#include "runtime/interpret.h"
#include "runtime/lifetimes.h"
#include "runtime/rng.h"
#include "train/evaluator.h"

namespace graft::train_step_test {
namespace {

const VitConfig kTiny{.image_size = 8,
                      .patch_size = 4,
                      .width = 12,
                      .depth = 1,
                      .heads = 3,
                      .mlp_width = 20,
                      .classes = 5};

// Weights and moments stay those of the last good step, so that they can still be saved.
TEST(TrainStep, ANonFiniteLossUpdatesNothing) {
  ParamStore params;
  InitVit(kTiny, params, 1);
  const Graph g = MethodGraph(kTiny, {.loss = true}, ParseMethod("full"), params, 1);
  TrainStep step(g, params, {}, 2, TrainingPasses({}));
  const auto run = [&](float pixel) {
    return step.Run(3, 0, 1e-3, [&](int64_t first, int64_t count, int worker) {
      const Tensor image = step.session().Input("image", worker);
      std::fill_n(image.f32(), image.shape.size(), first == 0 ? 0.5f : pixel);
      std::fill_n(step.session().Input("labels", worker).i32(), count, 1);
    });
  };
  EXPECT_TRUE(std::isfinite(run(1).loss));
  std::map<std::string, std::vector<float>> before;
  for (const std::string& name : params.names())
    before[name] = {params.values(name).begin(), params.values(name).end()};
  EXPECT_GT(before.count("opt.m.head.weight"), 0u);
  EXPECT_FALSE(std::isfinite(run(std::numeric_limits<float>::quiet_NaN()).loss));
  for (const auto& [name, values] : before)
    EXPECT_TRUE(std::equal(values.begin(), values.end(), params.data(name))) << name;
  // What the bad step added to the gradients is gone.
  EXPECT_TRUE(std::isfinite(run(1).loss));
}

// --- rates of parameters ---------------------------------------------------------------------

double FactorOf(const std::string& name, int) {
  return name.ends_with(".lora_b") ? 16 : name == "head.weight" ? 0.5 : 1;
}

// Three steps in double are compared with AdamW written out, in which a factor multiplies the decay
// as well.
TEST(RateFactor, IsThatOfAParameterGroup) {
  constexpr double kRate = 1e-2, kDecay = 0.3, kBeta1 = 0.9, kBeta2 = 0.999;
  ParamStore params;
  InitVit(kTiny, params, 1);
  Graph g = MethodGraph(kTiny, {.loss = true}, ParseMethod("lora(r=2)"), params, 1);
  AddTrainStep(g, params, {.weight_decay = kDecay, .rate_factor = FactorOf});
  InterpretOptions o{.counts = {2, 0}, .leaves = {}, .params = &params};
  for (int i = 0; i < 2 * 3 * 64; ++i) o.leaves["image"].push_back(std::sin(i));
  o.leaves["labels"] = {1, 4}, o.leaves["one"] = {1}, o.leaves["inv_batch"] = {0.5};
  std::map<std::string, std::vector<double>> w, m, v;
  for (int step = 1; step <= 3; ++step) {
    const double c1 = 1 - std::pow(kBeta1, step), c2 = 1 - std::pow(kBeta2, step);
    for (const auto& [name, factor] : {std::pair("", 1.0), {".x16", 16.0}, {".x0.5", 0.5}})
      o.leaves[fmt::format("hyper{}", name)] = {factor * kRate, c1, c2};
    const Values64 values = Interpret(g, o);
    std::set<double> factors;
    for (NodeId id : g.TopoOrder()) {
      const Node& n = g.node(id);
      if (n.op != &kAdamW) continue;
      const std::string name = g.value(n.in[0]).name;
      const double rate = kRate * FactorOf(name, 0);
      factors.insert(FactorOf(name, 0));
      const std::vector<double>& gradient = values[n.in[1].i];
      if (step == 1) w[name] = values[n.in[0].i];
      m[name].resize(gradient.size()), v[name].resize(gradient.size());
      for (size_t i = 0; i < gradient.size(); ++i) {
        double &m1 = m[name][i], &v1 = v[name][i], &w1 = w[name][i];
        m1 = kBeta1 * m1 + (1 - kBeta1) * gradient[i];
        v1 = kBeta2 * v1 + (1 - kBeta2) * gradient[i] * gradient[i];
        w1 -= rate * kDecay * w1;
        w1 -= rate * (m1 / c1) / (std::sqrt(v1 / c2) + 1e-8);
        ASSERT_NEAR(values[n.out[0].i][i], w1, 1e-12) << name << ", step " << step;
      }
    }
    EXPECT_EQ(factors, (std::set<double>{0.5, 1, 16}));
    for (const Update& u : g.updates)
      if (g.value(u.target).role == Role::kParam)
        o.leaves[g.value(u.target).name] = values[u.value.i];
  }
}

// In a session a factor of all parameters is another rate, bit by bit where it is a power of two,
// also where every parameter counts its own updates.
TEST(RateFactor, OfAllIsAnotherRate) {
  const auto run = [&](double rate, double factor, bool sgd, bool own) {
    ParamStore params;
    InitVit(kTiny, params, 1);
    std::map<std::string, int64_t> updates;
    OptimizerConfig optimizer{.kind = sgd ? OptimizerKind::kSgd : OptimizerKind::kAdamW,
                              .weight_decay = 0.1,
                              .updates = own ? &updates : nullptr};
    if (factor != 1) optimizer.rate_factor = [=](const std::string&, int) { return factor; };
    const Graph g = MethodGraph(kTiny, {.loss = true}, ParseMethod("full"), params, 1);
    TrainStep step(g, params, optimizer, 2, TrainingPasses({}), {1, 1, 1});
    for (int64_t i = 0; i < 2; ++i)
      step.Run(2, i, rate, [&](int64_t, int64_t count, int worker) {
        const Tensor image = step.session().Input("image", worker);
        for (int64_t k = 0; k < image.shape.size(); ++k)
          image.f32()[k] = static_cast<float>(std::sin(k));
        std::fill_n(step.session().Input("labels", worker).i32(), count, 1);
      });
    std::vector<float> all;
    for (const std::string& name : step.trainable_names())
      all.insert(all.end(), params.values(name).begin(), params.values(name).end());
    return all;
  };
  for (const bool sgd : {false, true})
    for (const bool own : {false, true}) {
      EXPECT_EQ(run(1e-3, 8, sgd, own), run(8e-3, 1, sgd, own));
      EXPECT_NE(run(1e-3, 8, sgd, own), run(1e-3, 1, sgd, own));
    }
}

// --- late gradients --------------------------------------------------------------------------

TensorType F32(Shape shape) { return {DType::kF32, std::move(shape)}; }

// f(p) [n,C] of a trainable p [m,C] by one matrix product or by copies of its rows, read by data.
Graph PartOf(int64_t m, int64_t n, bool product, int64_t columns = 1024) {
  Graph g;
  const ValueId p = g.AddParam("p", {m, columns}, true);
  ValueId f = p;
  if (product) {
    f = Matmul(g, g.AddParam("a", {n, m}), p);
  } else {
    f = SliceRows(g, p, 0, std::min(m, n));
    while (g.shape(f)[0].constant < n) f = ConcatRows(g, f, SliceRows(g, p, 0, 1));
  }
  const ValueId x = g.AddInput("x", F32({Dim::Sequences(), columns}));
  g.SetOutput("losses", Matmul(g, x, f, false, true));
  return g;
}

TEST(LateParts, AreWorthTheirMemory) {
  EXPECT_EQ(LateParts(PartOf(4, 3, false)).size(), 1u) << "fewer numbers";
  EXPECT_EQ(LateParts(PartOf(4, 4, false)).size(), 0u);
  EXPECT_EQ(LateParts(PartOf(4, 8, false)).size(), 0u) << "no product is saved";
  EXPECT_EQ(LateParts(PartOf(4, 8, true)).size(), 1u) << "twice as many, and a product";
  EXPECT_EQ(LateParts(PartOf(4, 9, true)).size(), 0u);
  EXPECT_EQ(LateParts(PartOf(4, 8, false, 16)).size(), 1u) << "a few numbers";
  Graph frozen = PartOf(4, 3, true);
  frozen.SetTrainable(frozen.FindLeaf("p"), false);
  EXPECT_EQ(LateParts(frozen).size(), 0u);
}

TEST(LateParts, AreConnectedByWhatTrains) {
  Graph g;
  const ValueId x = g.AddInput("x", F32({Dim::Sequences(), 8})), frozen = g.AddParam("w", {2, 9});
  std::vector<ValueId> p, f;
  for (const char* name : {"p0", "p1", "p2"}) p.push_back(g.AddParam(name, {9, 8}, true));
  for (ValueId v : p) f.push_back(Matmul(g, frozen, v));
  const ValueId sum = Add(g, f[0], f[1]);
  ValueId losses;
  for (ValueId v : {sum, f[0], f[2], p[2]}) {
    const ValueId y = Matmul(g, Matmul(g, x, v, false, true), v);
    losses = losses.valid() ? Add(g, losses, y) : y;
  }
  g.SetOutput("losses", losses);
  const std::vector<ParameterPart> parts = LateParts(g);
  ASSERT_EQ(parts.size(), 2u);  // w does not join them
  EXPECT_EQ(parts[0].trainable, (std::vector{p[0], p[1]}));
  EXPECT_EQ(parts[0].frontier, (std::vector{f[0], sum}));
  EXPECT_EQ(parts[1].trainable, (std::vector{p[2]}));
  EXPECT_EQ(parts[1].frontier, (std::vector{p[2], f[2]}));  // p2 is read by data as well
}

const VitConfig kTwoBlocks{.image_size = 8,
                           .patch_size = 4,
                           .width = 12,
                           .depth = 2,
                           .heads = 3,
                           .mlp_width = 24,
                           .classes = 5};

// A method's training graph, whose parameters are all random.
struct Task {
  ParamStore params;
  Graph g;
  explicit Task(const char* method) {
    InitVit(kTwoBlocks, params, 1);
    g = MethodGraph(kTwoBlocks, {.loss = true}, ParseMethod(method), params, 1);
    for (ValueId v : g.Trainable()) {
      const std::string& name = g.value(v).name;
      std::vector<float> values(params.shape(name).size());
      FillNormal(values, {MakeKey(7, Purpose::kInit, name)}, 0, 0.3);
      params.Set(name, params.shape(name), values);
    }
  }
};

size_t StateNumbers(const Graph& g) {
  size_t numbers = 0;
  for (ValueId v : g.Leaves(Role::kState))
    numbers += static_cast<size_t>(At(g.shape(v), {}).size());
  return numbers;
}

class LateGradient : public ::testing::TestWithParam<const char*> {};

// In double, what the optimizer reads is the gradient of the loss.
TEST_P(LateGradient, IsTheGradient) {
  Task task(GetParam());
  InterpretOptions options{.counts = {2, 0}, .leaves = {}, .params = &task.params};
  std::vector<double>& image = options.leaves["image"];
  for (int i = 0; i < 2 * 3 * 64; ++i) image.push_back(std::sin(i));
  options.leaves["labels"] = {1, 4};
  options.leaves["one"] = {1};
  options.leaves["inv_batch"] = {0.5};
  options.leaves["hyper"] = {0, 1, 1};
  options.leaves["rng"] = {5, 0};
  Graph plain = task.g;
  const std::vector<ValueId> wrt = plain.Trainable();
  const ValueId half = Scale(plain, SumAll(plain, plain.output("losses")), 0.5);
  const std::vector<ValueId> gradients = AddGradients(plain, half, wrt);
  Graph step = task.g;
  ASSERT_FALSE(LateParts(step).empty());
  AddTrainStep(step, task.params, {});
  const Values64 expected = Interpret(plain, options), found = Interpret(step, options);
  size_t compared = 0;
  for (NodeId id : step.TopoOrder()) {
    const Node& n = step.node(id);
    if (n.op != &kAdamW) continue;
    const ValueId p = plain.FindLeaf(step.value(n.in[0]).name);
    const size_t k = static_cast<size_t>(std::ranges::find(wrt, p) - wrt.begin());
    const std::vector<double>&a = found[n.in[1].i], &b = expected[gradients[k].i];
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i)
      ASSERT_NEAR(a[i], b[i], 1e-12 * std::max(1.0, std::fabs(b[i]))) << plain.value(p).name;
    ++compared;
  }
  EXPECT_EQ(compared, wrt.size());
}

// The norm that clips is that of the parameters' gradients, however the batch is cut and whatever
// passes run.
TEST_P(LateGradient, StepsAreEqualHoweverTheBatchIsCut) {
  const auto run = [&](int64_t micro, const TrainStep::Passes& passes, int lanes) {
    Task task(GetParam());
    TrainStep step(task.g, task.params, {.weight_decay = 0.1, .clip = 0.5}, micro, passes,
                   {1, lanes, 1});
    std::vector<double> all;
    for (int i = 0; i < 4; ++i) {
      const auto fill = [&](int64_t first, int64_t count, int worker) {
        const Tensor image = step.session().Input("image", worker);
        for (int64_t k = 0; k < count * 192; ++k)
          image.f32()[k] = static_cast<float>(std::sin(first * 192 + k));
        for (int64_t k = 0; k < count; ++k)
          step.session().Input("labels", worker).i32()[k] = static_cast<int32_t>((first + k) % 5);
      };
      const StepResult r = step.Run(6, i, 1e-2, fill);
      all.push_back(r.loss), all.push_back(r.gradient_norm);
    }
    return all;
  };
  const std::vector<double> whole = run(6, {}, 1);
  EXPECT_LT(whole[6], whole[0]);
  for (const std::vector<double>& other :
       {run(1, TrainingPasses({}), 1), run(2, TrainingPasses({}), 3), run(4, {}, 1),
        run(1, TrainingPasses({"early_updates"}), 2)})
    for (size_t i = 0; i < whole.size(); ++i) EXPECT_NEAR(other[i], whole[i], 3e-5 * whole[i]) << i;
}

// Fewer nodes run for every micro-batch than if gradients were accumulated.
TEST_P(LateGradient, CostsLess) {
  Task task(GetParam());
  const auto main_nodes = [&](Graph g) {
    g.KeepOutputs([](const GraphOutput&) { return false; });
    g.EraseDead();
    ShareEqualNodes(g);
    const NodeOrder order = OrderNodes(g);
    return order.main_end - order.once_end;
  };
  Graph plain = task.g, step = task.g;
  const ValueId loss = SumAll(plain, plain.output("losses"));
  const std::vector<ValueId> wrt = plain.Trainable();
  for (size_t i = 0; const ValueId d : AddGradients(plain, loss, wrt)) {
    const ValueId acc = plain.AddState(fmt::format("acc.{}", i++), plain.shape(d));
    plain.AddUpdate(acc, Add(plain, acc, d));
  }
  AddTrainStep(step, task.params, {});
  EXPECT_LT(main_nodes(step), main_nodes(plain));
}

INSTANTIATE_TEST_SUITE_P(Methods, LateGradient,
                         ::testing::Values("prefix(tokens=2,mlp=40)", "vpt-deep(tokens=2)",
                                           "glora(r=2)", "fact(r=2,form=tk)", "repadapter(r=4)",
                                           "vpt-deep(tokens=2)+lora(r=2)",
                                           "mam(tokens=2,r=2)+vpt-deep(tokens=3)"));

TEST(LateGradient, NothingOfAPrefixesMlpRunsForAMicroBatch) {
  Task task("prefix(tokens=2,mlp=40)");
  AddTrainStep(task.g, task.params, {});
  const NodeOrder order = OrderNodes(task.g);
  for (size_t t = order.once_end; t < order.main_end; ++t) {
    EXPECT_NE(task.g.node(order.nodes[t]).scope, "prefix");
  }
  EXPECT_LT(StateNumbers(task.g), 2u * 2 * 2 * 12 + 5 * 13 + 1 + 1);
}

TEST(TrainStep, GradientsDoNotWaitForTheEnd) {
  VitConfig config = kTwoBlocks;
  config.image_size = 32, config.width = 96, config.mlp_width = 384, config.depth = 8;
  for (const char* method : {"full", "lora(r=8,targets=attn.*|mlp.*)", "glora(r=4)"}) {
    ParamStore params;
    InitVit(config, params, 1);
    const Graph g = MethodGraph(config, {.loss = true}, ParseMethod(method), params, 1);
    const auto arena = [&](const std::vector<std::string>& disabled) {
      const Graph step = TrainStep::BuildGraph(g, params, {}, TrainingPasses(disabled));
      return Session(step, params, {.capacity = {8, 0}, .plan_only = true}).memory().bytes;
    };
    EXPECT_LT(static_cast<double>(arena({})), 0.99 * static_cast<double>(arena({"early_updates"})))
        << method;
  }
}

}  // namespace
}  // namespace graft::train_step_test
