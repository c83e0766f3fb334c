#include "autograd/gradient.h"

#include <algorithm>

#include "ops/ops.h"
#include "runtime/dependence.h"

namespace graft {
namespace {

ValueId Ones(Graph& g, ValueId like) {
  // d sum(loss) / d loss = 1. Written as loss * 0 + 1 it would carry NaN, so it is a broadcast.
  const ValueId one = g.FindLeaf("one");
  const ValueId scalar = one.valid() ? one : g.AddInput("one", {DType::kF32, {1}});
  return g.shape(like) == Shape{1} ? scalar : BroadcastLike(g, scalar, like);
}

// What is asked of a graph that has no gradients yet; vectors are by value.
struct Question {
  std::vector<NodeId> order;
  std::vector<bool> depends;  // on what is asked for
  std::vector<bool> closed;   // nothing goes through it
};

// Walks back from the values that are differentiated; `cotangent`, by value, first holds those of
// these alone.
std::vector<ValueId> Walk(Graph& g, const Question& q, std::vector<ValueId> cotangent,
                          std::span<const ValueId> wrt) {
  const std::string scope_before = g.scope;
  for (auto it = q.order.rbegin(); it != q.order.rend(); ++it) {
    const Node n = g.node(*it);  // a copy: the rule adds nodes
    if (std::ranges::any_of(n.out, [&](ValueId v) { return q.closed[v.i]; })) continue;
    std::vector<bool> need;
    for (ValueId v : n.in) need.push_back(q.depends[v.i]);
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

}  // namespace

std::vector<ValueId> AddGradients(Graph& g, ValueId loss, std::span<const ValueId> wrt,
                                  Derivative derivative) {
  Question q{g.TopoOrder(), {}, std::vector<bool>(g.num_values())};
  q.depends = DependsOnAny(g, wrt, q.order);
  if (!q.depends[loss.i]) return std::vector<ValueId>(wrt.size());
  if (derivative == Derivative::kPartial)
    for (ValueId v : wrt) q.closed[v.i] = true;
  std::vector<ValueId> cotangent(g.num_values());
  const std::string scope_before = g.scope;
  g.scope = "gradient";
  cotangent[loss.i] = Ones(g, loss);
  g.scope = scope_before;
  return Walk(g, q, std::move(cotangent), wrt);
}

std::vector<ValueId> AddPullback(Graph& g, std::span<const ValueId> values,
                                 std::span<const ValueId> cotangents,
                                 std::span<const ValueId> wrt) {
  std::vector<ValueId> cotangent(g.num_values());
  for (size_t i = 0; i < values.size(); ++i) {
    GRAFT_CHECK(g.type(values[i]) == g.type(cotangents[i]), "{} for {}",
                ToString(g.type(cotangents[i])), ToString(g.type(values[i])));
    cotangent[values[i].i] = cotangents[i];
  }
  Question q{g.TopoOrder(), {}, std::vector<bool>(g.num_values())};
  q.depends = DependsOnAny(g, wrt, q.order);
  return Walk(g, q, std::move(cotangent), wrt);
}

}  // namespace graft
