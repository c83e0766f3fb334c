#include "runtime/fold.h"

#include <algorithm>

#include "runtime/session.h"
#include "runtime/verify.h"

namespace graft {
namespace {

// Values that are fed by parameters only, and by at least one. Random nodes read an input as well.
std::vector<bool> ParameterOnly(const Graph& g) {
  std::vector<bool> only(g.num_values());
  for (ValueId v : g.Leaves(Role::kParam)) only[v.i] = true;
  for (NodeId id : g.TopoOrder()) {
    const Node& n = g.node(id);
    const bool all = !n.in.empty() && n.phase == Phase::kMain &&
                     std::all_of(n.in.begin(), n.in.end(), [&](ValueId v) { return only[v.i]; });
    for (ValueId v : n.out) only[v.i] = all;
  }
  return only;
}

}  // namespace

PassReport FoldConstants(Graph& g, ParamStore& params) {
  PassReport report{"fold_constants", 0, g.live_nodes(), 0, 0, {}};
  const std::vector<bool> only = ParameterOnly(g);
  // The roots: parameter-only intermediates that other nodes (or outputs) read.
  std::vector<ValueId> roots;
  for (ValueId v : g.Leaves(Role::kIntermediate)) {
    if (!only[v.i]) continue;
    const auto& users = g.users(v);
    const bool read = g.IsOutput(v) || std::any_of(users.begin(), users.end(), [&](NodeId user) {
                        return !only[g.node(user).out[0].i];
                      });
    if (read) roots.push_back(v);
  }
  if (roots.empty()) {
    report.nodes_after = g.live_nodes();
    return report;
  }
  Graph constants = g;
  constants.ClearOutputs();
  constants.ClearUpdates();
  for (ValueId v : roots) {
    if (g.value(v).name.empty()) g.SetName(v, fmt::format("folded.{}", v.i));
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
