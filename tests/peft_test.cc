// Tests every method by its record: start, counts, gradients, merging, frozen tensors.
#include <gmock/gmock.h>

#include <array>
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
#include "tests/peft_cases.h"
#include "train/evaluator.h"

namespace graft::peft_test {
namespace {

constexpr int64_t kHead = 5 * 13;

// Puts random values into every parameter; with `branches`, also into those that start at zero.
void Randomise(ParamStore& params, const Graph& g, bool branches) {
  for (ValueId v : g.Leaves(Role::kParam)) {
    const std::string& name = g.value(v).name;
    if (g.type(v).dtype != DType::kF32 || (params.Has(name) && !branches)) continue;
    const Extents shape = At(g.shape(v), {});
    std::vector<float> values(shape.size());
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

// Texts of 3, 5, 1, 4 and 2 tokens.
struct Texts {
  std::vector<int32_t> ids, types, positions, offsets{0};
  Texts(int64_t first, int64_t count) {
    constexpr std::array<int64_t, 5> kLengths{3, 5, 1, 4, 2};
    for (int64_t i = first; i < first + count; ++i) {
      for (int64_t k = 0; k < kLengths[i]; ++k) {
        ids.push_back(static_cast<int32_t>(1 + (7 * i + 3 * k) % 29));
        types.push_back(k > 1), positions.push_back(static_cast<int32_t>(k));
      }
      offsets.push_back(static_cast<int32_t>(ids.size()));
    }
  }
};

InterpretOptions TextLeaves(const ParamStore& params) {
  const Texts t(0, 2);
  InterpretOptions o{
      .counts = {2, static_cast<int64_t>(t.ids.size())}, .leaves = {}, .params = &params};
  const auto doubles = [](const std::vector<int32_t>& v) {
    return std::vector<double>(v.begin(), v.end());
  };
  o.leaves = {{"ids", doubles(t.ids)},
              {"type_ids", doubles(t.types)},
              {"positions", doubles(t.positions)},
              {"offsets", doubles(t.offsets)},
              {"labels", {1, 4}},
              {"one", {1}},
              {"rng", {5, 0}}};
  return o;
}

class PeftMethod : public ::testing::TestWithParam<std::tuple<Case, bool>> {
 protected:
  PeftMethod() : method_(ParseMethod(Row().method)) {
    if (text()) config_ = kTinyBert;
    Randomise(params_, Plain(), false);
    graph_ = MethodGraph(config_, {.loss = true}, method_, params_, 11);
  }
  static const Case& Row() { return std::get<0>(GetParam()); }
  static bool text() { return std::get<1>(GetParam()); }
  Graph Plain(bool loss = true) const { return BuildModel(config_, {.loss = loss}); }
  InterpretOptions LeavesOf(const ParamStore& params) const {
    return text() ? TextLeaves(params) : Leaves(params);
  }
  // Examples [first, first + count) of five.
  void Fill(TrainStep& step, int64_t first, int64_t count, int worker) const {
    Session& session = step.session();
    const auto ints = [&](const char* name, const std::vector<int32_t>& values) {
      std::ranges::copy(values, session.Input(name, worker).i32());
    };
    if (text()) {
      const Texts t(first, count);
      ints("ids", t.ids), ints("type_ids", t.types), ints("offsets", t.offsets);
      if (session.HasInput("positions")) ints("positions", t.positions);
    } else {
      const std::vector<double> noise = Noise(5 * 3 * 64, "batch");
      std::copy_n(noise.begin() + first * 192, count * 192, session.Input("image", worker).f32());
    }
    std::vector<int32_t> labels;
    for (int64_t k = 0; k < count; ++k) labels.push_back(static_cast<int32_t>((first + k) % 5));
    ints("labels", labels);
  }
  Counts Capacity(int64_t sequences) const {
    return {sequences, text() ? static_cast<int64_t>(sequences * 5) : 0};
  }
  // Cuts the five examples into micro-batches of at most `micro`.
  std::vector<Counts> Parts(int64_t micro) const {
    std::vector<Counts> parts;
    for (int64_t first = 0; first < 5; first += micro) {
      const int64_t count = std::min(micro, 5 - first);
      const Texts t(first, count);
      parts.push_back({count, text() ? static_cast<int64_t>(t.ids.size()) : 0});
    }
    return parts;
  }
  ModelConfig config_ = kTiny;
  ParamStore params_;
  Method method_;
  Graph graph_;
};

TEST_P(PeftMethod, StartsAsThePlainModel) {
  if (!Row().starts_plain) return;
  ParamStore params = params_;
  const Graph inference = InferenceGraph(config_, method_, params, 11, true), plain = Plain();
  const Values64 a = Interpret(inference, LeavesOf(params)), b = Interpret(plain, LeavesOf(params));
  EXPECT_EQ(a[inference.output("logits").i], b[plain.output("logits").i]);
}

TEST_P(PeftMethod, TrainsAsManyNumbersAsTheFormulaSays) {
  const ValueId head = graph_.FindLeaf("head.weight");
  const int64_t trainable = TrainableCount(graph_) - (graph_.value(head).trainable ? kHead : 0);
  if (!text()) {
    EXPECT_EQ(trainable, Row().trainable);
  }
  if (method_.size() == 1) {
    Graph plain = Plain();
    ParamStore params = params_;
    const auto options = CompleteOptions(method_[0]);
    EXPECT_EQ(FindMethod(method_[0].name).count({plain, params, options, 0}), trainable);
  }
  EXPECT_EQ(graph_.live_nodes() > Plain().live_nodes(), Row().adds_nodes);
}

TEST_P(PeftMethod, TextIsReadBack) {
  EXPECT_EQ(ParseMethod(ToString(method_)), method_);
  EXPECT_EQ(ToText(ParseGraph(ToText(graph_), AllOps())), ToText(graph_));
}

// Gradients are compared with central differences through the whole model, along eight random
// directions.
TEST_P(PeftMethod, GradientsMatchDifferences) {
  Randomise(params_, graph_, true);
  Graph g = graph_;
  const std::vector<ValueId> wrt = g.Trainable();
  const ValueId loss = SumAll(g, g.output("losses"));
  const std::vector<ValueId> grads = AddGradients(g, loss, wrt);
  const InterpretOptions base = LeavesOf(params_);
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
    EXPECT_NEAR(slope, expected, 1e-8 * std::max(1.0, std::fabs(expected))) << direction;
  }
}

TEST_P(PeftMethod, MergesIntoThePlainModel) {
  Randomise(params_, graph_, true);
  ParamStore merged = params_, unmerged = params_;
  Graph g = InferenceGraph(config_, method_, merged, 11, false);
  const Graph before = g, plain = Plain(false);
  const MergeResult result = Merge(g, merged, plain.ParamNames());
  if (!Row().folds) {
    EXPECT_FALSE(result.left.empty());
    return;
  }
  EXPECT_THAT(result.left, ::testing::IsEmpty());
  EXPECT_TRUE(ToText(g) == ToText(plain)) << DiffText(plain, g);
  const Values64 a = Interpret(before, LeavesOf(unmerged)), b = Interpret(plain, LeavesOf(merged));
  for (size_t i = 0; i < 10; ++i) {
    const double x = a[before.output("logits").i][i], y = b[plain.output("logits").i][i];
    EXPECT_NEAR(x, y, 2e-6 * std::max(1.0, std::fabs(x)));
  }
}

TEST_P(PeftMethod, StepsTouchWhatTrainsAndNothingElse) {
  const ParamStore start = params_;
  TrainStep step(graph_, params_, {.weight_decay = 0.01}, Capacity(1), TrainingPasses({}));
  for (int i = 0; i < 3; ++i)
    step.Run(Parts(1), i, 1e-2,
             [&](int64_t first, int64_t count, int worker) { Fill(step, first, count, worker); });
  for (ValueId v : graph_.Leaves(Role::kParam)) {
    const std::string& name = graph_.value(v).name;
    const bool same = std::ranges::equal(start.Get(name).bytes(), params_.Get(name).bytes());
    EXPECT_EQ(same, !graph_.value(v).trainable) << name;
  }
}

// The loss does not depend on how the batch is cut, nor on the passes, beyond the rounding of f32.
TEST_P(PeftMethod, MicroBatchesAndPassesChangeNothing) {
  auto losses = [&](int64_t micro, const TrainStep::Passes& passes) {
    ParamStore params = params_;
    TrainStep step(graph_, params, {}, Capacity(micro), passes);
    std::vector<double> result;
    for (int i = 0; i < 3; ++i)
      result.push_back(
          step.Run(Parts(micro), i, 1e-2,
                   [&](int64_t first, int64_t n, int worker) { Fill(step, first, n, worker); })
              .loss);
    return result;
  };
  const std::vector<double> plain = losses(5, {});
  for (const auto& other : {losses(1, TrainingPasses({})), losses(2, TrainingPasses({})),
                            losses(5, TrainingPasses({}))})
    for (size_t i = 0; i < plain.size(); ++i) EXPECT_NEAR(other[i], plain[i], 3e-5 * plain[i]);
}

std::vector<std::tuple<Case, bool>> Cases() {
  std::vector<std::tuple<Case, bool>> cases;
  for (const Case& c : kCases)
    for (const bool text : {false, true})
      if (text ? std::string_view(c.method).find("patch_embed") == std::string_view::npos
               : c.trainable != kTexts)
        cases.emplace_back(c, text);
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Methods, PeftMethod, ::testing::ValuesIn(Cases()), [](const auto& info) {
  std::string name = std::get<1>(info.param) ? "Bert_" : "Vit_";
  for (char c : std::string(std::get<0>(info.param).method))
    if (std::isalnum(static_cast<unsigned char>(c))) name += c;
  return name;
});

TEST(Methods, EveryRecordHasACase) {
  for (const MethodRecord* record : AllMethods()) {
    if (record->name == "forget") continue;  // cli_methods_test.cc: it needs a run
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
                                                    {"last(k=2)", 2 * 7'087'872 + 1536},
                                                    {"houlsby(r=8)", 313'536},
                                                    {"houlsby(r=64,ln=true)", 2'417'664},
                                                    {"pfeiffer(r=8)", 156'768},
                                                    {"adaptformer(r=64)", 1'189'632},
                                                    {"parallel(r=16)", 304'320},
                                                    {"mam(tokens=16,r=16)", 599'232},
                                                    {"prefix(tokens=10,mlp=512)", 9'857'024},
                                                    {"prefix(tokens=30,mlp=0)", 552'960},
                                                    {"ptuning2(tokens=20)", 368'640},
                                                    {"prompt(tokens=100)", 76'800},
                                                    {"vpt(tokens=50)", 38'400},
                                                    {"vpt-deep(tokens=50)", 460'800},
                                                    {"ssf", 205'824},
                                                    {"fact(r=8)", 21'504},
                                                    {"fact(r=16)", 61'440},
                                                    {"fact(form=tk,r=16)", 30'976},
                                                    {"fact(form=tk,r=32)", 86'528},
                                                    {"repadapter", 239'808},
                                                    {"repadapter(site=attn)", 119'904},
                                                    {"glora(r=2)", 884'832},
                                                    {"glora(r=4)", 1'603'776},
                                                    {"glora(r=8)", 3'041'664}};
  const VitConfig base = VitByName("vit_base_patch16_224");
  for (auto [method, count] : counts) {
    ParamStore params;
    const Graph g = MethodGraph(base, {}, ParseMethod(method), params, 0);
    EXPECT_EQ(TrainableCount(g) - 769 * 1000, count) << method;
  }
}

// A head that is frozen keeps its own weights; a branch beside it trains all the same.
TEST(Methods, ABranchOfAFrozenHead) {
  ParamStore params;
  const Graph g =
      MethodGraph(kTiny, {}, ParseMethod("lora(r=2,targets=head,head=frozen)"), params, 0);
  std::set<std::string> trained;
  for (const ValueId v : g.Trainable()) trained.insert(g.value(v).name);
  EXPECT_EQ(trained, (std::set<std::string>{"head.lora_a", "head.lora_b"}));
}

// A path may hold what ends a value, an option or a term.
TEST(Methods, ValuesInQuotes) {
  const Method method =
      ParseMethod("forget(run=\"/a (copy)/b,c+d\", lambda=0.5)+lora(targets=\"attn.q\")");
  ASSERT_EQ(method.size(), 2u);
  EXPECT_EQ(method[0].options.at("run"), "/a (copy)/b,c+d");
  EXPECT_EQ(method[0].options.at("lambda"), "0.5");
  EXPECT_EQ(method[1].options.at("targets"), "attn.q");
  EXPECT_EQ(ToString(method), "forget(lambda=0.5,run=\"/a (copy)/b,c+d\")+lora(targets=attn.q)");
  EXPECT_EQ(ToString(ParseMethod(ToString(method))), ToString(method));
  EXPECT_THROW(ToString({{"forget", {{"run", "a\"b,c"}}}}), Error);
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
      {"lora(targets=\"a)", "do not end with ')'"},
      {"childtuning(targets=attn.z)", "target 'attn.z' matches no layer; did you mean"},
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
}  // namespace graft::peft_test
