#include "peft/merge.h"

#include <algorithm>

#include "ops/ops.h"
#include "runtime/fold.h"

namespace graft {
namespace {

bool FromParametersOnly(const Graph& g, ValueId v) {
  const Value& value = g.value(v);
  if (value.role == Role::kParam) return true;
  if (!value.producer.valid()) return false;
  const Node& n = g.node(value.producer);
  return !n.in.empty() && !n.op->random && std::all_of(n.in.begin(), n.in.end(), [&](ValueId in) {
    return FromParametersOnly(g, in);
  });
}

// The nodes that an inference must run: those that depend on an input (or on nothing).
double DataNodes(const Graph& g) {
  double count = 0;
  std::vector<bool> constant(g.num_values());
  for (ValueId v : g.Leaves(Role::kParam)) constant[v.i] = true;
  for (NodeId id : g.TopoOrder()) {
    const Node& n = g.node(id);
    const bool all = !n.in.empty() && std::all_of(n.in.begin(), n.in.end(),
                                                  [&](ValueId v) { return constant[v.i]; });
    for (ValueId v : n.out) constant[v.i] = all;
    count += !all;
  }
  return count;
}

Pat Weight(const char* name) { return Any(name).If(FromParametersOnly); }
// What depends on parameters only is a constant, however it is computed: folding's work.
Pat Data(const char* name) {
  return Any(name).If([](const Graph& g, ValueId v) { return !FromParametersOnly(g, v); });
}
Pat Dense(Pat x, Pat w) {
  return Op(kMatmul, {std::move(x), std::move(w)}, MatmulAttrs{.tb = true});
}
ValueId Dense(Graph& g, ValueId x, ValueId w) { return Matmul(g, x, w, false, true); }

}  // namespace

PassReport RemoveDropout(Graph& g) {
  const Rule rule{"dropout", Op(kDropout, {Any("x"), Any("offsets"), Any("rng")}),
                  [](Graph&, const Match& m) { return m["x"]; }};
  return RewriteToFixpoint(g, "remove_dropout", {&rule, 1});
}

PassReport MergeLinear(Graph& g) {
  const Rule rules[] = {
      // (x A') B' -> x (B A)'
      {"linear after linear", Dense(Dense(Data("x"), Weight("a")), Weight("b")),
       [](Graph& graph, const Match& m) {
         return Dense(graph, m["x"], Matmul(graph, m["b"], m["a"]));
       }},
      // s (x P') -> x (s P)'
      {"scaled linear", Op(kScale, {Dense(Data("x"), Weight("p")).As("y")}),
       [](Graph& graph, const Match& m) {
         const double s = graph.node(graph.value(m.root).producer).attrs.As<ScaleAttrs>().by;
         return Dense(graph, m["x"], Scale(graph, m["p"], s));
       }},
      // x W' + x P' -> x (W + P)'
      {"parallel linear", Op(kAdd, {Dense(Data("x"), Weight("w")), Dense(Data("x"), Weight("p"))}),
       [](Graph& graph, const Match& m) {
         const ValueId sum = Add(graph, m["w"], m["p"]);
         // Of the two operands, the base weight is the one with a name.
         const std::string& name = graph.value(m["w"]).name;
         graph.SetName(sum, name.empty() ? graph.value(m["p"]).name : name);
         return Dense(graph, m["x"], sum);
       }},
  };
  return RewriteToFixpoint(g, "merge_linear", rules, DataNodes);
}

MergeResult Merge(Graph& g, ParamStore& params, const std::vector<std::string>& base_names) {
  GRAFT_CHECK(g.Trainable().empty(), "merge wants an inference graph");
  MergeResult result;
  result.nodes_before = g.live_nodes();
  PassManager passes;
  passes.Add({"remove_dropout", RemoveDropout});
  passes.Add({"merge_linear", MergeLinear});
  passes.Add({"fold_constants", [&](Graph& graph) { return FoldConstants(graph, params); }});
  result.passes = passes.Run(g);
  result.nodes_after = g.live_nodes();
  for (const std::string& name : g.ParamNames())
    if (std::find(base_names.begin(), base_names.end(), name) == base_names.end())
      result.left.push_back(name);
  return result;
}

}  // namespace graft
