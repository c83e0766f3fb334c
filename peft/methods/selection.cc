// Methods that add nothing and only choose which parameters train.
#include <algorithm>

#include "ops/ops.h"
#include "peft/methods/methods.h"
#include "peft/sites.h"
#include "runtime/dependence.h"

namespace graft {
namespace {

std::vector<MethodOption> NoOptions() { return {}; }

constexpr std::string_view kPlain = "nothing is added: the values are those of the model";

int64_t CountOf(const MethodArgs& a, const std::function<bool(const Graph&, ValueId)>& which) {
  int64_t count = 0;
  for (ValueId p : a.g.Leaves(Role::kParam))
    if (!a.g.value(p).name.starts_with("head.") && which(a.g, p))
      count += At(a.g.shape(p), {}).size();
  return count;
}

bool Every(const Graph&, ValueId) { return true; }

PassReport Select(const MethodArgs& a, const char* name,
                  const std::function<bool(const Graph&, ValueId)>& which) {
  PassReport report{name, 0, a.g.live_nodes(), a.g.live_nodes(), 0};
  report.rewrites = SetTrainable(a.g, which);
  if (report.rewrites == 0) FailUsage("'{}' finds no parameter", name);
  return report;
}

// Whether a parameter belongs to the last k blocks, or to the norm behind them.
std::function<bool(const Graph&, ValueId)> OfLast(const MethodArgs& a) {
  const Graph& g = a.g;
  int64_t depth = 0;
  std::vector<ValueId> in_blocks;
  for (NodeId id : g.TopoOrder()) {
    const Node& n = g.node(id);
    const int64_t block = BlockOf(n.scope);
    depth = std::max(depth, block + 1);
    if (block >= 0) in_blocks.insert(in_blocks.end(), n.out.begin(), n.out.end());
  }
  const int64_t k = a.Int("k", 1, std::max<int64_t>(1, depth));
  return [depth, k, after = DependsOnAny(g, in_blocks)](const Graph& graph, ValueId p) {
    const auto& users = graph.users(p);
    return std::any_of(users.begin(), users.end(), [&](NodeId user) {
      const Node& n = graph.node(user);
      const int64_t block = BlockOf(n.scope);
      const bool final_norm = n.op == &kLayerNorm && block < 0 && after[n.out[0].i];
      return block >= depth - k || final_norm;
    });
  };
}

// A target names a norm by its scope, as targets of other methods name layers.
std::function<bool(const Graph&, ValueId)> OfNorms(const MethodArgs& a) {
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
  return [targets, scope_of](const Graph& g, ValueId p) {
    const std::string scope = scope_of(g, p);
    return !scope.empty() && ScopeMatches(scope, targets);
  };
}

}  // namespace

const MethodRecord kFullMethod{
    .name = "full",
    .summary = "every parameter trains",
    .equation = "W <- W - update",
    .formula = "all",
    .source = "baseline",
    .options = NoOptions,
    .apply = +[](const MethodArgs& a) { return Select(a, "full", Every); },
    .count = +[](const MethodArgs& a) { return CountOf(a, Every); },
    .folds = Folds::kYes,
    .why = kPlain,
    .learning_rate = {3e-4, 1e-4}};

const MethodRecord kLinearProbeMethod{
    .name = "linear",
    .summary = "only the head trains; the backbone's features are computed once",
    .equation = "logits = W_head LN(x)[CLS] + b",
    .formula = "(D + 1) K",
    .source = "baseline",
    .options = NoOptions,
    .apply =
        +[](const MethodArgs& a) {
          return PassReport{"linear", 0, a.g.live_nodes(), a.g.live_nodes(), 0};
        },
    .count = +[](const MethodArgs&) -> int64_t { return 0; },
    .folds = Folds::kYes,
    .why = kPlain,
    .learning_rate = 1e-2};

const MethodRecord kLnMethod{
    .name = "ln",
    .summary = "gains and biases of every layer norm",
    .equation = "y = gain * norm(x) + bias",
    .formula = "L 4D + 2D",
    .source = "baseline",
    .options =
        +[] {
          return std::vector<MethodOption>{
              {"targets", "*", "norms: norm, norm1, norm2, blocks.N. before, * allowed"}};
        },
    .apply = +[](const MethodArgs& a) { return Select(a, "ln", OfNorms(a)); },
    .count = +[](const MethodArgs& a) { return CountOf(a, OfNorms(a)); },
    .folds = Folds::kYes,
    .why = kPlain,
    .learning_rate = {1e-2, 3e-3},
    .peft = "LN_TUNING; beside LORA its modules_to_save"};

const MethodRecord kBitFitMethod{
    .name = "bitfit",
    .summary = "every bias, those of layer norms too (Ben Zaken et al. 2021)",
    .equation = "y = W x + b, b trains",
    .formula = "L (7D + M) + 2D for a ViT",
    .source = "Ben Zaken et al. 2021, arXiv 2106.10199",
    .options = NoOptions,
    .apply = +[](const MethodArgs& a) { return Select(a, "bitfit", IsBias); },
    .count = +[](const MethodArgs& a) { return CountOf(a, IsBias); },
    .folds = Folds::kYes,
    .why = kPlain,
    .learning_rate = {1e-2, 2e-3},
    .peft = "LORA with bias=all; alone beside one of rank 1 that is zero"};

const MethodRecord kLastMethod{
    .name = "last",
    .summary = "the last k blocks and the final norm",
    .equation = "as full, for blocks >= L - k",
    .formula = "k (12 D^2 + 13 D) + 2D with M = 4D",
    .source = "partial-k of the VPT paper, arXiv 2203.12119",
    .options =
        +[] {
          return std::vector<MethodOption>{{"k", "2", "how many blocks, from the end"}};
        },
    .apply = +[](const MethodArgs& a) { return Select(a, "last", OfLast(a)); },
    .count = +[](const MethodArgs& a) { return CountOf(a, OfLast(a)); },
    .folds = Folds::kYes,
    .why = kPlain,
    .learning_rate = {1e-3, 1e-4}};

}  // namespace graft
