// MAM (He et al. 2022, arXiv 2110.04366): a prefix of few tokens for attention and a scaled
// parallel adapter beside the MLP.
#include "peft/methods/methods.h"
#include "peft/methods/parallel.h"
#include "peft/methods/prefix.h"

namespace graft {
namespace {

PassReport ApplyMam(const MethodArgs& a) {
  PassReport report = StartReport(a, "mam");
  for (const BlockSite& block : FindBlocks(a.g)) AddParallelMlp(a, block);
  report.rewrites = 2 * AddPrefix(a);
  return FinishReport(a, report);
}

}  // namespace

const MethodRecord kMamMethod{
    .name = "mam",
    .summary = "a prefix of attention and a parallel adapter beside the MLP (He et al. 2022)",
    .equation = "attention(q, [K_l; k], [V_l; v]); u + s (act(x1 Wd' + bd) Wu' + bu)",
    .formula = "2 L P D + L (2Dr + r + D)",
    .source = "He et al. 2022, arXiv 2110.04366",
    .options =
        +[] {
          return std::vector<MethodOption>{
              {"tokens", "16", "P, keys and values for each attention"},
              {"mlp", "0", "width of the MLP that makes them in training; 0: none"},
              {"r", "16", "width of the bottleneck"},
              {"scale", "2", "s: a number, or 'learned' from 1"},
              {"act", "relu", "relu, gelu, gelu_tanh, silu, tanh, sigmoid, none"}};
        },
    .apply = ApplyMam,
    .count =
        +[](const MethodArgs& a) {
          return PrefixCount(a) + BottleneckCountAt(a, ShapeOf(a.g).depth);
        },
    .folds = Folds::kNo,
    .why = "keys and values stay, and the activation stands between the two maps",
    .learning_rate = 2e-3,
    .reduced =
        +[](const MethodTerm& term) {
          MethodTerm stored = term;
          stored.options["mlp"] = "0";
          return stored;
        },
    .phase = MethodPhase::kTokens};

}  // namespace graft
