// Steps of supernets against plain PyTorch in float64 (fixtures/make_supernet.py says what is
// repeated), candidates cut from them, and what folding makes of these.
#include "search/supernet.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <cmath>

#include "adapters/method_graph.h"
#include "models/files/checkpoint.h"
#include "runtime/interpret.h"
#include "runtime/io/json.h"
#include "runtime/rng.h"
#include "search/search_run.h"
#include "tests/fixture_testing.h"

namespace graft::supernet_test {
namespace {

constexpr int64_t kExamples = 4;
constexpr double kRate = 1e-2;

const Json& Runs() {
  static const Json json = ReadJson(kFixtures + "supernet.json");
  return json["runs"];
}

std::vector<float> FirstValues(const std::string& name, int64_t n) {
  const double phase = static_cast<double>(
      crc32(0, reinterpret_cast<const Bytef*>(name.data()), static_cast<uInt>(name.size())) % 1000);
  std::vector<float> values;
  for (int64_t i = 0; i < n; ++i)
    values.push_back(static_cast<float>(0.1 * std::sin(0.37 * static_cast<double>(i + 1) + phase)));
  return values;
}

std::vector<float> Images() {
  std::vector<float> image;
  for (int i = 0; i < kExamples * 3 * 16 * 16; ++i)
    image.push_back(static_cast<float>(std::sin(0.11 * (i + 1))));
  return image;
}

class SupernetSteps : public ::testing::TestWithParam<size_t> {
 protected:
  SupernetSteps()
      : model_(LoadModel(kFixtures + "tiny_vit_hf", "", 0)),
        space_(ParseSpace(run_["space"].get<std::string>()), model_.config, model_.params) {
    for (const auto& [name, shape] : space_.storage())
      model_.params.Set(name, shape, FirstValues(name, shape.size()));
    for (const char* name : {"head.weight", "head.bias"}) {
      const Extents shape = model_.params.shape(name);
      model_.params.Set(name, shape, FirstValues(name, shape.size()));
    }
    SupernetOptions options;
    options.optimizer.weight_decay = 1e-2;
    options.capacity = {2, 0};
    supernet_.emplace(space_, model_.config, model_.params, options);
  }
  Genes Path(size_t step) const { return run_["paths"][step].get<Genes>(); }
  double Loss(size_t step) const { return run_["losses"][step].get<double>(); }

  const Json& run_ = Runs()[GetParam()];
  LoadedModel model_;
  BoundSpace space_;
  std::optional<Supernet> supernet_;
};

TEST_P(SupernetSteps, InterpreterFollowsPyTorch) {
  const std::vector<float> image = Images();
  InterpretOptions o{.counts = {kExamples, 0}, .leaves = {}, .params = &model_.params};
  o.leaves = {{"image", {image.begin(), image.end()}},
              {"labels", {0, 1, 2, 3}},
              {"one", {1}},
              {"inv_batch", {1.0 / kExamples}}};
  std::map<std::string, int64_t> updates, unused;
  OptimizerConfig optimizer{.weight_decay = 1e-2, .updates = &unused};
  for (size_t step = 0; step < run_["losses"].size(); ++step) {
    Graph g = supernet_->PathGraph(Path(step));
    AddTrainStep(g, model_.params, optimizer);
    for (ValueId v : g.Trainable()) {
      const double t = static_cast<double>(++updates[g.value(v).name]);
      o.leaves["hyper." + g.value(v).name] = {kRate, 1 - std::pow(0.9, t), 1 - std::pow(0.999, t)};
    }
    const Values64 v = Interpret(g, o);
    ASSERT_NEAR(v[g.FindLeaf("acc.loss").i][0], Loss(step), 1e-8 * Loss(step)) << step;
    for (const Update& u : g.updates)
      if (g.value(u.target).role == Role::kParam) o.leaves[g.value(u.target).name] = v[u.value.i];
  }
  ASSERT_EQ(run_["tensors"].size(), space_.storage().size() + 2);
  for (const auto& [name, sums] : run_["tensors"].items()) {
    EXPECT_EQ(updates[name], sums["updates"].get<int64_t>()) << name;
    if (updates[name] == 0) continue;
    const std::vector<double>& values = o.leaves.at(name);
    ASSERT_EQ(values.size(), sums["size"].get<size_t>()) << name;
    double squares = 0, sines = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      squares += values[i] * values[i];
      sines += values[i] * std::sin(static_cast<double>(i + 1));
    }
    const double scale = std::sqrt(squares * static_cast<double>(values.size()));
    EXPECT_NEAR(squares, sums["squares"].get<double>(), 1e-8 * squares) << name;
    EXPECT_NEAR(sines, sums["sines"].get<double>(), 1e-8 * scale) << name;
  }
}

// The same steps run through compiled sessions that share memory and packed weights.
TEST_P(SupernetSteps, SessionsFollowPyTorch) {
  const std::vector<float> image = Images();
  for (size_t i = 0; i < run_["losses"].size(); ++i) {
    TrainStep& step = supernet_->StepOf(Path(i));
    const StepResult r = step.Run(
        kExamples, static_cast<int64_t>(i), kRate, [&](int64_t first, int64_t n, int worker) {
          std::copy_n(image.begin() + first * 768, n * 768,
                      step.session().Input("image", worker).f32());
          for (int64_t k = 0; k < n; ++k)
            step.session().Input("labels", worker).i32()[k] = static_cast<int32_t>(first + k);
        });
    EXPECT_NEAR(r.loss, Loss(i), 5e-4) << i;
  }
  for (const auto& [name, sums] : run_["tensors"].items())
    EXPECT_EQ(supernet_->updates()[name], sums["updates"].get<int64_t>()) << name;
}

INSTANTIATE_TEST_SUITE_P(Spaces, SupernetSteps, ::testing::Range(size_t{0}, Runs().size()));

// --- paths and candidates

class SupernetCandidates : public ::testing::Test {
 protected:
  // Makes a supernet with values in all of its storage.
  void Make(const std::string& space) {
    model_ = LoadModel(kFixtures + "tiny_vit_hf", "", 0);
    space_.emplace(ParseSpace(WrittenOut(space, "", 2)), model_.config, model_.params);
    for (const auto& [name, shape] : space_->storage())
      model_.params.Set(name, shape, FirstValues(name, shape.size()));
    supernet_.emplace(*space_, model_.config, model_.params,
                      SupernetOptions{.capacity = {kExamples, 0}, .seed = 5});
  }
  static std::vector<float> Logits(const Graph& graph, ParamStore& params) {
    Graph g = graph;
    g.KeepOutputs([](const GraphOutput& o) { return o.name == "logits"; });
    g.EraseDead(), g.EraseUnusedInputs();
    Session session(g, params, {.capacity = {kExamples, 0}});
    const std::vector<float> image = Images();
    std::ranges::copy(image, session.Input("image").f32());
    session.Run({kExamples, 0});
    const Tensor y = session.Output("logits");
    return {y.f32(), y.f32() + y.shape.size()};
  }
  static double Difference(const std::vector<float>& a, const std::vector<float>& b) {
    const std::vector<double> x(a.begin(), a.end()), y(b.begin(), b.end());
    return RelativeError(x, y);
  }
  LoadedModel model_;
  std::optional<BoundSpace> space_;
  std::optional<Supernet> supernet_;
};

// A candidate by itself gives what its path through the supernet gives, folded or not.
TEST_F(SupernetCandidates, AreTheirPathsFoldedOrNot) {
  for (const char* space :
       {"glora", "lora(r={0|2|4},targets=attn.*|mlp.*)+adaptformer(r={0|3},act={relu|gelu})",
        "noah", "vpt-deep(tokens={0|2|3})"}) {
    Make(space);
    for (int64_t i = 0; i < 25; ++i) {
      const Genes path = supernet_->PathAt(i);
      const std::vector<float> through = Logits(supernet_->PathGraph(path), model_.params);
      ParamStore own = CandidateParams(*space_, model_.config, path, model_.params);
      const Method method = space_->MethodOf(path);
      const std::vector<float> alone = Logits(InferenceGraph(model_.config, method, own, 5), own);
      EXPECT_LT(Difference(alone, through), 1e-5) << i;
      ParamStore folded = own;
      const Graph g = FoldedCandidate(model_.config, method, folded, 5);
      EXPECT_LT(Difference(Logits(g, folded), through), 1e-5) << i;
      if (std::string(space) == "glora") {
        EXPECT_EQ(g.live_nodes(), BuildModel(model_.config, {.loss = true}).live_nodes());
      }
    }
  }
}

TEST_F(SupernetCandidates, PathsAreUniformAndTheSameAgain) {
  Make("glora");
  const size_t genes = space_->genes().size();
  std::vector<std::map<int, int>> counts(genes);
  constexpr int kSteps = 600;
  for (int64_t i = 0; i < kSteps; ++i) {
    const Genes path = supernet_->PathAt(i);
    EXPECT_EQ(path, supernet_->PathAt(i));
    for (size_t k = 0; k < genes; ++k) ++counts[k][path[k]];
  }
  for (size_t k = 0; k < genes; ++k) {
    const double expected = kSteps / static_cast<double>(space_->genes()[k].choices);
    ASSERT_EQ(counts[k].size(), static_cast<size_t>(space_->genes()[k].choices));
    for (const auto& [choice, n] : counts[k]) EXPECT_NEAR(n, expected, 5 * std::sqrt(expected));
  }
  // Places do not draw the same.
  EXPECT_NE(supernet_->PathAt(0), supernet_->PathAt(1));
  const Genes path = supernet_->PathAt(0);
  EXPECT_NE(Genes(path.begin(), path.begin() + 20), Genes(path.begin() + 20, path.end()));
}

// A path's gradients fall into its slices, and the rest of a tensor that it reads gets none.
TEST_F(SupernetCandidates, GradientsLandInTheSlices) {
  Make("lora(r={1|2|4},targets=attn.q)");
  Graph g = supernet_->PathGraph({1, 0});
  const std::vector<ValueId> wrt = g.Trainable();
  const std::vector<ValueId> grads = AddGradients(g, SumAll(g, g.output("losses")), wrt);
  const std::vector<float> image = Images();
  InterpretOptions o{.counts = {kExamples, 0}, .leaves = {}, .params = &model_.params};
  o.leaves = {{"image", {image.begin(), image.end()}}, {"labels", {0, 1, 2, 3}}, {"one", {1}}};
  const Values64 v = Interpret(g, o);
  int seen = 0;
  for (size_t i = 0; i < wrt.size(); ++i) {
    const std::string& name = g.value(wrt[i]).name;
    if (!name.starts_with("blocks.0.attn.q.lora")) continue;
    const std::vector<double>& d = v[grads[i].i];
    ASSERT_EQ(d.size(), 4u * 24) << name;
    for (size_t k = 0; k < d.size(); ++k) {
      const size_t rank = name.ends_with("_a") ? k / 24 : k % 4;
      EXPECT_EQ(d[k] != 0, rank < 2) << name << " " << k;
    }
    ++seen;
  }
  EXPECT_EQ(seen, 2);
}

TEST_F(SupernetCandidates, FewSessionsAreKept) {
  Make("lora(r={0|2},targets=attn.q)");
  const Genes first{1, 1}, second{0, 1};
  TrainStep* step = &supernet_->StepOf(first);
  supernet_->StepOf(second);
  EXPECT_EQ(&supernet_->StepOf(first), step);
  EXPECT_EQ(supernet_->compiled(), 2);
}

}  // namespace
}  // namespace graft::supernet_test
