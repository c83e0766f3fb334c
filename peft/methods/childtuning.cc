// Child-Tuning (Xu et al. 2021, arXiv 2109.05687): everything trains, by a part of each gradient,
//
//   f:  g <- g * M / p,  M ~ Bernoulli(p) anew for every step and tensor
//   d:  g <- g * M,      M fixed: 1 where the Fisher information E[g^2], from one pass over the
//       training data, is among the largest share p of all block parameters; others train fully
//
// The mask comes behind clipping and in front of the optimizer: its momentum still moves elements
// that are masked now, and weight decay is not masked, as in the authors' code. Parameters of
// layers that `targets` leaves out have their whole gradient.
#include "ops/ops.h"
#include "peft/methods/methods.h"
#include "peft/sites.h"

namespace graft {
namespace {

bool IsMasked(const std::string& parameter, const std::vector<std::string>& targets) {
  return ScopeMatches(LayerOf(parameter), targets);
}

void CheckMasked(const Graph& g, const std::vector<std::string>& targets) {
  std::set<std::string> layers;
  for (ValueId p : g.Leaves(Role::kParam)) layers.insert(LayerOf(g.value(p).name));
  for (const std::string& target : targets)
    if (std::ranges::none_of(layers, [&](const auto& l) { return ScopeMatches(l, {target}); }))
      FailTarget(target, layers);
}

PassReport ApplyChild(const MethodArgs& a) {
  PassReport report = StartReport(a, "childtuning");
  a.Choice("mode", {"f", "d"});
  a.Number("p", 1e-6, 1);
  CheckMasked(a.g, a.List("targets"));
  report.rewrites = SetTrainable(a.g, [](const Graph&, ValueId) { return true; });
  return FinishReport(a, report);
}

ValueId MaskGradient(const MethodArgs& a, const GradientSite& at) {
  Graph& g = a.g;
  if (!IsMasked(at.name, a.List("targets"))) return at.gradient;
  if (a.Text("mode") == "d") {
    const std::string mask = kChildMask + at.name;
    if (!a.params.Has(mask)) return at.gradient;
    return Mul(g, at.gradient, g.AddParam(mask, g.shape(at.gradient)));
  }
  const double p = a.Number("p", 1e-6, 1);
  const Extents shape = At(g.shape(at.gradient), {});
  return Dropout(g, at.gradient, Offsets(g, shape.rank == 1 ? 1 : shape.rows()), at.rng,
                 {1 - p, false, static_cast<int64_t>(a.seed), "childtuning." + at.name});
}

}  // namespace

const MethodRecord kChildTuningMethod{
    .name = "childtuning",
    .summary = "everything trains, by a part of each gradient (Xu et al. 2021)",
    .equation = "g <- g * M / p, M ~ Bernoulli(p); or M fixed by Fisher information",
    .formula = "all",
    .source = "Xu et al. 2021, arXiv 2109.05687",
    .options =
        +[] {
          return std::vector<MethodOption>{
              {"mode", "f", "f: masks drawn anew in each step; d: fixed by the training data"},
              {"p", "0.3", "share of a gradient (f) or of the block parameters (d) that is kept"},
              {"targets", "*", "layers with masks, such as attn.*; the others train fully"}};
        },
    .apply = ApplyChild,
    .count =
        +[](const MethodArgs& a) {
          int64_t count = 0;
          for (ValueId p : a.g.Leaves(Role::kParam))
            if (!a.g.value(p).name.starts_with("head.")) count += At(a.g.shape(p), {}).size();
          return count;
        },
    .folds = Folds::kYes,
    .why = "nothing is added: the values are those of the model",
    .learning_rate = 1e-4,
    .gradient = MaskGradient};

}  // namespace graft
