// Every method, by its record: start, counts, gradients, merging, frozen tensors.
#include <gmock/gmock.h>

#include <cmath>

#include "autograd/frozen_cut.h"
#include "autograd/gradient.h"
#include "autograd/train_step.h"
#include "ops/ops.h"
#include "peft/merge.h"
#include "peft/method.h"
#include "runtime/interpret.h"
#include "runtime/rng.h"
#include "runtime/text.h"
#include "train/evaluator.h"

namespace graft {
namespace {

const VitConfig kTiny{.image_size = 8,
                      .patch_size = 4,
                      .width = 12,
                      .depth = 3,
                      .heads = 3,
                      .mlp_width = 20,
                      .classes = 5};

struct Case {
  const char* method;
  int64_t trainable;  // without the head, from the records' formulas at kTiny: D=12, M=20, L=3,
                      // n=4, 3PP=48
  bool adds_nodes;
};
const Case kCases[] = {
    {"full", 48 * 12 + 12 + 12 + 5 * 12 + 3 * (4 * (144 + 12) + 4 * 12 + 2 * 240 + 20 + 12) + 24,
     false},
    {"linear", 0, false},
    {"ln", 3 * 4 * 12 + 2 * 12, false},
    {"bitfit", 12 + 3 * (7 * 12 + 20) + 12, false},
    {"last(k=1)", 4 * (144 + 12) + 4 * 12 + 2 * 240 + 20 + 12 + 24, false},
    {"lora(r=2)", 3 * 2 * 2 * 24, true},
    {"lora(r=3,alpha=6,targets=attn.*|mlp.*)", 3 * (4 * 3 * 24 + 2 * 3 * 32), true},
    {"lora(r=2,targets=blocks.1.mlp.fc1,rslora=true)", 2 * 32, true},
    {"lora(r=2,dropout=0.3)", 3 * 2 * 2 * 24, true},
    {"ln(targets=norm1|norm)", 3 * 2 * 12 + 2 * 12, false},
    {"lora(r=2,bias=lora_only)", 3 * 2 * (2 * 24 + 12), true},
    {"lora(r=2,bias=all)", 3 * 2 * 2 * 24 + 12 + 3 * (7 * 12 + 20) + 12, true},
    {"lora(r=2,targets=attn.q)+lora(r=3,alpha=5,targets=blocks.1.mlp.fc2|head)",
     3 * 2 * 24 + 3 * (20 + 12) + 3 * (12 + 5), true},
    {"lora(r=2)+ln", 3 * 2 * 2 * 24 + 3 * 4 * 12 + 2 * 12, true},
};
constexpr int64_t kHead = 5 * 13;

// Random values in every parameter; where `branches`, also in those that start at zero.
void Randomise(ParamStore& params, const Graph& g, bool branches) {
  for (ValueId v : g.Leaves(Role::kParam)) {
    const std::string& name = g.value(v).name;
    if (params.Has(name) && !branches) continue;
    const Extents shape = At(g.shape(v), {});
    std::vector<float> values(static_cast<size_t>(shape.size()));
    FillNormal(values, {MakeKey(7, Purpose::kInit, name)}, name.ends_with("norm1.weight") ? 1 : 0,
               0.3);
    params.Set(name, shape, values);
  }
}

std::vector<double> Noise(size_t n, const char* stream) {
  std::vector<float> f(n);
  FillNormal(f, {MakeKey(3, Purpose::kData, stream)}, 0, 1);
  return {f.begin(), f.end()};
}

InterpretOptions Leaves(const ParamStore& params) {
  InterpretOptions o{.counts = {2, 0}, .leaves = {}, .params = &params};
  o.leaves["image"] = Noise(2 * 3 * 64, "image");
  o.leaves["labels"] = {1, 4};
  o.leaves["one"] = {1};
  o.leaves["rng"] = {5, 0};
  return o;
}

class PeftMethod : public testing::TestWithParam<Case> {
 protected:
  PeftMethod() : method_(ParseMethod(GetParam().method)) {
    Randomise(params_, BuildVit(kTiny), false);
    graph_ = MethodGraph(kTiny, {.loss = true}, method_, params_, 11);
  }
  ParamStore params_;
  Method method_;
  Graph graph_;
};

TEST_P(PeftMethod, StartsAsThePlainModel) {
  ParamStore params = params_;
  const Graph inference = InferenceGraph(kTiny, method_, params, 11, true),
              plain = BuildVit(kTiny, {.loss = true});
  const Values64 a = Interpret(inference, Leaves(params)), b = Interpret(plain, Leaves(params));
  EXPECT_EQ(a[inference.output("logits").i], b[plain.output("logits").i]);
}

TEST_P(PeftMethod, TrainsAsManyNumbersAsTheFormulaSays) {
  EXPECT_EQ(TrainableCount(graph_), GetParam().trainable + kHead);
  EXPECT_EQ(graph_.live_nodes() > BuildVit(kTiny, {.loss = true}).live_nodes(),
            GetParam().adds_nodes);
}

TEST_P(PeftMethod, TextIsReadBack) {
  EXPECT_EQ(ParseMethod(ToString(method_)), method_);
  EXPECT_EQ(ToText(ParseGraph(ToText(graph_), AllOps())), ToText(graph_));
}

// Central differences through the whole model, eight random directions.
TEST_P(PeftMethod, GradientsMatchDifferences) {
  Randomise(params_, graph_, true);
  Graph g = graph_;
  const std::vector<ValueId> wrt = g.Trainable();
  const ValueId loss = SumAll(g, g.output("losses"));
  const std::vector<ValueId> grads = AddGradients(g, loss, wrt);
  const InterpretOptions base = Leaves(params_);
  const Values64 v = Interpret(g, base);
  for (int direction = 0; direction < 8; ++direction) {
    double expected = 0;
    auto shifted = [&](double h) {
      InterpretOptions o = base;
      for (size_t i = 0; i < wrt.size(); ++i) {
        std::vector<double> d =
            Noise(v[wrt[i].i].size(), fmt::format("{} {}", direction, i).c_str());
        std::vector<double>& x = o.leaves[g.value(wrt[i]).name];
        x = v[wrt[i].i];
        for (size_t k = 0; k < x.size(); ++k) x[k] += h * d[k];
        if (h == 0)
          for (size_t k = 0; k < x.size(); ++k) expected += d[k] * v[grads[i].i][k];
      }
      return h == 0 ? 0 : Interpret(g, o)[loss.i][0];
    };
    shifted(0);
    const double h = 1e-4;
    const double slope =
        (8 * (shifted(h) - shifted(-h)) - (shifted(2 * h) - shifted(-2 * h))) / (12 * h);
    EXPECT_NEAR(slope, expected, 1e-7 * std::max(1.0, std::fabs(expected))) << direction;
  }
}

TEST_P(PeftMethod, MergesIntoThePlainModel) {
  Randomise(params_, graph_, true);
  ParamStore merged = params_, unmerged = params_;
  Graph g = InferenceGraph(kTiny, method_, merged, 11, false);
  const Graph before = g, plain = BuildVit(kTiny);
  const MergeResult result = Merge(g, merged, plain.ParamNames());
  EXPECT_THAT(result.left, ::testing::IsEmpty());
  EXPECT_TRUE(ToText(g) == ToText(plain)) << DiffText(plain, g);
  const Values64 a = Interpret(before, Leaves(unmerged)), b = Interpret(plain, Leaves(merged));
  for (size_t i = 0; i < 10; ++i) {
    const double x = a[before.output("logits").i][i], y = b[plain.output("logits").i][i];
    EXPECT_NEAR(x, y, 2e-6 * std::max(1.0, std::fabs(x)));
  }
}

TEST_P(PeftMethod, StepsTouchWhatTrainsAndNothingElse) {
  const ParamStore start = params_;
  TrainStep step(graph_, params_, {.weight_decay = 0.01}, 1, TrainingPasses({}));
  const std::vector<double> noise = Noise(2 * 3 * 64, "image");
  for (int i = 0; i < 3; ++i)
    step.Run(2, i, 1e-2, [&](int64_t first, int64_t, int worker) {
      std::copy_n(noise.begin() + first * 192, 192, step.session().Input("image", worker).f32());
      step.session().Input("labels", worker).i32()[0] = first == 0 ? 1 : 4;
    });
  for (ValueId v : graph_.Leaves(Role::kParam)) {
    const std::string& name = graph_.value(v).name;
    const bool same = std::ranges::equal(start.values(name), params_.values(name));
    EXPECT_EQ(same, !graph_.value(v).trainable) << name;
  }
}

// The loss does not depend on how the batch is cut, nor on the passes, beyond the rounding of f32.
TEST_P(PeftMethod, MicroBatchesAndPassesChangeNothing) {
  auto losses = [&](int64_t micro, const TrainStep::Passes& passes) {
    ParamStore params = params_;
    TrainStep step(graph_, params, {}, micro, passes);
    const std::vector<double> noise = Noise(5 * 3 * 64, "batch");
    const auto fill = [&](int64_t first, int64_t count, int worker) {
      std::copy_n(noise.begin() + first * 192, count * 192,
                  step.session().Input("image", worker).f32());
      int32_t* labels = step.session().Input("labels", worker).i32();
      for (int64_t k = 0; k < count; ++k) labels[k] = static_cast<int32_t>((first + k) % 5);
    };
    std::vector<double> result;
    for (int i = 0; i < 3; ++i) result.push_back(step.Run(5, i, 1e-2, fill).loss);
    return result;
  };
  const std::vector<double> plain = losses(5, {});
  for (const auto& other : {losses(1, TrainingPasses({})), losses(2, TrainingPasses({})),
                            losses(5, TrainingPasses({}))})
    for (size_t i = 0; i < plain.size(); ++i) EXPECT_NEAR(other[i], plain[i], 3e-5 * plain[i]);
}

INSTANTIATE_TEST_SUITE_P(Methods, PeftMethod, testing::ValuesIn(kCases), [](const auto& info) {
  std::string name;
  for (char c : std::string(info.param.method))
    if (std::isalnum(static_cast<unsigned char>(c))) name += c;
  return name;
});

TEST(Methods, EveryRecordHasACase) {
  for (const MethodRecord* record : AllMethods()) {
    const bool found = std::any_of(std::begin(kCases), std::end(kCases), [&](const Case& c) {
      const Method method = ParseMethod(c.method);
      return std::any_of(method.begin(), method.end(),
                         [&](const MethodTerm& t) { return t.name == record->name; });
    });
    EXPECT_TRUE(found) << record->name;
  }
}

TEST(Methods, PublishedCountsOfVitBase) {
  const std::pair<const char*, int64_t> counts[] = {{"full", 85'798'656},
                                                    {"lora(r=8)", 294'912},
                                                    {"bitfit", 102'912},
                                                    {"ln", 38'400},
                                                    {"lora(r=8,targets=attn.*|mlp.*)", 1'327'104},
                                                    {"last(k=2)", 2 * 7'087'872 + 1536}};
  const VitConfig base = VitByName("vit_base_patch16_224");
  for (auto [method, count] : counts) {
    ParamStore params;
    const Graph g = MethodGraph(base, {}, ParseMethod(method), params, 0);
    EXPECT_EQ(TrainableCount(g) - 769 * 1000, count) << method;
  }
}

TEST(Methods, MistakesNameTheNearest) {
  const std::pair<const char*, const char*> cases[] = {
      {"lorra(r=8)", "did you mean 'lora'?"},
      {"lora(rank=8)", "method 'lora' has no option 'rank'"},
      {"lora(r=eight)", "option 'r': expected a number"},
      {"lora(r=2.5)", "expected a whole number"},
      {"lora(r=8,targets=attn.z)", "target 'attn.z' matches no layer; did you mean 'attn."},
      {"lora(r=8,targets=)", "expected names joined by '|'"},
      {"lora(r=8", "do not end with ')'"},
      {"lora(r=8,r=4)", "given twice"},
      {"linear(head=frozen)", "trains nothing"},
      {"last(k=9)", "option 'k': expected a number from 1 to 3"},
      {"", "expected a name"},
  };
  for (auto [text, message] : cases) {
    ParamStore params;
    try {
      MethodGraph(kTiny, {}, ParseMethod(text), params, 0);
      ADD_FAILURE() << text;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(message), std::string::npos) << text << ": " << e.what();
      EXPECT_EQ(e.kind, ErrorKind::kUsage) << text;
    }
  }
}

constexpr std::string_view kImage[] = {"image"};

// A text has tokens, but one pooled row.
TEST(Prefix, LinearProbeOfTextsIsCutAtThePooledRow) {
  const BertConfig config{
      .vocab = 30, .positions = 16, .width = 12, .depth = 2, .heads = 2, .mlp_width = 24};
  constexpr std::string_view kText[] = {"ids", "type_ids", "positions", "offsets"};
  const auto cut = [&](const char* method, const BertBuild& build) {
    ParamStore params;
    InitBert(config, params, 1);
    Graph g = BuildBert(config, build);
    ApplyMethod(g, params, ParseMethod(method), 1);
    return CutFrozen(g, kText);
  };
  const auto linear = cut("linear", {.loss = true});
  ASSERT_TRUE(linear.has_value());
  EXPECT_EQ(linear->features, (TensorType{DType::kF32, {Dim::Sequences(), 12}}));
  for (const ValueId v : linear->rest.Leaves(Role::kInput))
    EXPECT_TRUE(linear->rest.value(v).name == "features" || linear->rest.value(v).name == "labels");
  EXPECT_FALSE(cut("linear", {.loss = true, .hidden_dropout = 0.1}).has_value());
  EXPECT_FALSE(cut("bitfit", {.loss = true}).has_value());
}

TEST(Prefix, LinearProbeIsCutAtThePooledRow) {
  ParamStore params;
  Randomise(params, BuildVit(kTiny), false);
  const Graph g = MethodGraph(kTiny, {.loss = true}, ParseMethod("linear"), params, 0);
  const auto cut = CutFrozen(g, kImage);
  ASSERT_TRUE(cut.has_value());
  EXPECT_EQ(cut->features, (TensorType{DType::kF32, {Dim::Sequences(), 12}}));
  const Values64 whole = Interpret(g, Leaves(params)),
                 features = Interpret(cut->frozen, Leaves(params));
  InterpretOptions rest = Leaves(params);
  rest.leaves["features"] = features[cut->frozen.output("features").i];
  const Values64 after = Interpret(cut->rest, rest);
  EXPECT_EQ(whole[g.output("losses").i], after[cut->rest.output("losses").i]);
  EXPECT_FALSE(
      CutFrozen(MethodGraph(kTiny, {.loss = true}, ParseMethod("full"), params, 0), kImage));
  const Graph last = MethodGraph(kTiny, {.loss = true}, ParseMethod("last(k=1)"), params, 0);
  EXPECT_EQ(CutFrozen(last, kImage)->features, (TensorType{DType::kF32, {Dim::Sequences(5), 12}}));
}

}  // namespace
}  // namespace graft
