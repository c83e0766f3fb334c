#include "peft/merge.h"

#include <set>

#include "ops/ops.h"
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

PassReport MergeLinear(Graph& g) {
  std::vector<bool> constant = DependsOnlyOnParameters(g);
  const auto weight = [&](const char* name) {
    return Any(name).If([&](const Graph& graph, ValueId v) {
      ExtendOnlyOnParameters(graph, constant);
      return constant[v.i];
    });
  };
  // What depends on parameters only is a constant, however it is computed: folding's work.
  const auto data = [&](const char* name) {
    return Any(name).If([&](const Graph& graph, ValueId v) {
      ExtendOnlyOnParameters(graph, constant);
      return !constant[v.i];
    });
  };
  // The nodes that an inference must run: those that depend on an input (or on nothing).
  const auto data_node = [&](const Graph& graph, NodeId id) {
    ExtendOnlyOnParameters(graph, constant);
    return !constant[graph.node(id).out[0].i];
  };
  const Rule rules[] = {
      // (x A') B' -> x (B A)'
      {"linear after linear", Dense(Dense(data("x"), weight("a")), weight("b")),
       [](Graph& graph, const Match& m) {
         return Dense(graph, m["x"], Matmul(graph, m["b"], m["a"]));
       }},
      // s (x P') -> x (s P)'
      {"scaled linear", Op(kScale, {Dense(data("x"), weight("p")).As("y")}),
       [](Graph& graph, const Match& m) {
         const double s = graph.node(graph.value(m.root).producer).attrs.As<ScaleAttrs>().by;
         return Dense(graph, m["x"], Scale(graph, m["p"], s));
       }},
      // x W' + x P' -> x (W + P)'
      {"parallel linear", Op(kAdd, {Dense(data("x"), weight("w")), Dense(data("x"), weight("p"))}),
       [](Graph& graph, const Match& m) {
         const ValueId sum = Add(graph, m["w"], m["p"]);
         // Of the two operands, the base weight is the one with a name, which goes to the sum.
         const ValueId base = graph.value(m["w"]).name.empty() ? m["p"] : m["w"];
         graph.SetName(sum, graph.value(base).name);
         if (graph.value(base).producer.valid()) graph.SetName(base, "");
         return Dense(graph, m["x"], sum);
       }},
  };
  return RewriteToFixpoint(g, "merge_linear", rules, data_node);
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
  passes.Add({"merge_linear", MergeLinear});
  passes.Add({"fold_constants", [&](Graph& graph) { return FoldConstants(graph, params); }});
  result.passes = passes.Run(g);
  result.nodes_after = g.live_nodes();
  const std::set<std::string> base(base_names.begin(), base_names.end());
  for (const std::string& name : g.ParamNames())
    if (!base.contains(name)) result.left.push_back(name);
  return result;
}

}  // namespace graft
