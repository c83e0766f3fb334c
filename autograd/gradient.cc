#include "autograd/gradient.h"

#include <algorithm>

#include "ops/ops.h"
#include "runtime/dependence.h"

namespace graft {
namespace {

ValueId Ones(Graph& g, ValueId like) {
  // d sum(loss) / d loss = 1; written as loss * 0 + 1 it would carry NaN, so it is a broadcast.
  const ValueId one = g.FindLeaf("one");
  const ValueId scalar = one.valid() ? one : g.AddInput("one", {DType::kF32, {1}});
  return g.shape(like) == Shape{1} ? scalar : BroadcastLike(g, scalar, like);
}

}  // namespace

std::vector<ValueId> AddGradients(Graph& g, ValueId loss, std::span<const ValueId> wrt) {
  const std::vector<NodeId> order = g.TopoOrder();
  const std::vector<bool> depends = DependsOnAny(g, wrt);
  std::vector<ValueId> cotangent(g.num_values());
  const std::string scope_before = g.scope;
  if (!depends[loss.i]) return std::vector<ValueId>(wrt.size());
  g.scope = "gradient";
  cotangent[loss.i] = Ones(g, loss);

  for (auto it = order.rbegin(); it != order.rend(); ++it) {
    const Node n = g.node(*it);  // a copy: the rule adds nodes
    std::vector<bool> need;
    for (ValueId v : n.in) need.push_back(depends[v.i]);
    if (std::none_of(need.begin(), need.end(), [](bool b) { return b; })) continue;
    std::vector<ValueId> arriving;
    for (ValueId v : n.out) arriving.push_back(cotangent[v.i]);
    if (std::none_of(arriving.begin(), arriving.end(), [](ValueId v) { return v.valid(); }))
      continue;
    if (!n.op->gradient)
      Fail("[{}] {}: no gradient rule, but a trainable parameter lies below it", n.op->name,
           n.scope);
    g.scope = n.scope;
    const std::vector<ValueId> result = n.op->gradient({g, n.in, n.out, arriving, need, n.attrs});
    GRAFT_CHECK(result.size() == n.in.size(), "rule of {}", n.op->name);
    for (size_t i = 0; i < n.in.size(); ++i) {
      if (!need[i]) continue;
      if (!result[i].valid())
        Fail("[{}] {}: its rule gives no gradient for input {}", n.op->name, n.scope, i);
      GRAFT_CHECK(g.type(result[i]) == g.type(n.in[i]), "rule of {}, input {}: {} for {}",
                  n.op->name, i, ToString(g.type(result[i])), ToString(g.type(n.in[i])));
      ValueId& sum = cotangent[n.in[i].i];
      sum = sum.valid() ? Add(g, sum, result[i]) : result[i];
    }
  }
  g.scope = scope_before;
  std::vector<ValueId> gradients;
  for (ValueId v : wrt) gradients.push_back(cotangent[v.i]);
  return gradients;
}

}  // namespace graft
