// RepAdapter (Luo et al. 2023, arXiv 2302.08106): a linear bottleneck with grouped second map in
// front of frozen layers, behind the norm; the residual stream is not touched:
//
//   f(x) = x + s (drop(x A' + bA) G' + bB),   A [r,D] xavier, G block-diagonal of g blocks, zero
//
//   site=attn: q, k, v read f(a);  mlp: fc1 reads f(m)  (BERT: of h0 and h1)
#include "ops/ops.h"
#include "peft/methods/methods.h"
#include "peft/parameters.h"
#include "peft/sites.h"
#include "peft/surgery.h"

namespace graft {
namespace {

struct RepLayer {
  std::string name;  // of the parameters: "blocks.3.attn.rep"
  ValueId product;   // the frozen layer that reads f(x)
};

std::vector<RepLayer> RepLayers(const Graph& g, const std::string& site) {
  std::vector<std::string> targets;
  if (site != "mlp") targets.insert(targets.end(), {"attn.q", "attn.k", "attn.v"});
  if (site != "attn") targets.emplace_back("mlp.fc1");
  std::vector<RepLayer> layers;
  for (ValueId v : BlockLayers(g, targets)) {
    const std::string& scope = g.node(g.value(v).producer).scope;
    layers.push_back({scope.substr(0, scope.rfind('.')) + ".rep", v});
  }
  return layers;
}

// G [D,r] from its blocks [D/g, r/g], one below the other.
ValueId GroupedMap(Graph& g, ValueId blocks, int64_t groups, int64_t r) {
  if (groups == 1) return blocks;
  const int64_t rows = g.shape(blocks)[0].constant / groups, cols = r / groups;
  ValueId all;
  for (int64_t i = 0; i < groups; ++i) {
    const ValueId block =
        g.Add1(kPadCols, {SliceRows(g, blocks, i * rows, rows)}, SliceAttrs{i * cols, r});
    all = all.valid() ? ConcatRows(g, all, block) : block;
  }
  return all;
}

PassReport ApplyRepAdapter(const MethodArgs& a) {
  PassReport report = StartReport(a, "repadapter");
  Graph& g = a.g;
  const int64_t r = a.Int("r", 1, 65536), groups = a.Int("groups", 1, r);
  const double scale = a.Number("scale", -1e6, 1e6), dropout = a.Number("dropout", 0, 0.999999);
  for (const auto& [name, product] : RepLayers(g, a.Choice("site", {"both", "attn", "mlp"}))) {
    const NodeId layer = g.value(product).producer;
    const ValueId x = g.node(layer).in[0];
    const int64_t width = g.shape(x)[1].constant;
    if (width % groups || r % groups)
      FailUsage("option 'groups' = {}: expected a divisor of the width {} and of r = {}", groups,
                width, r);
    const std::string before = g.scope;
    g.scope = name.substr(0, name.rfind('.'));
    const auto param = [&](const char* part, const Extents& shape, const Init& init) {
      return NewParam(a, name + part, shape, init);
    };
    const ValueId down = param("_a", {r, width}, XavierUniform());
    ValueId h = Linear(g, x, down, param("_a_bias", {r}, Zeros()));
    h = DropBranch(a, h, name + ".dropout", dropout);
    const ValueId up = GroupedMap(g, param("_b", {width, r / groups}, Zeros()), groups, r);
    h = Linear(g, h, up, param("_b_bias", {width}, Zeros()));
    // Each layer that reads x has nodes of its own, which folding takes one by one; share_equal
    // makes those of q, k and v one where they run.
    g.SetInput(layer, 0, Add(g, x, Scale(g, h, scale)));
    g.scope = before;
    ++report.rewrites;
  }
  return FinishReport(a, report);
}

int64_t CountRepAdapter(const MethodArgs& a) {
  const int64_t r = a.Int("r", 1, 65536), groups = a.Int("groups", 1, r);
  std::map<std::string, int64_t> widths;
  for (const auto& [name, product] : RepLayers(a.g, a.Text("site")))
    widths[name] = a.g.shape(a.g.node(a.g.value(product).producer).in[0])[1].constant;
  int64_t count = 0;
  for (const auto& [name, d] : widths) count += d * r + r + (r / groups) * d + d;
  return count;
}

}  // namespace

const MethodRecord kRepAdapterMethod{
    .name = "repadapter",
    .summary = "a linear bottleneck in front of frozen layers (Luo et al. 2023)",
    .equation = "x -> x + s (drop(x A' + bA) G' + bB)",
    .formula = "2L (Dr + r + D r/g + D)",
    .source = "Luo et al. 2023, arXiv 2302.08106",
    .options =
        +[] {
          return std::vector<MethodOption>{
              {"r", "8", "width of the bottleneck"},
              {"groups", "2", "g, blocks of the second map"},
              {"scale", "1", "s; the authors search 0.1 to 10"},
              {"dropout", "0", "probability in the bottleneck (the authors': 0.1)"},
              {"site", "both", "attn, mlp, both"}};
        },
    .apply = ApplyRepAdapter,
    .count = CountRepAdapter,
    .folds = Folds::kYes,
    .why = "W (I + s G A), b + s W (G bA + bB)",
    .learning_rate = 1e-3,
    .phase = MethodPhase::kInputs};

}  // namespace graft
