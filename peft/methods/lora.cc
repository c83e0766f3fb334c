// LoRA (Hu et al. 2021, arXiv 2106.09685):
//
//   y = x W' + s (drop(x) A') B',   A [r,in] ~ U(-1/sqrt(in), 1/sqrt(in)),  B [out,r] = 0,
//   s = alpha / r, or alpha / sqrt(r) with rslora.
//
// Several terms with disjoint targets give layers ranks and scales of their own.
#include <algorithm>
#include <cmath>
#include <set>

#include "ops/row_sets.h"
#include "peft/blocks.h"
#include "peft/methods/methods.h"
#include "peft/parameters.h"
#include "peft/sites.h"

namespace graft {
namespace {

struct LoraConfig {
  int64_t rank = 8;
  double scale = 1, dropout = 0;
  std::string bias;  // none | lora_only | all
  std::vector<std::string> targets;
  BlockFilter in_blocks;

  bool Means(const std::string& scope) const {
    return in_blocks(scope) && ScopeMatches(scope, targets);
  }
};

LoraConfig ReadConfig(const MethodArgs& a) {
  LoraConfig c{.bias = "", .targets = {}, .in_blocks = BlockFilter(a)};
  c.rank = a.Int("r", 1, 65536);
  const double alpha =
      a.Text("alpha") == "r" ? static_cast<double>(c.rank) : a.Number("alpha", 0, 1e6);
  const double r = static_cast<double>(c.rank);
  c.scale = a.Flag("rslora") ? alpha / std::sqrt(r) : alpha / r;
  c.dropout = a.Number("dropout", 0, 0.999999);
  c.targets = a.List("targets");
  c.bias = a.Choice("bias", {"none", "lora_only", "all"});
  return c;
}

// The input of a branch under dropout. The mask is keyed by the layer's scope, so that q and v of
// one block drop different elements of their common input, as separate nn.Dropout modules do.
ValueId Dropped(RowSets& rows, uint64_t seed, ValueId x, const std::string& scope, double p) {
  if (p <= 0) return x;
  return rows.Drop(x, {p, false, static_cast<int64_t>(seed), scope + ".dropout"});
}

// A layer has one branch: two of them would share the names of their factors.
void CheckNoBranchYet(const Graph& g, const LoraConfig& c) {
  for (ValueId v : g.Leaves(Role::kIntermediate)) {
    if (!IsSite(g, v)) continue;
    const std::string& scope = g.node(g.value(v).producer).scope;
    if (c.Means(scope)) CheckNotTwice(g, scope + ".lora_a", "lora");
  }
}

PassReport ApplyLora(const MethodArgs& a) {
  const LoraConfig c = ReadConfig(a);
  CheckTargets(a.g, c.targets);
  CheckNoBranchYet(a.g, c);
  const Pat site = Op(kMatmul, {Any("x"), Any("w")}).If([&](const Graph& g, ValueId v) {
    return IsSite(g, v) && c.Means(g.node(g.value(v).producer).scope);
  });
  std::set<std::string> biases;  // of the layers that get a branch
  RowSets rows(a.g);
  // x W'  ->  x W' + s (drop(x) A') B'
  const Rule branch{
      "branch", site, [&](Graph& g, const Match& m) {
        const std::string scope = g.scope;
        biases.insert(scope + ".bias");
        const Extents w = At(g.shape(m["w"]), {});
        const ValueId down = NewParam(a, scope + ".lora_a", {c.rank, w[1]}, KaimingUniform());
        const ValueId up = NewParam(a, scope + ".lora_b", {w[0], c.rank}, Zeros());
        const ValueId x = Dropped(rows, a.seed, m["x"], scope, c.dropout);
        const ValueId delta = Matmul(g, Matmul(g, x, down, false, true), up, false, true);
        return Add(g, m.root, Scale(g, delta, c.scale));
      }};
  PassReport report = Rewrite(a.g, "lora", {&branch, 1});
  if (c.bias == "lora_only")
    SetTrainable(a.g, [&](const Graph& g, ValueId p) { return biases.contains(g.value(p).name); });
  if (c.bias == "all") SetTrainable(a.g, IsBias);
  return report;
}

int64_t CountLora(const MethodArgs& a) {
  const LoraConfig c = ReadConfig(a);
  int64_t count = 0;
  std::set<ValueId> biases;
  for (ValueId v : a.g.Leaves(Role::kIntermediate)) {
    if (!IsSite(a.g, v)) continue;
    const Node& n = a.g.node(a.g.value(v).producer);
    if (!c.Means(n.scope)) continue;
    const Shape& w = a.g.shape(n.in[1]);
    count += c.rank * (w[0].constant + w[1].constant);
    if (const ValueId b = a.g.FindLeaf(n.scope + ".bias"); b.valid()) biases.insert(b);
  }
  for (ValueId p : a.g.Leaves(Role::kParam))
    if (!a.g.value(p).name.starts_with("head.") &&
        ((c.bias == "all" && IsBias(a.g, p)) || (c.bias == "lora_only" && biases.contains(p))))
      count += a.g.shape(p)[0].constant;
  return count;
}

std::vector<MethodSite> LoraSites(const MethodArgs& a) {
  const LoraConfig c = ReadConfig(a);
  CheckTargets(a.g, c.targets);
  std::vector<MethodSite> sites;
  for (NodeId id : a.g.TopoOrder()) {
    const Node& n = a.g.node(id);
    if (IsSite(a.g, n.out[0]) && c.Means(n.scope)) sites.push_back({n.scope, "targets", n.scope});
  }
  return sites;
}

}  // namespace

const MethodRecord kLoraMethod{
    .name = "lora",
    .summary = "a low-rank branch beside each target layer (Hu et al. 2021)",
    .equation = "y = x W' + s (drop(x) A') B', s = alpha/r",
    .formula = "r (in + out) per target",
    .source = "Hu et al. 2021, arXiv 2106.09685",
    .options =
        +[] {
          return std::vector<MethodOption>{
              {"r", "8", "rank"},
              {"alpha", "r", "scale is alpha/r; 'r' makes it 1"},
              {"dropout", "0", "probability on the branch's input"},
              {"targets", "attn.q|attn.v",
               "layers: attn.{q,k,v,o}, mlp.{fc1,fc2}, blocks.N. before, * allowed"},
              {"rslora", "false", "scale alpha/sqrt(r)"},
              {"bias", "none", "biases that train too: none, lora_only (of the targets), all"},
              kBlocksOption};
        },
    .apply = ApplyLora,
    .count = CountLora,
    .folds = Folds::kYes,
    .why = "W + s B A",
    .learning_rate = 1e-3,
    .repeats = true,
    .sites = LoraSites};

}  // namespace graft
