// Compares the tiny ViT of tests/fixtures with float64 PyTorch: activations, gradients and training
// runs.
#include <gtest/gtest.h>

#include <cmath>

#include "autograd/train_step.h"
#include "models/files/checkpoint.h"
#include "ops/ops.h"
#include "peft/method.h"
#include "runtime/interpret.h"
#include "tests/fixture_testing.h"
#include "train/evaluator.h"

namespace graft::vit_fixture_test {
namespace {

LoadedModel Tiny() { return LoadModel(kFixtures + "tiny_vit.safetensors", "", 0); }

InterpretOptions Leaves(const Expected& e, const ParamStore& params) {
  InterpretOptions o{.counts = {3, 0}, .leaves = {}, .params = &params};
  o.leaves["image"] = e["image"];
  o.leaves["labels"] = e["labels"];
  o.leaves["one"] = {1};
  o.leaves["inv_batch"] = {1.0 / 3};
  return o;
}

const char* const kExpected = "tiny_vit_expected.safetensors";

TEST(VitFixture, ForwardMatchesPyTorch) {
  const Expected e(kExpected);
  const LoadedModel m = Tiny();
  const Graph g = BuildVit(m.vit(), {.loss = true});
  const Values64 v = Interpret(g, Leaves(e, m.params));
  const std::pair<const char*, const char*> edges[] = {{"blocks.0.x", "x0"},
                                                       {"blocks.0.a", "blocks.0.norm1"},
                                                       {"blocks.0.c", "blocks.0.attn.context"},
                                                       {"blocks.0.o", "blocks.0.attn.o"},
                                                       {"blocks.0.x1", "blocks.0.x1"},
                                                       {"blocks.0.m", "blocks.0.norm2"},
                                                       {"blocks.0.h", "blocks.0.mlp.fc1"},
                                                       {"blocks.0.g", "blocks.0.mlp.act"},
                                                       {"blocks.0.u", "blocks.0.mlp.fc2"},
                                                       {"blocks.0.y", "blocks.0.out"},
                                                       {"blocks.1.y", "blocks.1.out"},
                                                       {"pooled", "pooled"}};
  for (auto [ours, theirs] : edges)
    EXPECT_LT(RelativeError(v[Named(g, ours).i], e[theirs]), 1e-12) << ours;
  EXPECT_LT(RelativeError(v[g.output("logits").i], e["logits"]), 1e-12);
  EXPECT_LT(RelativeError(v[g.output("losses").i], e["loss.per_sample"]), 1e-12);
}

TEST(VitFixture, MeanPoolingAndSmoothingMatchPyTorch) {
  const Expected e(kExpected);
  LoadedModel m = Tiny();
  const Graph smooth = BuildVit(m.vit(), {.loss = true, .label_smoothing = 0.1});
  EXPECT_LT(RelativeError(Interpret(smooth, Leaves(e, m.params))[smooth.output("losses").i],
                          e["loss.smooth.per_sample"]),
            1e-12);
  m.vit().pool = "mean";
  const Graph mean = BuildVit(m.vit(), {.loss = true});
  EXPECT_LT(RelativeError(Interpret(mean, Leaves(e, m.params))[mean.output("logits").i],
                          e["mean_pool.logits"]),
            1e-12);
}

TEST(VitFixture, GradientsMatchPyTorch) {
  const Expected e(kExpected);
  LoadedModel m = Tiny();
  Graph g = MethodGraph(m.vit(), {.loss = true}, ParseMethod("full"), m.params, 0);
  const auto run = [&](const Graph& h) { return Interpret(h, Leaves(e, m.params)); };
  EXPECT_EQ(CompareGradients(std::move(g), 3, e, run), 40 - 2);
}

// --- training runs, in f64 through the interpreter and in f32 through the session
// -------------------

struct RunCase {
  const char* name;  // in the expected file
  const char* method;
  int steps;
  OptimizerConfig optimizer;
};

OptimizerConfig AdamWConfig(double clip = 0) { return {.weight_decay = 0.05, .clip = clip}; }
OptimizerConfig SgdConfig() {
  return {.kind = OptimizerKind::kSgd, .momentum = 0.9, .weight_decay = 1e-2, .clip = 1};
}

const RunCase kRuns[] = {
    {"full", "full", 50, AdamWConfig()},
    {"linear", "linear", 50, AdamWConfig()},
    {"ln", "ln", 50, AdamWConfig()},
    {"bitfit", "bitfit", 50, AdamWConfig()},
    {"lora", "lora(r=2,alpha=4)", 50, AdamWConfig()},
    {"last", "last(k=1)", 50, AdamWConfig()},
    {"adamw_clip", "full", 20, AdamWConfig(1)},
    {"sgd_clip", "full", 20, SgdConfig()},
};

class VitTraining : public ::testing::TestWithParam<RunCase> {
 protected:
  void SetUp() override {
    const RunCase& run = GetParam();
    model_ = Tiny();
    if (std::string(run.name).starts_with("lora")) e_.PutLoraInit(model_.params);
    graph_ = MethodGraph(model_.vit(), {.loss = true}, ParseMethod(run.method), model_.params, 0);
    const std::string schedule =
        e_.Has(std::string(run.name) + ".lr") ? std::string(run.name) + ".lr" : "schedule.lr";
    lr_ = e_[schedule];
    losses_ = e_[std::string(run.name) + ".losses"];
  }
  void CompareFinals(const std::function<std::vector<double>(const std::string&)>& value,
                     double bound) {
    const std::string prefix = std::string(GetParam().name) + ".final.";
    int compared = 0;
    for (const std::string& name : e_.NamesWith(prefix)) {
      const std::string param = name.substr(prefix.size());
      if (param.ends_with("attn.k.bias")) continue;
      EXPECT_LT(RelativeError(value(param), e_[name]), bound) << name;
      ++compared;
    }
    EXPECT_GT(compared, 1);
  }

  Expected e_{kExpected};
  LoadedModel model_;
  Graph graph_;
  std::vector<double> lr_, losses_;
};

TEST_P(VitTraining, InterpreterFollowsPyTorch) {
  const RunCase& run = GetParam();
  AddTrainStep(graph_, model_.params, run.optimizer);
  InterpretOptions o = Leaves(e_, model_.params);
  const ValueId loss_state = graph_.FindLeaf("acc.loss");
  ASSERT_TRUE(loss_state.valid());
  for (int step = 0; step < run.steps; ++step) {
    const double t = step + 1;
    o.leaves["hyper"] = {lr_[step], 1 - std::pow(run.optimizer.beta1, t),
                         1 - std::pow(run.optimizer.beta2, t)};
    const Values64 v = Interpret(graph_, o);
    const double expected = losses_[step];
    EXPECT_NEAR(v[loss_state.i][0], expected, 1e-8 * std::fabs(expected)) << step;
    for (const Update& u : graph_.updates)
      if (graph_.value(u.target).role == Role::kParam)
        o.leaves[graph_.value(u.target).name] = v[u.value.i];
  }
  CompareFinals([&](const std::string& name) { return o.leaves.at(name); }, 1e-8);
}

// In f32 with all passes and micro-batches of 2 and 1, rounding grows with the steps, and Adam
// divides by small second moments; the bounds are ten times what is measured.
TEST_P(VitTraining, SessionFollowsPyTorch) {
  const RunCase& run = GetParam();
  TrainStep step(graph_, model_.params, run.optimizer, 2, TrainingPasses({}));
  const std::vector<double> image = e_["image"], labels = e_["labels"];
  const int64_t size = step.session().Input("image").shape.size() / 2;
  const auto fill = [&](int64_t first, int64_t count, int worker) {
    const Tensor in = step.session().Input("image", worker);
    const Tensor label_in = step.session().Input("labels", worker);
    for (int64_t k = 0; k < count * size; ++k)
      in.f32()[k] = static_cast<float>(image[first * size + k]);
    for (int64_t k = 0; k < count; ++k) label_in.i32()[k] = static_cast<int32_t>(labels[first + k]);
  };
  for (int i = 0; i < run.steps; ++i) {
    const StepResult r = step.Run(3, i, lr_[i], fill);
    EXPECT_NEAR(r.loss, losses_[i], 2e-5) << i;
  }
  CompareFinals(
      [&](const std::string& name) {
        const auto values = model_.params.values(name);
        return std::vector<double>(values.begin(), values.end());
      },
      2e-3);
}

INSTANTIATE_TEST_SUITE_P(Runs, VitTraining, ::testing::ValuesIn(kRuns),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(VitFixture, HuggingFaceNamesGiveTheSameModel) {
  const LoadedModel timm = Tiny(), hf = LoadModel(kFixtures + "tiny_vit_hf", "", 0);
  EXPECT_EQ(timm.config, hf.config);
  for (const auto& [name, entry] : timm.params.entries())
    EXPECT_TRUE(std::ranges::equal(entry.values(), hf.params.values(name))) << name;
  EXPECT_TRUE(hf.ledger.missing.empty() && hf.ledger.unexpected.empty());
}

}  // namespace
}  // namespace graft::vit_fixture_test
