#include "train/calibrate.h"

#include <algorithm>
#include <cmath>

#include "adapters/method_graph.h"
#include "train/evaluator.h"

namespace graft {
namespace {

// Logits [n,K] of texts that say nothing.
std::vector<float> BlankTexts(Session& session, const LoadedModel& model, const RunConfig& c) {
  const TextExample texts[] = {{.text = ""}, {.text = "[MASK]"}, {.text = "N/A"}};
  const std::unique_ptr<BatchSource> data = MakeTextData(texts, model, c);
  std::vector<float> logits;
  for (size_t i = 0; i < data->size(); ++i) {
    data->Start({i});
    data->Take(1);
    for (const Counts& part : data->Parts(session.options().capacity)) {
      data->Fill(session, 0, 1, 0);
      session.Run(part);
      const Tensor out = session.Output("logits");
      logits.insert(logits.end(), out.f32(), out.f32() + Classes(model.config));
    }
  }
  return logits;
}

std::vector<float> GreyImage(Session& session, const LoadedModel& model, const RunConfig& c) {
  const Preprocess p = ParsePreprocess(c.preprocess);
  const VitConfig& vit = model.vit();
  float* image = session.Input("image").f32();
  for (int64_t channel = 0; channel < vit.channels; ++channel) {
    const size_t k = static_cast<size_t>(channel);
    const double value = (0.5 - p.mean[k]) / p.std[k];
    image = std::fill_n(image, vit.image_size * vit.image_size, static_cast<float>(value));
  }
  session.Run({1, 0});
  const Tensor out = session.Output("logits");
  return {out.f32(), out.f32() + Classes(model.config)};
}

}  // namespace

bool WantsCalibration(const Method& method) {
  return std::ranges::any_of(method, [](const MethodTerm& t) { return t.name == "calibration"; });
}

ParamStore Calibrated(const LoadedModel& model, const Method& method, const RunConfig& c) {
  ParamStore params = model.params;
  const size_t classes = static_cast<size_t>(Classes(model.config));
  // A buffer of its own, as sessions may be reading the one that the model has.
  params.Set(kCalibrationShift, {static_cast<int64_t>(classes)}, std::vector<float>(classes));
  Graph graph = InferenceGraph(model.config, method, params, static_cast<uint64_t>(c.seed));
  InferencePasses(PassesOf(c)).Run(graph);
  const int64_t longest = model.is_bert() ? MaxLength(c, model) : 0;
  Session session(graph, params, {.capacity = {1, longest}});
  const std::vector<float> logits =
      model.is_bert() ? BlankTexts(session, model, c) : GreyImage(session, model, c);
  std::vector<double> mean(classes);
  const size_t n = logits.size() / classes;
  for (size_t row = 0; row < logits.size(); row += classes) {
    const double top = *std::max_element(&logits[row], &logits[row] + classes);
    double sum = 0;
    for (size_t k = 0; k < classes; ++k) sum += std::exp(logits[row + k] - top);
    for (size_t k = 0; k < classes; ++k)
      mean[k] += std::exp(logits[row + k] - top) / sum / static_cast<double>(n);
  }
  std::vector<float> shift;
  for (const double p : mean) shift.push_back(static_cast<float>(-std::log(std::max(p, 1e-8))));
  params.Set(kCalibrationShift, {static_cast<int64_t>(classes)}, shift);
  params.Freeze();
  return params;
}

}  // namespace graft
