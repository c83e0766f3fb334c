// SSF (Lian et al. 2022, arXiv 2210.08823): a scale and a shift of every channel behind every
// dense layer and every layer norm of the backbone,
//
//   z -> scale * z + shift,   scale ~ N(1, 0.02^2),  shift ~ N(0, 0.02^2)
//
// In a BERT what a layer norm gives is the residual stream too, which is scaled with it.
#include <map>

#include "ops/ops.h"
#include "peft/methods/methods.h"
#include "peft/parameters.h"
#include "peft/sites.h"

namespace graft {
namespace {

// Dense layers whose rows are tokens, taken with their biases, and layer norms: value -> scope.
std::map<ValueId, std::string> SsfSites(const Graph& g, const std::vector<std::string>& targets) {
  std::map<ValueId, std::string> sites;
  std::vector<std::string> known;
  for (NodeId id : g.TopoOrder()) {
    const Node& n = g.node(id);
    const bool norm = n.op == &kLayerNorm && PerToken(g, n.out[0]);
    if (!norm && !(IsSite(g, n.out[0]) && PerToken(g, n.out[0]))) continue;
    known.push_back(n.scope);
    if (ScopeMatches(n.scope, targets)) sites[norm ? n.out[0] : DenseOutput(g, n.out[0])] = n.scope;
  }
  for (const std::string& target : targets)
    if (std::ranges::none_of(known, [&](const auto& s) { return ScopeMatches(s, {target}); }))
      FailUsage("target '{}' matches no layer and no norm{}", target, DidYouMean(target, known));
  return sites;
}

PassReport ApplySsf(const MethodArgs& a) {
  PassReport report = StartReport(a, "ssf");
  for (const auto& [z, scope] : SsfSites(a.g, a.List("targets"))) {
    const UserList users = a.g.users(z);
    const std::string name = a.g.value(z).name, before = a.g.scope;
    const Extents channels{a.g.shape(z)[1].constant};
    a.g.scope = scope;
    const ValueId scale = NewParam(a, scope + ".ssf_scale", channels, Normals(1, 0.02));
    const ValueId shift = NewParam(a, scope + ".ssf_shift", channels, Normals(0, 0.02));
    const ValueId y = Add(a.g, Mul(a.g, z, scale), shift);
    a.g.SetName(z, ""), a.g.SetName(y, name);
    a.g.ReplaceUsesIn(z, y, users);
    a.g.scope = before;
    ++report.rewrites;
  }
  return FinishReport(a, report);
}

int64_t CountSsf(const MethodArgs& a) {
  int64_t count = 0;
  for (const auto& [z, scope] : SsfSites(a.g, a.List("targets")))
    count += 2 * a.g.shape(z)[1].constant;
  return count;
}

}  // namespace

const MethodRecord kSsfMethod{
    .name = "ssf",
    .summary = "scales and shifts what every layer and norm gives (Lian et al. 2022)",
    .equation = "z -> scale * z + shift",
    .formula = "L 22D + 4D for a ViT with M = 4D, of all layers and norms",
    .source = "Lian et al. 2022, arXiv 2210.08823",
    .options =
        +[] {
          return std::vector<MethodOption>{
              {"targets", "*", "layers and norms: attn.q, mlp.fc1, norm1, patch_embed, ..."}};
        },
    .apply = ApplySsf,
    .count = CountSsf,
    .folds = Folds::kYes,
    .why = "scale W, scale b + shift; in norms gain and bias likewise",
    .learning_rate = 3e-3};

}  // namespace graft
