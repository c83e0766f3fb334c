// AdaptFormer (Chen et al. 2022, arXiv 2205.13535): a bottleneck beside each MLP, which reads the
// stream in front of the MLP's norm and is added with the MLP's branch,
//
//   y = x1 + u + s (drop(act(x1 Wd' + bd)) Wu' + bu),   Wd ~ U(+-1/sqrt(D)), all others 0
//
// In a BERT: h2 = LN2(h1 + u + s f(h1)).
#include "ops/ops.h"
#include "peft/blocks.h"
#include "peft/bottleneck.h"
#include "peft/methods/methods.h"

namespace graft {
namespace {

PassReport ApplyAdaptFormer(const MethodArgs& a) {
  PassReport report = StartReport(a, "adaptformer");
  for (const BlockSite& block : ChosenBlocks(a)) {
    const Join join = FindJoin(a.g, block, Branch::kMlp);
    BottleneckShape shape = BottleneckOf(a, join.scope + ".adaptformer");
    CheckNotTwice(a.g, shape.name + "_down", "adaptformer");
    shape.out = a.g.shape(join.branch)[1].constant;
    const ValueId f = Bottleneck(a, join.stream, shape);
    AddToBranch(a.g, join, Scaled(a, f, shape.name, "scale"));
    ++report.rewrites;
  }
  return FinishReport(a, report);
}

}  // namespace

const MethodRecord kAdaptFormerMethod{
    .name = "adaptformer",
    .summary = "a bottleneck beside each MLP (Chen et al. 2022)",
    .equation = "y = x1 + u + s (drop(act(x1 Wd' + bd)) Wu' + bu)",
    .formula = "L (2Dr + r + D)",
    .source = "Chen et al. 2022, arXiv 2205.13535",
    .options =
        +[] {
          return std::vector<MethodOption>{
              {"r", "8", "width of the bottleneck (the authors' own: 64)"},
              {"scale", "0.1", "s: a number, or 'learned' from 1"},
              {"act", "relu", "relu, gelu, gelu_tanh, quick_gelu, silu, tanh, sigmoid, none"},
              {"dropout", "0", "probability behind the activation (the authors' own: 0.1)"},
              kBlocksOption};
        },
    .apply = ApplyAdaptFormer,
    .count = +[](const MethodArgs& a) { return BottleneckCountAt(a, std::ssize(ChosenBlocks(a))); },
    .folds = Folds::kNo,
    .why = "it goes around the MLP's norm (and the activation stands between the two maps)",
    .learning_rate = 3e-3,
    .phase = MethodPhase::kBranches,
    .repeats = true,
    .sites = SitesByBlock};

}  // namespace graft
