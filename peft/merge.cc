#include "peft/merge.h"

#include <set>

#include "ops/ops.h"
#include "peft/merge_rules.h"
#include "runtime/dependence.h"
#include "runtime/fold.h"

namespace graft {
namespace {

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

PassReport MergeLinear(Graph& g, const BaseNames& model) {
  std::vector<bool> constant = DependsOnlyOnParameters(g);
  const auto is_constant = [&](const Graph& graph, ValueId v) {
    ExtendOnlyOnParameters(graph, constant);
    return static_cast<bool>(constant[v.i]);
  };
  // The nodes that an inference must run: those that depend on an input, or on nothing. What
  // depends on parameters only is a constant that folding computes, however it is made.
  const auto data_node = [&](const Graph& graph, NodeId id) {
    return !is_constant(graph, graph.node(id).out[0]);
  };
  return RewriteToFixpoint(g, "merge_linear", MergeRules(is_constant, model), data_node);
}

PassReport FoldScales(Graph& g, ParamStore& params) {
  GRAFT_CHECK(g.Trainable().empty(), "scales are folded in an inference graph");
  const auto param = [](const char* name) {
    return Any(name).If(
        [](const Graph& graph, ValueId v) { return graph.value(v).role == Role::kParam; });
  };
  const Pat layer = Op(kAdd, {Dense(Any("x"), param("w")).As("y"), param("b")});
  const Rule rule{"scale", Op(kMul, {layer, param("gain")}), [](Graph& graph, const Match& m) {
                    if (graph.shape(m["b"]).size() != 1 || graph.shape(m["gain"]).size() != 1)
                      return ValueId{};
                    const std::string scope = graph.node(graph.value(m["y"]).producer).scope;
                    const ValueId w =
                        Transpose(graph, Mul(graph, Transpose(graph, m["w"]), m["gain"]));
                    const ValueId b = Mul(graph, m["b"], m["gain"]);
                    graph.SetName(w, "scaled." + scope + ".weight");
                    graph.SetName(b, "scaled." + scope + ".bias");
                    return Add(graph, Dense(graph, m["x"], w), b);
                  }};
  PassReport report = Rewrite(g, "fold_scales", {&rule, 1});
  const auto scaled = [](const Graph& graph, ValueId v) {
    return graph.value(v).name.starts_with("scaled.");
  };
  if (report.rewrites > 0) FoldConstants(g, params, scaled);
  report.nodes_after = g.live_nodes();
  return report;
}

MergeResult Merge(Graph& g, ParamStore& params, const std::vector<std::string>& base_names) {
  GRAFT_CHECK(g.Trainable().empty(), "merge wants an inference graph");
  MergeResult result;
  result.nodes_before = g.live_nodes();
  PassManager passes;
  passes.Add({"remove_dropout", RemoveDropout});
  const BaseNames base(base_names.begin(), base_names.end());
  passes.Add({"merge_linear", [&](Graph& graph) { return MergeLinear(graph, base); }});
  passes.Add({"fold_constants", [&](Graph& graph) { return FoldConstants(graph, params); }});
  result.passes = passes.Run(g);
  result.nodes_after = g.live_nodes();
  for (const std::string& name : g.ParamNames())
    if (!base.contains(name)) result.left.push_back(name);
  return result;
}

}  // namespace graft
