// Parallel adapters (He et al. 2022, arXiv 2110.04366):
//
//   site=ffn:   added with the MLP's branch, reads the stream in front of it (x1; BERT: h1)
//   site=attn:  added to the context c in front of Wo, reads what attention reads (a; BERT: h0)
//   f(x) = s (drop(act(x Wd' + bd)) Wu' + bu),   Wd ~ U(+-1/sqrt(D)), all others 0
#include "peft/methods/parallel.h"

#include "ops/ops.h"
#include "peft/blocks.h"
#include "peft/methods/methods.h"

namespace graft {

void AddParallelMlp(const MethodArgs& a, const BlockSite& block) {
  const Join join = FindJoin(a.g, block, Branch::kMlp);
  BottleneckShape shape = BottleneckOf(a, join.scope + ".parallel");
  shape.out = a.g.shape(join.branch)[1].constant;
  const ValueId f = Bottleneck(a, join.stream, shape);
  AddToBranch(a.g, join, Scaled(a, f, shape.name, "scale"));
}

void AddParallelAttention(const MethodArgs& a, const BlockSite& block) {
  const std::string scope = fmt::format("blocks.{}.attn", block.number);
  const ValueId context = FindEdge(a.g, fmt::format("blocks.{}.c", block.number));
  const ValueId input = AttentionInput(a.g, block);
  if (!context.valid()) FailUsage("block {} has no attention output", block.number);
  const UserList users = a.g.users(context);
  BottleneckShape shape = BottleneckOf(a, scope + ".parallel");
  shape.out = a.g.shape(context)[1].constant;
  const ValueId f = Scaled(a, Bottleneck(a, input, shape), shape.name, "scale");
  const std::string before = a.g.scope, name = a.g.value(context).name;
  a.g.scope = scope;
  const ValueId sum = Add(a.g, context, f);
  a.g.SetName(context, ""), a.g.SetName(sum, name);
  a.g.ReplaceUsesIn(context, sum, users);
  a.g.scope = before;
}

namespace {

PassReport ApplyParallel(const MethodArgs& a) {
  PassReport report = StartReport(a, "parallel");
  const std::string site = a.Choice("site", {"ffn", "attn"});
  for (const BlockSite& block : ChosenBlocks(a)) {
    if (site == "ffn")
      AddParallelMlp(a, block);
    else
      AddParallelAttention(a, block);
    ++report.rewrites;
  }
  return FinishReport(a, report);
}

}  // namespace

const MethodRecord kParallelMethod{
    .name = "parallel",
    .summary = "a bottleneck beside the MLP or attention (He et al. 2022)",
    .equation = "branch -> branch + s (drop(act(x Wd' + bd)) Wu' + bu)",
    .formula = "L (2Dr + r + D)",
    .source = "He et al. 2022, arXiv 2110.04366",
    .options =
        +[] {
          return std::vector<MethodOption>{
              {"r", "8", "width of the bottleneck"},
              {"site", "ffn", "ffn, or attn: in front of the attention's output layer"},
              {"scale", "1", "s: a number (the authors': 2 to 4), or 'learned' from 1"},
              {"act", "relu", "relu, gelu, gelu_tanh, quick_gelu, silu, tanh, sigmoid, none"},
              {"dropout", "0", "probability behind the activation"},
              kBlocksOption};
        },
    .apply = ApplyParallel,
    .count = +[](const MethodArgs& a) { return BottleneckCountAt(a, std::ssize(ChosenBlocks(a))); },
    .folds = Folds::kNo,
    .why = "it goes around a whole sub-layer (and the activation stands between the two maps)",
    .learning_rate = 3e-3,
    .phase = MethodPhase::kBranches,
    .repeats = true,
    .sites = SitesByBlock};

}  // namespace graft
