// NF4 (QLoRA: Dettmers et al. 2023, arXiv 2305.14314): the frozen weights of dense layers in 4 bits
// a value, with doubly quantised scales (ops/nf4.h), beside a method that trains:
//
//   y = x dequant(W)' + b
//
// A product dequantises its weight by tiles, forward and backward; the weight has no gradient. What
// merging gives is dequant(W) and the branch, exactly: another model than the original weight with
// the branch. The codes are made again from the base whenever a run or an adapter is opened.
#include "ops/nf4.h"
#include "peft/methods/methods.h"
#include "peft/sites.h"

namespace graft {
namespace {

PassReport ApplyNf4(const MethodArgs& a) {
  PassReport report = StartReport(a, "nf4");
  const int64_t block = a.Int("block", kNf4LeastBlock, kNf4MostBlock);
  if (block & (block - 1)) FailUsage("option 'block' = {}: expected a power of two", block);
  for (ValueId product : BlockLayers(a.g, a.List("targets"))) {
    const Node layer = a.g.node(a.g.value(product).producer);
    const ValueId weight = layer.in[1];
    if (a.g.value(weight).role != Role::kParam) FailUsage("{} has no weight", layer.scope);
    const Extents shape = At(a.g.shape(weight), {});
    const Nf4Attrs format{shape[0], shape[1], block, a.Flag("double")};
    const std::string name = a.g.value(weight).name, before = a.g.scope;
    QuantizeParam(a.params, name, format);
    a.g.scope = layer.scope;
    a.g.ReplaceUses(weight, Nf4Weight(a.g, name, format));
    a.g.scope = before;
    ++report.rewrites;
  }
  return FinishReport(a, report);
}

}  // namespace

const MethodRecord kNf4Method{
    .name = "nf4",
    .summary = "frozen weights in 4 bits, beside another method (QLoRA, Dettmers et al. 2023)",
    .equation = "y = x dequant(W)' + b",
    .formula = "0",
    .source = "Dettmers et al. 2023, arXiv 2305.14314",
    .options =
        +[] {
          return std::vector<MethodOption>{
              {"block", "64", "values that share a scale"},
              {"double", "true", "scales are quantised, too: 4.127 bits a value instead of 4.5"},
              {"targets", "*", "layers of blocks"}};
        },
    .apply = ApplyNf4,
    .count = +[](const MethodArgs&) -> int64_t { return 0; },
    .folds = Folds::kYes,
    .why = "dequant(W), in the type that is written",
    .learning_rate = 1e-2,
    .phase = MethodPhase::kQuantise};

}  // namespace graft
