// Methods that add nothing and only choose which parameters train.
#include <algorithm>
#include <charconv>

#include "ops/ops.h"
#include "peft/methods.h"
#include "runtime/dependence.h"

namespace graft {
namespace {

std::vector<MethodOption> NoOptions() { return {}; }

PassReport Select(const MethodArgs& a, const char* name,
                  const std::function<bool(const Graph&, ValueId)>& which) {
  PassReport report{name, 0, a.g.live_nodes(), a.g.live_nodes(), 0};
  report.rewrites = SetTrainable(a.g, which);
  if (report.rewrites == 0) FailUsage("'{}' finds no parameter", name);
  return report;
}

// The number N of a scope "blocks.N. ...", or -1.
int64_t BlockOf(const std::string& scope) {
  int64_t block = -1;
  if (scope.starts_with("blocks."))
    std::from_chars(scope.data() + 7, scope.data() + scope.size(), block);
  return block;
}

PassReport ApplyLast(const MethodArgs& a) {
  const Graph& g = a.g;
  int64_t depth = 0;
  std::vector<ValueId> in_blocks;
  for (NodeId id : g.TopoOrder()) {
    const Node& n = g.node(id);
    const int64_t block = BlockOf(n.scope);
    depth = std::max(depth, block + 1);
    if (block >= 0) in_blocks.insert(in_blocks.end(), n.out.begin(), n.out.end());
  }
  const std::vector<bool> after = DependsOnAny(g, in_blocks);
  const int64_t k = a.Int("k", 1, std::max<int64_t>(1, depth));
  return Select(a, "last", [&](const Graph& graph, ValueId p) {
    const auto& users = graph.users(p);
    return std::any_of(users.begin(), users.end(), [&](NodeId user) {
      const Node& n = graph.node(user);
      const int64_t block = BlockOf(n.scope);
      const bool final_norm = n.op == &kLayerNorm && block < 0 && after[n.out[0].i];
      return block >= depth - k || final_norm;
    });
  });
}

// A norm is named as a target of other methods is, by its scope.
PassReport ApplyLn(const MethodArgs& a) {
  const std::vector<std::string> targets = a.List("targets");
  auto scope_of = [](const Graph& g, ValueId p) -> std::string {
    if (!ReadAs(g, p, kLayerNorm, 1) && !ReadAs(g, p, kLayerNorm, 2)) return "";
    return g.value(p).name.substr(0, g.value(p).name.rfind('.'));
  };
  std::vector<std::string> norms;
  for (ValueId p : a.g.Leaves(Role::kParam))
    if (std::string scope = scope_of(a.g, p); !scope.empty()) norms.push_back(std::move(scope));
  for (const std::string& target : targets)
    if (std::none_of(norms.begin(), norms.end(),
                     [&](const std::string& norm) { return ScopeMatches(norm, {target}); }))
      FailUsage("target '{}' matches no layer norm{}", target, DidYouMean(target, norms));
  return Select(a, "ln", [&](const Graph& g, ValueId p) {
    const std::string scope = scope_of(g, p);
    return !scope.empty() && ScopeMatches(scope, targets);
  });
}

}  // namespace

bool IsBias(const Graph& g, ValueId p) {
  if (ReadAs(g, p, kLayerNorm, 2)) return true;
  for (NodeId user : g.users(p)) {
    const Node& n = g.node(user);
    if (n.op != &kAdd || n.in[1] != p || g.shape(p).size() != 1) continue;
    const NodeId producer = g.value(n.in[0]).producer;
    if (producer.valid()) return true;  // also behind branches that other methods have added
  }
  return false;
}

const MethodRecord kFullMethod{.name = "full",
                               .summary = "every parameter trains",
                               .equation = "W <- W - update",
                               .count = "all",
                               .source = "baseline",
                               .options = NoOptions,
                               .apply =
                                   +[](const MethodArgs& a) {
                                     return Select(a, "full",
                                                   [](const Graph&, ValueId) { return true; });
                                   },
                               .foldable = true,
                               .learning_rate = 1e-4};

const MethodRecord kLinearProbeMethod{
    .name = "linear",
    .summary = "only the head trains; the backbone's features are computed once",
    .equation = "logits = W_head LN(x)[CLS] + b",
    .count = "(D + 1) K",
    .source = "baseline",
    .options = NoOptions,
    .apply =
        +[](const MethodArgs& a) {
          return PassReport{"linear", 0, a.g.live_nodes(), a.g.live_nodes(), 0};
        },
    .foldable = true,
    .learning_rate = 1e-2};

const MethodRecord kLnMethod{
    .name = "ln",
    .summary = "gains and biases of every layer norm",
    .equation = "y = gain * norm(x) + bias",
    .count = "L 4D + 2D",
    .source = "baseline",
    .options =
        +[] {
          return std::vector<MethodOption>{
              {"targets", "*", "norms: norm, norm1, norm2, blocks.N. before, * allowed"}};
        },
    .apply = ApplyLn,
    .foldable = true,
    .learning_rate = 1e-3};

const MethodRecord kBitFitMethod{
    .name = "bitfit",
    .summary = "every bias, those of layer norms too (Ben Zaken et al. 2021)",
    .equation = "y = W x + b, b trains",
    .count = "L (7D + M) + 2D for a ViT",
    .source = "Ben Zaken et al. 2021, arXiv 2106.10199",
    .options = NoOptions,
    .apply = +[](const MethodArgs& a) { return Select(a, "bitfit", IsBias); },
    .foldable = true,
    .learning_rate = 2e-3};

const MethodRecord kLastMethod{
    .name = "last",
    .summary = "the last k blocks and the final norm",
    .equation = "as full, for blocks >= L - k",
    .count = "k (12 D^2 + 13 D) + 2D with M = 4D",
    .source = "partial-k of the VPT paper, arXiv 2203.12119",
    .options =
        +[] {
          return std::vector<MethodOption>{{"k", "2", "how many blocks, from the end"}};
        },
    .apply = ApplyLast,
    .foldable = true,
    .learning_rate = 1e-4};

}  // namespace graft
