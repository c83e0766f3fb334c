// Adapters behind both branches of every block (Houlsby et al. 2019, arXiv 1902.00751):
//
//   branch -> z + s f(z),   z the branch behind its dropout, before it is added to the stream,
//   f(z) = act(z Wd' + bd) Wu' + bu,   Wd, Wu ~ N(0, 0.01^2) within two deviations, biases 0
//
// The original trains every layer norm, too (ln=true).
#include "ops/ops.h"
#include "peft/blocks.h"
#include "peft/bottleneck.h"
#include "peft/methods/methods.h"

namespace graft {
namespace {

Init NearZero() {
  return [](std::span<float> values, const Extents&, const StreamKey& key) {
    FillTruncNormal(values, key, 0, 0.01, -0.02, 0.02);
  };
}

std::vector<Branch> BranchesOf(const MethodArgs& a) {
  const std::string site = a.Choice("site", {"both", "attn", "mlp"});
  if (site == "both") return {Branch::kAttention, Branch::kMlp};
  return {site == "attn" ? Branch::kAttention : Branch::kMlp};
}

PassReport ApplyHoulsby(const MethodArgs& a) {
  PassReport report = StartReport(a, "houlsby");
  for (const BlockSite& block : ChosenBlocks(a))
    for (const Branch which : BranchesOf(a)) {
      const Join join = FindJoin(a.g, block, which);
      BottleneckShape shape = BottleneckOf(a, join.scope + ".houlsby");
      CheckNotTwice(a.g, shape.name + "_down", "houlsby");
      shape.out = a.g.shape(join.branch)[1].constant;
      shape.down = shape.up = NearZero();
      const ValueId f = Bottleneck(a, join.branch, shape);
      AddToBranch(a.g, join, Scaled(a, f, shape.name, "scale"));
      ++report.rewrites;
    }
  if (a.Flag("ln")) TrainNorms(a.g);
  return FinishReport(a, report);
}

}  // namespace

const MethodRecord kHoulsbyMethod{
    .name = "houlsby",
    .summary = "a bottleneck behind attention and one behind the MLP (Houlsby et al. 2019)",
    .equation = "branch -> z + s (act(z Wd' + bd) Wu' + bu)",
    .formula = "2L (2Dr + r + D), with ln=true L 4D + 2D more; of one site L",
    .source = "Houlsby et al. 2019, arXiv 1902.00751",
    .options =
        +[] {
          return std::vector<MethodOption>{
              {"r", "8", "width of the bottleneck"},
              {"act", "gelu",
               "relu, gelu, gelu_tanh (the original), quick_gelu, silu, tanh, sigmoid, none"},
              {"scale", "1", "s: a number, or 'learned' from 1"},
              {"ln", "false", "every layer norm trains too"},
              {"site", "both", "attn, mlp, both"},
              {"dropout", "0", "probability behind the activation"},
              kBlocksOption};
        },
    .apply = ApplyHoulsby,
    .count =
        +[](const MethodArgs& a) {
          const int64_t places = std::ssize(ChosenBlocks(a)) * std::ssize(BranchesOf(a));
          return BottleneckCountAt(a, places) + (a.Flag("ln") ? NormCount(a.g) : 0);
        },
    .folds = Folds::kNo,
    .why = "the activation stands between the two maps",
    .learning_rate = 3e-3,
    .phase = MethodPhase::kBranches,
    .repeats = true,
    .sites = SitesByBlock};

}  // namespace graft
