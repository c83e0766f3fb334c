// One adapter a block, behind the MLP (Pfeiffer et al. 2021, arXiv 2005.00247), as the adapters
// library places it:
//
//   pre-norm:   y  = x2 + s f(x2),             x2 = x1 + u
//   post-norm:  h2 = LN2(h1 + u + s f(t)),     t = LN2(h1 + u), the same norm twice
//
// f(z) = act(z Wd' + bd) Wu' + bu with Wd, Wu ~ N(0, 0.02^2), biases 0.
#include "ops/ops.h"
#include "peft/bottleneck.h"
#include "peft/methods/methods.h"

namespace graft {
namespace {

// What the adapter reads: the sum behind the MLP, and where a norm follows it at once, the norm.
ValueId InputOf(Graph& g, const Join& join) {
  const ValueId sum = g.node(join.sum).out[0];
  if (!g.value(sum).name.ends_with(".sum2")) return sum;
  for (NodeId user : g.users(sum)) {
    const Node n = g.node(user);
    if (n.op == &kLayerNorm) return g.Add(kLayerNorm, n.in, n.attrs, n.built_at)[0];
  }
  FailUsage("no layer norm follows the MLP");
}

PassReport ApplyPfeiffer(const MethodArgs& a) {
  PassReport report = StartReport(a, "pfeiffer");
  for (const BlockSite& block : FindBlocks(a.g)) {
    const Join join = FindJoin(a.g, block, Branch::kMlp);
    const ValueId sum = a.g.node(join.sum).out[0];
    const std::vector<NodeId> users = a.g.users(sum);
    const std::string before = a.g.scope;
    a.g.scope = join.scope;
    const ValueId input = InputOf(a.g, join);
    BottleneckShape shape = BottleneckOf(a, join.scope + ".pfeiffer");
    shape.out = a.g.shape(sum)[1].constant;
    shape.down = shape.up = Normals(0, 0.02);
    const ValueId f = Scaled(a, Bottleneck(a, input, shape), shape.name, "scale");
    const ValueId adapted = Add(a.g, sum, f);
    a.g.ReplaceUsesIn(sum, adapted, users);
    a.g.ReplaceResult(sum, adapted);
    a.g.scope = before;
    ++report.rewrites;
  }
  if (a.Flag("ln")) TrainNorms(a.g);
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
              {"act", "relu", "relu, gelu, gelu_tanh, silu, tanh, sigmoid, none"},
              {"scale", "1", "s: a number, or 'learned' from 1"},
              {"ln", "false", "every layer norm trains too"}};
        },
    .apply = ApplyPfeiffer,
    .count =
        +[](const MethodArgs& a) {
          const HostShape h = ShapeOf(a.g);
          const int64_t scale = a.Text("scale") == "learned";
          return h.depth * (BottleneckCount(h.width, h.width, a.Int("r", 1, 65536)) + scale) +
                 (a.Flag("ln") ? NormCount(a.g) : 0);
        },
    .folds = Folds::kNo,
    .why = "the activation stands between the two maps",
    .learning_rate = 1e-3};

}  // namespace graft
