// For the tests of low precision: a step of a small ViT, and how near its gradients are.
#pragma once
#include <map>

#include "adapters/method_graph.h"
#include "autograd/train_step.h"
#include "models/model.h"
#include "tests/graph_testing.h"
#include "tests/nf4_testing.h"
#include "tests/test_util.h"

namespace graft::testing {

// 17 tokens: an odd number, as pairs of rows have to bear.
inline const VitConfig kVit{.image_size = 32,
                            .patch_size = 8,
                            .width = 48,
                            .depth = 2,
                            .heads = 3,
                            .mlp_width = 96,
                            .classes = 40};

inline const VitConfig kWideVit{.image_size = 32,
                                .patch_size = 8,
                                .width = 128,
                                .depth = 1,
                                .heads = 4,
                                .mlp_width = 144,
                                .classes = 40};

inline Precision Of(CellType cell, std::vector<std::string> keep = {}) {
  return {cell, true, std::move(keep)};
}

// One step of a small ViT in that precision, as training compiles it.
struct LowStep {
  ParamStore params;
  std::unique_ptr<TrainStep> step;
  LowStep(const std::string& method, const Precision& precision, int threads = 0,
          const VitConfig& vit = kVit, const std::vector<std::string>& disabled = {}) {
    InitVit(vit, params, 1);
    const Graph g = MethodGraph(vit, {.loss = true}, ParseMethod(method), params, 1);
    for (const std::string& name : params.names())  // a branch that starts at 0 has no gradient
      if (name.ends_with("lora_b") || name.ends_with("adaptformer_up"))
        params.Set(name, params.shape(name), Normal(params.shape(name).size(), 3, 0.05f));
    step = std::make_unique<TrainStep>(g, params, OptimizerConfig{}, Counts{3, 0},
                                       TrainingPasses(PassOptions(disabled, precision)),
                                       TrainStep::Parallel{0, 2, threads});
  }
  const Graph& graph() const { return step->graph(); }
  double Accumulate(float bad = 0) {
    const std::vector<Counts> parts{{3, 0}, {2, 0}};
    const auto fill = [&](int64_t first, int64_t count, int worker) {
      Session& session = step->session();
      const Tensor image = session.Input("image", worker);
      const int64_t pixels = image.shape.size() / 3;
      for (int64_t i = 0; i < count * pixels; ++i)
        image.f32()[i] = static_cast<float>(std::sin(0.37 * double(first * pixels + i)));
      if (bad != 0) image.f32()[0] = bad;
      for (int64_t i = 0; i < count; ++i)
        session.Input("labels", worker).i32()[i] = static_cast<int32_t>((first + i) % 40);
    };
    return step->Accumulate(parts, 0, fill).loss;
  }
  std::vector<float> Gradient(const std::string& name) {
    const Tensor t = step->session().State("acc." + name);
    return {t.f32(), t.f32() + t.shape.size()};
  }
  std::map<std::string, std::vector<float>> Gradients() {
    std::map<std::string, std::vector<float>> all;
    for (const std::string& name : step->trainable_names()) all[name] = Gradient(name);
    return all;
  }
};

inline double Cosine(const std::vector<float>& a, const std::vector<float>& b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += double(a[i]) * double(b[i]), aa += double(a[i]) * double(a[i]);
    bb += double(b[i]) * double(b[i]);
  }
  return ab / std::sqrt(aa * bb);
}

}  // namespace graft::testing
