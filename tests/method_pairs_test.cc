// Tries every pair of methods, in both orders, on images and on texts: it trains, and where both
// fold it folds, or it is refused with a reason.
#include <gtest/gtest.h>

#include <cmath>

#include "autograd/train_step.h"
#include "models/model.h"
#include "models/transformer.h"
#include "peft/merge.h"
#include "peft/merge_proof.h"
#include "peft/method.h"
#include "runtime/interpret.h"
#include "runtime/rng.h"
#include "runtime/text.h"
#include "tests/test_util.h"
#include "train/evaluator.h"

namespace graft::method_pairs_test {
namespace {

const VitConfig kVit{.image_size = 8,
                     .patch_size = 4,
                     .width = 12,
                     .depth = 2,
                     .heads = 3,
                     .mlp_width = 24,
                     .classes = 3};
const BertConfig kBert{.vocab = 30,
                       .positions = 16,
                       .width = 12,
                       .depth = 2,
                       .heads = 3,
                       .mlp_width = 24,
                       .classes = 3};

// Gives one small recipe of each method.
std::string RecipeOf(std::string_view name) {
  for (const char* recipe :
       {"lora(r=2,targets=attn.*|mlp.*)", "houlsby(r=2,act=gelu)", "pfeiffer(r=2,act=gelu)",
        "adaptformer(r=2,act=gelu)", "parallel(r=2,act=gelu)", "mam(tokens=2,r=2,act=gelu)",
        "prefix(tokens=2,mlp=3)", "bbt(tokens=2,d=4)", "ptuning2(tokens=2)", "prompt(tokens=2)",
        "vpt(tokens=2)", "vpt-deep(tokens=2)", "fact(r=2)", "repadapter(r=2)", "glora(r=2)",
        "unified(r=2,act=gelu)", "last(k=1)"})
    if (std::string_view(recipe).substr(0, std::string_view(recipe).find('(')) == name)
      return recipe;
  return std::string(name);
}

// An adapter behind a branch reads what terms before it have added there, and tokens lie in order.
// All other pairs are the same model whichever is written first.
bool OrderMatters(const std::string& a, const std::string& b) {
  const auto are = [&](std::string_view one, std::string_view other) {
    return (a == one && b == other) || (a == other && b == one);
  };
  return are("houlsby", "adaptformer") || are("houlsby", "parallel") || are("prompt", "vpt");
}

void Fill(std::span<float> values, const std::string& stream, double deviation) {
  FillNormal(values, {MakeKey(3, Purpose::kData, stream)}, 0, deviation);
}

class Pairs : public ::testing::TestWithParam<std::tuple<std::string, bool>> {
 protected:
  Pairs() {
    if (text()) config_ = kBert;
    const Graph plain = BuildModel(config_);
    for (ValueId v : plain.Leaves(Role::kParam)) SetRandom(params_, plain, v);
  }
  bool text() const { return std::get<1>(GetParam()); }
  static void SetRandom(ParamStore& params, const Graph& g, ValueId v) {
    const std::string& name = g.value(v).name;
    const Extents shape = At(g.shape(v), {});
    std::vector<float> values(shape.size());
    Fill(values, name, 0.3);
    if (name.ends_with("norm1.weight") || name.ends_with("norm2.weight") ||
        name.ends_with("norm.weight") || name.ends_with("scale"))
      for (float& x : values) x = 1 + 0.1f * x;
    params.Set(name, shape, values);
  }
  void FillBatch(Session& session, int worker) const {
    const auto ints = [&](const char* name, std::initializer_list<int32_t> values) {
      if (session.HasInput(name)) std::ranges::copy(values, session.Input(name, worker).i32());
    };
    if (text()) {
      ints("ids", {2, 7, 9, 2, 11}), ints("type_ids", {0, 0, 1, 0, 0});
      ints("positions", {0, 1, 2, 0, 1}), ints("offsets", {0, 3, 5});
    } else {
      Fill({session.Input("image", worker).f32(), 2 * 3 * 64}, "image", 1);
    }
    ints("labels", {1, 2});
  }
  Counts Size() const { return {2, text() ? 5 : 0}; }

  // The loss falls over some steps, and what trains moves.
  void Trains(const Graph& graph, ParamStore params, const Method& method) const {
    const ParamStore start = params;
    TrainStep step(graph, params, {.on_gradient = GradientTransformOf(method, 1)}, Size(),
                   TrainingPasses({}));
    const Counts parts[] = {Size()};
    double first = 0, last = 0;
    for (int i = 0; i < 6; ++i) {
      last = step.Run(parts, i, 3e-3,
                      [&](int64_t, int64_t, int worker) { FillBatch(step.session(), worker); })
                 .loss;
      ASSERT_TRUE(std::isfinite(last));
      if (i == 0) first = last;
    }
    EXPECT_LT(last, first);
    size_t moved = 0;
    for (const std::string& name : step.trainable_names())
      moved += !std::ranges::equal(start.values(name), params.values(name));
    EXPECT_EQ(moved, step.trainable_names().size());
  }

  void Merges(const Method& method, ParamStore params) const {
    Graph g = InferenceGraph(config_, method, params, 1);
    for (ValueId v : g.Leaves(Role::kParam))
      if (const std::string& name = g.value(v).name;
          !params_.Has(name) && name.find(".nf4") == std::string::npos)
        SetRandom(params, g, v);
    const Graph before = g, plain = BuildModel(config_);
    ParamStore merged = params;
    const MergeResult result = Merge(g, merged, plain.ParamNames());
    EXPECT_TRUE(result.left.empty()) << result.left[0];
    EXPECT_TRUE(ToText(g) == ToText(plain)) << DiffText(plain, g);
    if (result.left.empty()) ProveMerge(before, params, merged, plain.ParamNames());
  }

  // With one value for each parameter, whatever the order in which they are made.
  std::vector<double> Logits(const Method& method) const {
    ParamStore params = params_;
    const Graph g = InferenceGraph(config_, method, params, 1);
    for (ValueId v : g.Leaves(Role::kParam))
      if (g.value(v).name.find(".nf4") == std::string::npos) SetRandom(params, g, v);
    InterpretOptions options{.counts = Size(), .params = &params};
    std::vector<float> image(size_t{2} * 3 * 64);
    Fill(image, "image", 1);
    options.leaves = {{"image", {image.begin(), image.end()}},
                      {"ids", {2, 7, 9, 2, 11}},
                      {"type_ids", {0, 0, 1, 0, 0}},
                      {"positions", {0, 1, 2, 0, 1}},
                      {"offsets", {0, 3, 5}}};
    return Interpret(g, options)[g.output("logits").i];
  }

  ModelConfig config_ = kVit;
  ParamStore params_;
};

TEST_P(Pairs, TrainAndFoldOrAreRefused) {
  const std::string first = RecipeOf(std::get<0>(GetParam()));
  for (const MethodRecord* other : AllMethods()) {
    if (other->name == "forget") continue;  // a run's; it only edits weights
    const std::string text = first + "+" + RecipeOf(other->name);
    SCOPED_TRACE(text);
    const Method method = ParseMethod(text);
    ParamStore params = params_;
    Graph graph;
    try {
      graph = MethodGraph(config_, {.loss = true}, method, params, 1);
    } catch (const Error& e) {
      EXPECT_EQ(e.kind, ErrorKind::kUsage) << e.what();
      const auto searched = [](const MethodTerm& t) { return FindMethod(t.name).searched; };
      const bool share =
          std::string(e.what()).find("would both have the parameter") != std::string::npos;
      EXPECT_TRUE(method[0].name == method[1].name || share ||
                  std::ranges::any_of(method, searched))
          << e.what();  // nothing else is refused
      continue;
    }
    Trains(graph, params, method);
    const Method swapped{method[1], method[0]};
    if (!OrderMatters(method[0].name, method[1].name)) {
      const std::vector<double> one = Logits(method), other_way = Logits(swapped);
      for (size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(one[i], other_way[i], 1e-11);
    }
    const auto folds = [](const MethodTerm& t) { return FindMethod(t.name).folds == Folds::kYes; };
    if (folds(method[0]) && folds(method[1])) Merges(method, params);
  }
}

// Terms whose parameters have one name are refused, whatever their shapes: they would be one.
TEST(PairsOfOptions, NothingIsShared) {
  for (const char* text : {"mam+parallel", "mam(tokens=2,r=8)+parallel(r=8)", "mam+prefix(mlp=0)",
                           "mam(tokens=4)+prefix(tokens=4,mlp=0)", "vpt+vpt-deep",
                           "vpt(tokens=3)+vpt-deep(tokens=3)"}) {
    for (const ModelConfig& config : {ModelConfig(kVit), ModelConfig(kBert)}) {
      ParamStore params;
      try {
        MethodGraph(config, {}, ParseMethod(text), params, 1);
        ADD_FAILURE() << text;
      } catch (const Error& e) {
        EXPECT_EQ(e.kind, ErrorKind::kUsage) << e.what();
        EXPECT_NE(std::string(e.what()).find("would both have the parameter"), std::string::npos)
            << e.what();
      }
    }
  }
}

TEST(PairsOfOptions, SharedFactorsOfQuantisedLayers) {
  for (const ModelConfig& config : {ModelConfig(kVit), ModelConfig(kBert)}) {
    ParamStore params;
    InitMissing(BuildModel(config), params, 1);
    const Graph g = MethodGraph(config, {}, ParseMethod("nf4+fact(form=tk,r=2)"), params, 1);
    EXPECT_TRUE(g.FindLeaf("fact.core").valid());
  }
  VitConfig gated = kVit;
  gated.gelu = "swiglu";
  ParamStore params;
  EXPECT_THROW(MethodGraph(gated, {}, ParseMethod("fact(form=tk)"), params, 1), Error);
}

std::vector<std::tuple<std::string, bool>> All() {
  std::vector<std::tuple<std::string, bool>> all;
  for (const MethodRecord* record : AllMethods())
    for (const bool text : {false, true})
      if (record->name != "forget") all.emplace_back(record->name, text);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Methods, Pairs, ::testing::ValuesIn(All()), [](const auto& info) {
  std::string name = std::get<1>(info.param) ? "text_" : "image_";
  for (const char c : std::get<0>(info.param)) name += c == '-' ? '_' : c;
  return name;
});

}  // namespace
}  // namespace graft::method_pairs_test
