// Compares the tiny BERT of tests/fixtures, on rows without padding, with float64 transformers and
// peft on the padded batch: its activations, gradients and training runs.
#include <gtest/gtest.h>

#include "autograd/gradient.h"
#include "autograd/train_step.h"
#include "models/files/checkpoint.h"
#include "ops/ops.h"
#include "peft/method.h"
#include "runtime/interpret.h"
#include "tests/fixture_testing.h"
#include "tests/test_util.h"
#include "train/evaluator.h"

namespace graft::bert_fixture_test {
namespace {

const char* const kExpected = "tiny_bert_expected.safetensors";
constexpr int64_t kTexts = 4;

LoadedModel Tiny() { return LoadModel(kFixtures + "tiny_bert_hf", "", 0); }

InterpretOptions Leaves(const Expected& e, const ParamStore& params) {
  const int64_t tokens = static_cast<int64_t>(e["ids"].size());
  InterpretOptions o{.counts = {kTexts, tokens}, .leaves = {}, .params = &params};
  for (const char* name : {"ids", "type_ids", "positions", "offsets", "labels"})
    o.leaves[name] = e[name];
  o.leaves["one"] = {1};
  o.leaves["inv_batch"] = {1.0 / kTexts};
  return o;
}

TEST(BertFixture, ReadsEveryFact) {
  const LoadedModel m = Tiny();
  EXPECT_EQ(m.bert(), (BertConfig{.vocab = 41,
                                  .positions = 16,
                                  .types = 2,
                                  .width = 24,
                                  .depth = 2,
                                  .heads = 2,
                                  .mlp_width = 48,
                                  .classes = 3}));
  EXPECT_TRUE(m.ledger.missing.empty() && m.ledger.unexpected.empty());
  EXPECT_EQ(m.ledger.matched.size(), 46u);
  ASSERT_EQ(m.training_notices.size(), 1u);
  EXPECT_NE(m.training_notices[0].find("no effect of hidden_dropout_prob = 0.1, "
                                       "attention_probs_dropout_prob = 0.1: "),
            std::string::npos);
}

TEST(BertFixture, ForwardMatchesPaddedTransformers) {
  const Expected e(kExpected);
  const LoadedModel m = Tiny();
  const Graph g = BuildBert(m.bert(), {.loss = true});
  const Values64 v = Interpret(g, Leaves(e, m.params));
  for (const char* edge : {"blocks.0.h0", "blocks.0.c", "blocks.0.o", "blocks.0.h1", "blocks.0.h",
                           "blocks.0.g", "blocks.0.u", "blocks.0.h2", "pooled"})
    EXPECT_LT(RelativeError(v[Named(g, edge).i], e[edge]), 1e-12) << edge;
  EXPECT_LT(RelativeError(v[Named(g, "hidden").i], e["blocks.1.h2"]), 1e-12);
  EXPECT_LT(RelativeError(v[g.output("logits").i], e["logits"]), 1e-12);
  EXPECT_LT(RelativeError(v[g.output("losses").i], e["loss.per_sample"]), 1e-12);
}

TEST(BertFixture, PoolsByFirstRowAndByMean) {
  const Expected e(kExpected);
  LoadedModel m = Tiny();
  for (const char* pool : {"cls", "mean"}) {
    SetPooling(m, pool);
    const Graph g = BuildBert(m.bert());
    const Values64 v = Interpret(g, Leaves(e, m.params));
    EXPECT_LT(RelativeError(v[g.output("logits").i], e[std::string(pool) + ".logits"]), 1e-12);
  }
  const Graph features = BuildBert(m.bert(), {.head = BertHead::kNone});
  const Values64 v = Interpret(features, Leaves(e, m.params));
  EXPECT_LT(RelativeError(v[features.output("pooled").i], e["mean.pooled"]), 1e-12);
  EXPECT_LT(RelativeError(v[features.output("hidden").i], e["blocks.1.h2"]), 1e-12);
  EXPECT_NE(
      MessageOf([&] { SetPooling(m, "means"); }).find("pool 'means'; known: pooler, cls, mean"),
      std::string::npos);
}

TEST(BertFixture, GradientsMatchTransformers) {
  const Expected e(kExpected);
  LoadedModel m = Tiny();
  Graph g = BuildBert(m.bert(), {.loss = true});
  ApplyMethod(g, m.params, ParseMethod("full"), 0);
  const auto run = [&](const Graph& h) { return Interpret(h, Leaves(e, m.params)); };
  EXPECT_EQ(CompareGradients(std::move(g), kTexts, e, run), 41 - 2);
}

TEST(BertFixture, MaskedLmMatchesTransformers) {
  const Expected e(kExpected);
  LoadedModel m = Tiny();
  const Graph all = BuildBert(m.bert(), {.head = BertHead::kMaskedLm});
  EXPECT_LT(
      RelativeError(Interpret(all, Leaves(e, m.params))[all.output("logits").i], e["mlm.logits"]),
      1e-12);

  Graph g = BuildBert(m.bert(), {.head = BertHead::kMaskedLm, .loss = true, .mask_rows = 2});
  InterpretOptions leaves = Leaves(e, m.params);
  leaves.leaves["rows"] = e["mlm.rows"], leaves.leaves["labels"] = e["mlm.labels"];
  std::vector<ValueId> wrt;
  for (ValueId p : g.Leaves(Role::kParam))
    if (e.Has("mlm.grad." + g.value(p).name)) g.SetTrainable(p, true), wrt.push_back(p);
  ASSERT_EQ(wrt.size(), 10u);  // 5 of the head, word embeddings, last MLP output and its norm
  const ValueId loss = Scale(g, SumAll(g, g.output("losses")), 1.0 / (2 * kTexts));
  const std::vector<ValueId> grads = AddGradients(g, loss, wrt);
  const Values64 v = Interpret(g, leaves);
  EXPECT_LT(RelativeError(v[loss.i], e["mlm.loss"]), 1e-12);
  for (size_t i = 0; i < wrt.size(); ++i) {
    const std::string& name = g.value(wrt[i]).name;
    EXPECT_LT(RelativeError(v[grads[i].i], e["mlm.grad." + name]), 1e-10) << name;
  }
}

TEST(Bert, DropsWhereTransformersDoes) {
  const BertBuild build{.hidden_dropout = 0.1, .classifier_dropout = 0.2, .seed = 5};
  const Graph g = BuildBert(Tiny().bert(), build);
  std::vector<std::string> streams;
  for (NodeId id : g.TopoOrder()) {
    const Node& n = g.node(id);
    if (n.op != &kDropout) continue;
    const DropoutAttrs& a = n.attrs.As<DropoutAttrs>();
    EXPECT_EQ(a.p, a.stream == "head.dropout" ? 0.2 : 0.1);
    EXPECT_FALSE(a.per_sequence);
    streams.push_back(a.stream);
  }
  EXPECT_EQ(streams,
            (std::vector<std::string>{"embed.dropout", "blocks.0.o_dropped", "blocks.0.u_dropped",
                                      "blocks.1.o_dropped", "blocks.1.u_dropped", "head.dropout"}));
  const NodeId join = g.users(Named(g, "blocks.0.o_dropped"))[0];
  EXPECT_EQ(g.node(join).op, &kAdd);  // the residual sum
  EXPECT_NE(MessageOf([] {
              BuildBert(BertByName("bert_tiny"), {.attention_dropout = 0.1});
            }).find("dropout of attention probabilities (0.1) is not supported"),
            std::string::npos);
}

TEST(Bert, RefusesTokensOutsideItsTables) {
  const BertConfig c = Tiny().bert();
  const std::vector<int32_t> ids{1, 40, 2}, zero{0, 0, 0}, positions{0, 1, 0}, offsets{0, 2, 3};
  CheckTokens(c, {ids, zero, positions, offsets});
  auto message = [&](const TokenRows& t) { return MessageOf([&] { CheckTokens(c, t); }); };
  const std::vector<int32_t> large{1, 41, 2}, negative{1, -1, 2}, far{0, 16, 0}, back{0, 4, 3};
  EXPECT_NE(message({large, zero, positions, offsets}).find("token 1: id 41"), std::string::npos);
  EXPECT_NE(message({negative, zero, positions, offsets}).find("id -1"), std::string::npos);
  EXPECT_NE(message({ids, ids, positions, offsets}).find("type id 40"), std::string::npos);
  EXPECT_NE(message({ids, zero, far, offsets}).find("position 16"), std::string::npos);
  EXPECT_NE(message({ids, zero, positions, back}).find("offsets"), std::string::npos);
  EXPECT_NE(message({ids, zero, {}, offsets}).find("0 positions"), std::string::npos);
}

TEST(Bert, ArchitecturesHaveThePublishedSizes) {
  const std::pair<const char*, int64_t> known[] = {
      {"bert_tiny", 4385920}, {"minilm_l6", 22713216}, {"bert_base", 109482240}};
  for (auto [name, parameters] : known) {
    int64_t count = 0;
    for (const auto& [param, shape] : ParamShapes(ModelByName(name)))
      if (!param.starts_with("head.") && !param.starts_with("mlm.")) count += shape.size();
    EXPECT_EQ(count, parameters) << name;
    EXPECT_EQ(ArchitectureName(ModelByName(name)), name);
  }
  const LoadedModel m = LoadModel("init:bert_tiny", "", 3);
  const auto words = m.params.values("embed.word.weight");
  double squares = 0;
  for (float x : words) squares += static_cast<double>(x) * x;
  EXPECT_NEAR(std::sqrt(squares / static_cast<double>(words.size())), 0.02, 1e-4);
  EXPECT_TRUE(std::all_of(words.begin(), words.begin() + 128, [](float x) { return x == 0; }));
  EXPECT_NE(MessageOf([] { LoadModel("init:bert_bas", "", 0); }).find("did you mean 'bert_base'"),
            std::string::npos);
}

// --- training runs, in f64 through the interpreter and in f32 through the session

struct RunCase {
  const char *name, *method;
};
const RunCase kRuns[] = {{"full", "full"},      {"linear", "linear"},
                         {"ln", "ln"},          {"bitfit", "bitfit"},
                         {"last", "last(k=1)"}, {"lora", "lora(r=2,alpha=4)"}};

class BertTraining : public ::testing::TestWithParam<RunCase> {
 protected:
  void SetUp() override {
    model_ = Tiny();
    if (std::string(GetParam().name) == "lora") e_.PutLoraInit(model_.params);
    graph_ = BuildBert(model_.bert(), {.loss = true});
    ApplyMethod(graph_, model_.params, ParseMethod(GetParam().method), 0);
    lr_ = e_["schedule.lr"];
    losses_ = e_[std::string(GetParam().name) + ".losses"];
    ASSERT_EQ(losses_.size(), 50u);
  }
  void CompareFinals(const std::function<std::vector<double>(const std::string&)>& value,
                     double bound) {
    const std::string prefix = std::string(GetParam().name) + ".final.";
    const std::vector<std::string> names = e_.NamesWith(prefix);
    ASSERT_GT(names.size(), 1u);
    for (const std::string& name : names) {
      const std::string param = name.substr(prefix.size());
      if (param.ends_with("attn.k.bias")) continue;  // Adam makes steps of rounding
      EXPECT_LT(RelativeError(value(param), e_[name]), bound) << name;
    }
  }

  const Expected e_{kExpected};
  const OptimizerConfig optimizer_{.weight_decay = 0.05};
  LoadedModel model_;
  Graph graph_;
  std::vector<double> lr_, losses_;
};

TEST_P(BertTraining, InterpreterFollowsPyTorch) {
  AddTrainStep(graph_, model_.params, optimizer_);
  InterpretOptions o = Leaves(e_, model_.params);
  const ValueId loss_state = graph_.FindLeaf("acc.loss");
  for (size_t step = 0; step < losses_.size(); ++step) {
    const double t = static_cast<double>(step + 1);
    o.leaves["hyper"] = {lr_[step], 1 - std::pow(optimizer_.beta1, t),
                         1 - std::pow(optimizer_.beta2, t)};
    const Values64 v = Interpret(graph_, o);
    EXPECT_NEAR(v[loss_state.i][0], losses_[step], 1e-8 * std::fabs(losses_[step])) << step;
    for (const Update& u : graph_.updates)
      if (graph_.value(u.target).role == Role::kParam)
        o.leaves[graph_.value(u.target).name] = v[u.value.i];
  }
  CompareFinals([&](const std::string& name) { return o.leaves.at(name); }, 1e-8);
}

// The micro-batches have 2, 1 and 1 texts, whose token counts differ, as rows have no padding.
TEST_P(BertTraining, SessionFollowsPyTorch) {
  const std::vector<double> offsets = e_["offsets"], labels = e_["labels"];
  auto tokens = [&](size_t first, size_t count) {
    return static_cast<int64_t>(offsets[first + count] - offsets[first]);
  };
  const std::vector<Counts> parts{{2, tokens(0, 2)}, {1, tokens(2, 1)}, {1, tokens(3, 1)}};
  TrainStep step(graph_, model_.params, optimizer_, Counts{2, tokens(0, 2)}, TrainingPasses({}));
  Session& session = step.session();
  auto fill = [&](int64_t first, int64_t count, int worker) {
    const size_t begin = static_cast<size_t>(offsets[static_cast<size_t>(first)]);
    const size_t n =
        static_cast<size_t>(tokens(static_cast<size_t>(first), static_cast<size_t>(count)));
    for (const char* name : {"ids", "type_ids", "positions"}) {
      const std::vector<double> values = e_[name];
      for (size_t i = 0; i < n; ++i)
        session.Input(name, worker).i32()[i] = static_cast<int32_t>(values[begin + i]);
    }
    for (int64_t i = 0; i <= count; ++i)
      session.Input("offsets", worker).i32()[i] =
          static_cast<int32_t>(offsets[first + i]) - static_cast<int32_t>(begin);
    for (int64_t i = 0; i < count; ++i)
      session.Input("labels", worker).i32()[i] = static_cast<int32_t>(labels[first + i]);
  };
  for (size_t i = 0; i < losses_.size(); ++i) {
    const StepResult r = step.Run(parts, static_cast<int64_t>(i), lr_[i], fill);
    EXPECT_NEAR(r.loss, losses_[i], 2e-5) << i;
  }
  CompareFinals(
      [&](const std::string& name) {
        const auto values = model_.params.values(name);
        return std::vector<double>(values.begin(), values.end());
      },
      2e-3);
}

INSTANTIATE_TEST_SUITE_P(Runs, BertTraining, ::testing::ValuesIn(kRuns),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace graft::bert_fixture_test
