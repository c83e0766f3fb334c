// One adapter a block, behind the MLP (Pfeiffer et al. 2021, arXiv 2005.00247), as the adapters
// library places it:
//
//   pre-norm:   y  = x2 + s f(x2),             x2 = x1 + u
//   post-norm:  h2 = LN2(h1 + u + s f(t)),     t = LN2(h1 + u), the same norm twice
//
// f(z) = act(z Wd' + bd) Wu' + bu with Wd, Wu ~ N(0, 0.02^2), biases 0.
#include "ops/ops.h"
#include "peft/blocks.h"
#include "peft/bottleneck.h"
#include "peft/methods/methods.h"
#include "peft/surgery.h"

namespace graft {
namespace {

PassReport ApplyPfeiffer(const MethodArgs& a) {
  PassReport report = StartReport(a, "pfeiffer");
  Graph& g = a.g;
  for (const BlockSite& block : ChosenBlocks(a)) {
    const Join join = FindJoin(g, block, Branch::kMlp);
    const ValueId sum = g.node(join.sum).out[0], out = block.output;
    const UserList users = g.users(out);
    BottleneckShape shape = BottleneckOf(a, join.scope + ".pfeiffer");
    CheckNotTwice(g, shape.name + "_down", "pfeiffer");
    shape.out = g.shape(sum)[1].constant;
    shape.down = shape.up = Normals(0, 0.02);
    const ValueId f = Scaled(a, Bottleneck(a, out, shape), shape.name, "scale");
    const std::string before = g.scope;
    g.scope = join.scope;
    const ValueId adapted = CloneWith(g, out, {{sum, Add(g, sum, f)}}, CloneAs::kRows);
    if (out != sum) g.SetName(out, "");  // the norm's name is the second's
    g.ReplaceUsesIn(out, adapted, users);
    g.ReplaceResult(out, adapted);
    g.scope = before;
    ++report.rewrites;
  }
  if (a.Flag("ln")) TrainNorms(g);
  return FinishReport(a, report);
}

}  // namespace

const MethodRecord kPfeifferMethod{
    .name = "pfeiffer",
    .summary = "a bottleneck behind each MLP (Pfeiffer et al. 2021)",
    .equation = "x2 -> x2 + s (act(x2 Wd' + bd) Wu' + bu)",
    .formula = "L (2Dr + r + D), with ln=true L 4D + 2D more",
    .source = "Pfeiffer et al. 2021, arXiv 2005.00247",
    .options =
        +[] {
          return std::vector<MethodOption>{
              {"r", "8", "width of the bottleneck"},
              {"act", "relu", "relu, gelu, gelu_tanh, quick_gelu, silu, tanh, sigmoid, none"},
              {"scale", "1", "s: a number, or 'learned' from 1"},
              {"ln", "false", "every layer norm trains too"},
              kBlocksOption};
        },
    .apply = ApplyPfeiffer,
    .count =
        +[](const MethodArgs& a) {
          return BottleneckCountAt(a, std::ssize(ChosenBlocks(a))) +
                 (a.Flag("ln") ? NormCount(a.g) : 0);
        },
    .folds = Folds::kNo,
    .why = "it goes around the residual sum (and the activation stands between the two maps)",
    .learning_rate = 3e-3,
    .phase = MethodPhase::kBranches,
    .repeats = true,
    .sites = SitesByBlock};

}  // namespace graft
