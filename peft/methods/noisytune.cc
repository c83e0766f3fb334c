// NoisyTune (Wu et al. 2022, arXiv 2202.12024): before training, noise in every parameter of the
// model, relative to its own spread; nothing is added and nothing trains by it:
//
//   W <- W + lambda std(W) u,   u ~ U(-0.5, 0.5),   std unbiased, as torch.std
//
// A parameter of one number, or of equal numbers, has no spread and stays. What a run keeps is
// relative to the noised weights, which are made again from its seed whenever it is opened.
#include <cmath>

#include "peft/methods/methods.h"
#include "peft/parameters.h"

namespace graft {
namespace {

double SpreadOf(std::span<const float> values) {
  if (values.size() < 2) return 0;
  const double n = static_cast<double>(values.size());
  double mean = 0, squares = 0;
  for (const float x : values) mean += x;
  mean /= n;
  for (const float x : values) squares += (x - mean) * (x - mean);
  return std::sqrt(squares / (n - 1));
}

PassReport ApplyNoisyTune(const MethodArgs& a) {
  PassReport report = StartReport(a, "noisytune");
  const double lambda = a.Number("lambda", 0, 10);
  const bool once = EditOnce(a.params, "noisytune");
  for (ValueId v : a.g.Leaves(Role::kParam)) {
    ++report.rewrites;
    const std::string& name = a.g.value(v).name;
    if (!once || !a.params.Has(name)) continue;
    const std::span<const float> values = a.params.values(name);
    const double half = 0.5 * lambda * SpreadOf(values);
    if (half == 0) continue;
    std::vector<float> noised(values.size());
    FillUniform(noised, {MakeKey(a.seed, Purpose::kNoise, name)}, -half, half);
    for (size_t i = 0; i < noised.size(); ++i) noised[i] += values[i];
    a.params.Set(name, a.params.shape(name), noised);
  }
  return FinishReport(a, report);
}

}  // namespace

const MethodRecord kNoisyTuneMethod{
    .name = "noisytune",
    .summary = "noise in every parameter before training, beside another method (Wu et al. 2022)",
    .equation = "W <- W + lambda std(W) u, u ~ U(-0.5, 0.5)",
    .formula = "0",
    .source = "Wu et al. 2022, arXiv 2202.12024",
    .options =
        +[] {
          return std::vector<MethodOption>{{"lambda", "0.15", "noise relative to the spread"}};
        },
    .apply = ApplyNoisyTune,
    .count = +[](const MethodArgs&) -> int64_t { return 0; },
    .folds = Folds::kYes,
    .why = "the noise is in the weights",
    .learning_rate = 1e-2,
    .phase = MethodPhase::kWeights};

}  // namespace graft
