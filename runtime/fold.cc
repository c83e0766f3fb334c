#include "runtime/fold.h"

#include <set>

#include "runtime/dependence.h"
#include "runtime/session.h"
#include "runtime/verify.h"

namespace graft {

PassReport FoldConstants(Graph& g, ParamStore& params,
                         const std::function<bool(const Graph&, ValueId)>& which) {
  PassReport report{"fold_constants", 0, g.live_nodes(), 0, 0};
  // The roots are values of parameters alone that other nodes or outputs read.
  std::vector<ValueId> roots = NeededOutside(g, DependsOnlyOnParameters(g));
  std::set<std::string> taken;  // by parameters that stay
  for (const ValueId v : roots)
    if (g.value(v).role == Role::kParam) taken.insert(g.value(v).name);
  std::erase_if(roots, [&](ValueId v) {
    return g.value(v).role == Role::kParam || (which && !which(g, v));
  });
  if (roots.empty()) {
    report.nodes_after = g.live_nodes();
    return report;
  }
  Graph constants = g;
  constants.ClearOutputs();
  constants.ClearUpdates();
  for (ValueId v : roots) {
    if (g.value(v).name.empty() || !taken.insert(g.value(v).name).second)
      g.SetName(v, fmt::format("folded.{}", v.i));
    constants.AddOutput(fmt::format("{}", v.i), v);
  }
  constants.EraseDead();
  ParamStore folded;
  {
    Session session(constants, params, {.capacity = {0, 0}});
    session.Run({0, 0});
    for (ValueId v : roots) {
      const Tensor t = session.Output(fmt::format("{}", v.i));
      folded.Set(g.value(v).name, t.shape, {t.f32(), static_cast<size_t>(t.shape.size())});
    }
  }
  for (ValueId v : roots) {
    g.MakeParam(v);
    ++report.rewrites;
  }
  g.EraseDead();
  for (const auto& [name, entry] : folded.entries()) params.Set(name, entry.shape, entry.values());
  Verify(g);
  report.nodes_after = g.live_nodes();
  return report;
}

}  // namespace graft
