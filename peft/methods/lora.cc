// LoRA (Hu et al. 2021, arXiv 2106.09685):
//
//   y = x W' + s (drop(x) A') B',   A [r,in] ~ U(-1/sqrt(in), 1/sqrt(in)),  B [out,r] = 0,
//   s = alpha / r, or alpha / sqrt(r) with rslora.
//
// With fused=true q, k and v of a block are the layer of 3D outputs that they are in a ViT's file:
// they share A, and B [3D,r] has rows for each (as in NOAH, Zhang et al. 2022).
//
// Several terms with disjoint targets give layers ranks and scales of their own.
#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "ops/ops.h"
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
  bool fused = false;
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
  c.fused = a.Flag("fused");
  c.bias = a.Choice("bias", {"none", "lora_only", "all"});
  return c;
}

// Which factors a layer has: its own, or rows of those that q, k and v share.
struct LoraPart {
  std::string scope;
  int64_t begin = 0, all = 0;  // its first row of B, and B's rows
};
LoraPart PartOf(const LoraConfig& c, const std::string& scope, int64_t out) {
  constexpr std::array kThree{"attn.q", "attn.k", "attn.v"};
  for (size_t i = 0; c.fused && i < kThree.size(); ++i)
    if (scope.ends_with(kThree[i]))
      return {scope.substr(0, scope.size() - 1) + "qkv", static_cast<int64_t>(i) * out, 3 * out};
  return {scope, 0, out};
}

// The input of a branch under dropout. The mask is keyed by the layer's scope, so that q and v of
// one block drop different elements of their common input, as separate nn.Dropout modules do.
ValueId Dropped(RowSets& rows, uint64_t seed, ValueId x, const std::string& scope, double p) {
  if (p <= 0) return x;
  return rows.Drop(x, {p, false, static_cast<int64_t>(seed), scope + ".dropout"});
}

// Refuses to fuse unless q, k and v are all there.
void CheckFused(const LoraConfig& c, const std::string& scope) {
  if (!c.fused ||
      !(scope.ends_with("attn.q") || scope.ends_with("attn.k") || scope.ends_with("attn.v")))
    return;
  const std::string block = scope.substr(0, scope.size() - 1);
  for (const char* other : {"q", "k", "v"})
    if (!c.Means(block + other))
      FailUsage("option 'fused': {} is a target and {}{} is not; expected q, k and v of a block",
                scope, block, other);
}

// Refuses a second branch on a layer, as the two would share the names of their factors.
void CheckNoBranchYet(const Graph& g, const LoraConfig& c) {
  for (ValueId v : g.Leaves(Role::kIntermediate)) {
    if (!IsSite(g, v)) continue;
    const std::string& scope = g.node(g.value(v).producer).scope;
    if (!c.Means(scope)) continue;
    CheckFused(c, scope);
    CheckNotTwice(g, scope + ".lora_a", "lora");
    CheckNotTwice(
        g,
        PartOf({.fused = true, .bias = "", .targets = {}, .in_blocks = c.in_blocks}, scope, 0)
                .scope +
            ".lora_a",
        "lora");
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
  // x W' becomes x W' + s (drop(x) A') B'.
  const Rule branch{
      "branch", site, [&](Graph& g, const Match& m) {
        const std::string scope = g.scope;
        biases.insert(scope + ".bias");
        const Extents w = At(g.shape(m["w"]), {});
        const LoraPart part = PartOf(c, scope, w[0]);
        const ValueId down = NewParam(a, part.scope + ".lora_a", {c.rank, w[1]}, KaimingUniform());
        ValueId up = NewParam(a, part.scope + ".lora_b", {part.all, c.rank}, Zeros());
        if (part.all != w[0]) up = SliceRows(g, up, part.begin, w[0]);
        const ValueId x = Dropped(rows, a.seed, m["x"], part.scope, c.dropout);
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
    const LoraPart part = PartOf(c, n.scope, w[0].constant);
    if (part.begin == 0) count += c.rank * (part.all + w[1].constant);
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
    if (!IsSite(a.g, n.out[0]) || !c.Means(n.scope)) continue;
    CheckFused(c, n.scope);
    const std::string name = PartOf(c, n.scope, 0).scope;
    const auto same = std::ranges::find(sites, name, &MethodSite::name);
    if (same == sites.end())
      sites.push_back({name, "targets", n.scope});
    else
      same->value += "|" + n.scope;
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
              {"fused", "false", "q, k and v of a block share A, as one layer of 3D outputs"},
              kBlocksOption};
        },
    .apply = ApplyLora,
    .count = CountLora,
    .folds = Folds::kYes,
    .why = "W + s B A",
    .learning_rate = 2e-3,
    .repeats = true,
    .sites = LoraSites,
    .peft = "LORA"};

}  // namespace graft
