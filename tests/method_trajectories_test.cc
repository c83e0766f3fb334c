// Compares 50 steps of AdamW with every method, on the tiny ViT and the tiny BERT, with float64
// PyTorch; fixtures/make_method_trajectories.py says what is repeated. They run in f64 through the
// interpreter, and in f32 through the session with its passes.
#include <gtest/gtest.h>
#include <zlib.h>

#include <cmath>

#include "autograd/gradient.h"
#include "autograd/train_step.h"
#include "models/files/checkpoint.h"
#include "ops/ops.h"
#include "peft/method.h"
#include "peft/sites.h"
#include "runtime/io/json.h"
#include "tests/fixture_testing.h"
#include "tests/test_util.h"
#include "train/child_masks.h"
#include "train/evaluator.h"

namespace graft::method_trajectories_test {
namespace {

constexpr int64_t kExamples = 4;
constexpr double kRate = 1e-2;

const Json& Trajectories() {
  static const Json json = ReadJson(kFixtures + "method_trajectories.json");
  return json;
}

// value[i] = 0.1 sin(0.37 (i + 1) + crc32(name) mod 1000), + 1 for scales, rounded to f32.
std::vector<float> FirstValues(const std::string& name, size_t n) {
  const double phase = static_cast<double>(
      crc32(0, reinterpret_cast<const Bytef*>(name.data()), static_cast<uInt>(name.size())) % 1000);
  std::vector<float> values(n);
  for (size_t i = 0; i < n; ++i)
    values[i] = static_cast<float>(0.1 * std::sin(0.37 * static_cast<double>(i + 1) + phase) +
                                   (name.ends_with("scale") ? 1 : 0));
  return values;
}

struct Batch {
  std::vector<float> image;
  std::vector<int32_t> ids, types, positions, offsets{0}, labels;
};

Batch BatchOf(const std::string& model, int64_t classes) {
  Batch b;
  for (int32_t i = 0; i < kExamples; ++i) b.labels.push_back(static_cast<int32_t>(i % classes));
  for (int i = 0; model == "vit" && i < kExamples * 3 * 16 * 16; ++i)
    b.image.push_back(static_cast<float>(std::sin(0.11 * (i + 1))));
  for (const Json& text : Trajectories()["texts"]) {
    const int32_t second = text["second"].get<int32_t>();
    for (int32_t k = 0; const Json& id : text["ids"]) {
      b.ids.push_back(id.get<int32_t>());
      b.types.push_back(k >= second), b.positions.push_back(k++);
    }
    b.offsets.push_back(static_cast<int32_t>(b.ids.size()));
  }
  return b;
}

class Trajectory : public ::testing::TestWithParam<size_t> {
 protected:
  void SetUp() override {
    const std::string name = run_["model"].get<std::string>();
    model_ = LoadModel(kFixtures + (name == "vit" ? "tiny_vit_hf" : "tiny_bert_hf"), "", 0);
    for (const std::string& leaf : model_.params.names())
      if (leaf.starts_with("head.")) Start(leaf);
    const Method method = ParseMethod(run_["method"].get<std::string>());
    const Graph plain = BuildModel(model_.config);
    graph_ = MethodGraph(model_.config, {.loss = true}, method, model_.params, 0);
    for (ValueId v : graph_.Leaves(Role::kParam))
      if (const std::string& leaf = graph_.value(v).name;
          (graph_.value(v).trainable && !plain.FindLeaf(leaf).valid()) || leaf == "bbt.projection")
        Start(leaf);
    batch_ = BatchOf(name, Classes(model_.config));
    optimizer_.weight_decay = 1e-2;
    optimizer_.on_gradient = GradientTransformOf(method, 0);
    if (WantedChildMasks(method)) MakeMasks(method);
  }
  void Start(const std::string& name) {
    const Extents shape = model_.params.shape(name);
    model_.params.Set(name, shape, FirstValues(name, static_cast<size_t>(shape.size())));
  }
  InterpretOptions Leaves() const {
    InterpretOptions o{.counts = {kExamples, model_.is_bert() ? std::ssize(batch_.ids) : 0},
                       .leaves = {},
                       .params = &model_.params};
    const auto put = [&](const char* name, const auto& values) {
      o.leaves[name] = {values.begin(), values.end()};
    };
    if (model_.is_bert())
      put("ids", batch_.ids), put("type_ids", batch_.types), put("positions", batch_.positions),
          put("offsets", batch_.offsets);
    else
      put("image", batch_.image);
    put("labels", batch_.labels);
    o.leaves["one"] = {1}, o.leaves["inv_batch"] = {1.0 / kExamples};
    o.leaves["rng"] = {0, 0}, o.leaves["update_rng"] = {0, 0};
    return o;
  }
  // The Fisher information is that of the whole batch, with each tensor clipped to a norm of 1.
  void MakeMasks(const Method& method) {
    Graph g = graph_;
    const std::vector<ValueId> wrt = g.Trainable();
    const ValueId loss = Scale(g, SumAll(g, g.output("losses")), 1.0 / kExamples);
    const std::vector<ValueId> grads = AddGradients(g, loss, wrt);
    const Values64 v = Interpret(g, Leaves());
    std::map<std::string, std::vector<float>> scores;
    for (size_t i = 0; i < wrt.size(); ++i) {
      const std::string& name = g.value(wrt[i]).name;
      if (BlockOf(name) < 0) continue;
      double squares = 0;
      for (double x : v[grads[i].i]) squares += x * x;
      const double factor = std::min(1.0, 1 / (std::sqrt(squares) + 1e-6));
      for (double x : v[grads[i].i])
        scores[name].push_back(static_cast<float>(factor * x * factor * x));
    }
    std::vector<std::span<const float>> all;
    for (const auto& [name, values] : scores) all.push_back(values);
    const double keep = std::stod(CompleteOptions(method[0]).at("p"));
    const double threshold = Percentile(all, 1 - keep);
    int64_t kept = 0;
    for (const auto& [name, values] : scores) {
      std::vector<float> mask;
      for (const float x : values) mask.push_back(x >= threshold), kept += x >= threshold;
      model_.params.Set(kChildMask + name, model_.params.shape(name), mask);
    }
    EXPECT_EQ(kept, run_["kept"].get<int64_t>());
  }
  // Dequantised weights are rounded to f32 here, and not in PyTorch's run.
  double Bound() const {
    return run_["method"].get<std::string>().starts_with("nf4") ? 1e-6 : 1e-8;
  }
  double Loss(size_t step) const { return run_["losses"][step].get<double>(); }

  // Compares the stored sums over each trained tensor.
  void CompareFinals(const std::function<std::vector<double>(const std::string&)>& value,
                     double bound) const {
    size_t compared = 0;
    for (const auto& [name, sums] : run_["tensors"].items()) {
      if (sums.contains("inert")) continue;  // Adam makes steps of rounding
      const std::vector<double> values = value(name);
      ASSERT_EQ(values.size(), sums["size"].get<size_t>()) << name;
      double squares = 0, sines = 0;
      for (size_t i = 0; i < values.size(); ++i) {
        squares += values[i] * values[i];
        sines += values[i] * std::sin(static_cast<double>(i + 1));
      }
      const double scale = std::sqrt(squares * static_cast<double>(values.size()));
      EXPECT_NEAR(squares, sums["squares"].get<double>(), bound * squares) << name;
      EXPECT_NEAR(sines, sums["sines"].get<double>(), bound * scale) << name;
      ++compared;
    }
    EXPECT_GE(compared, std::min<size_t>(2, run_["tensors"].size()));
  }

  const Json& run_ = Trajectories()["runs"][GetParam()];
  LoadedModel model_;
  Graph graph_;
  Batch batch_;
  OptimizerConfig optimizer_;
};

TEST_P(Trajectory, TrainsWhatPyTorchTrains) {
  std::set<std::string> names, expected;
  for (ValueId v : graph_.Trainable()) names.insert(graph_.value(v).name);
  for (const auto& [name, sums] : run_["tensors"].items()) expected.insert(name);
  EXPECT_EQ(names, expected);
}

TEST_P(Trajectory, InterpreterFollowsPyTorch) {
  AddTrainStep(graph_, model_.params, optimizer_);
  InterpretOptions o = Leaves();
  const ValueId loss_state = graph_.FindLeaf("acc.loss");
  for (size_t step = 0; step < run_["losses"].size(); ++step) {
    const double t = static_cast<double>(step + 1);
    o.leaves["hyper"] = {kRate, 1 - std::pow(0.9, t), 1 - std::pow(0.999, t)};
    const Values64 v = Interpret(graph_, o);
    ASSERT_NEAR(v[loss_state.i][0], Loss(step), Bound() * std::fabs(Loss(step))) << step;
    for (const Update& u : graph_.updates)
      if (graph_.value(u.target).role == Role::kParam)
        o.leaves[graph_.value(u.target).name] = v[u.value.i];
  }
  CompareFinals([&](const std::string& name) { return o.leaves.at(name); }, Bound());
}

TEST_P(Trajectory, SessionFollowsPyTorch) {
  const bool text = model_.is_bert();
  const auto tokens = [&](int64_t first, int64_t count) -> int64_t {
    if (!text) return 0;
    return batch_.offsets[first + count] - batch_.offsets[first];
  };
  const std::vector<Counts> parts{{2, tokens(0, 2)}, {1, tokens(2, 1)}, {1, tokens(3, 1)}};
  TrainStep step(graph_, model_.params, optimizer_, Counts{2, tokens(0, 2)}, TrainingPasses({}));
  Session& session = step.session();
  const auto fill = [&](int64_t first, int64_t count, int worker) {
    const auto copy = [&](const char* name, const std::vector<int32_t>& from, int64_t begin,
                          int64_t n) {
      if (session.HasInput(name))
        std::copy_n(from.begin() + begin, n, session.Input(name, worker).i32());
    };
    copy("labels", batch_.labels, first, count);
    if (!text) {
      std::copy_n(batch_.image.begin() + first * 768, count * 768,
                  session.Input("image", worker).f32());
      return;
    }
    const int64_t begin = batch_.offsets[first], n = tokens(first, count);
    copy("ids", batch_.ids, begin, n), copy("type_ids", batch_.types, begin, n);
    copy("positions", batch_.positions, begin, n);
    for (int64_t i = 0; i <= count; ++i)
      session.Input("offsets", worker).i32()[i] =
          static_cast<int32_t>(batch_.offsets[first + i] - begin);
  };
  for (size_t i = 0; i < run_["losses"].size(); ++i) {
    const StepResult r = step.Run(parts, static_cast<int64_t>(i), kRate, fill);
    EXPECT_NEAR(r.loss, Loss(i), 2e-4) << i;
  }
}

std::string NameOf(const ::testing::TestParamInfo<size_t>& info) {
  const Json& run = Trajectories()["runs"][info.param];
  std::string name = run["model"].get<std::string>() + "_";
  for (const char c : run["method"].get<std::string>())
    name += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
}

INSTANTIATE_TEST_SUITE_P(Methods, Trajectory,
                         ::testing::Range(size_t{0}, Trajectories()["runs"].size()), NameOf);

}  // namespace
}  // namespace graft::method_trajectories_test
