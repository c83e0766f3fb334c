// Merging is algebra rules and constant folding. No method contains weight arithmetic: a branch
// that is linear in x becomes part of the weight beside it, whatever method made it.
#pragma once
#include "peft/merge_rules.h"
#include "runtime/params.h"
#include "runtime/passes.h"

namespace graft {

// Removes dropout (an inference graph has none): dropout(x) -> x.
PassReport RemoveDropout(Graph& g);

// Applies the algebra of merge_rules.h to a fixpoint: branches, gains and shifts that are linear in
// what they read become part of the weights, biases and norms beside them, under their names.
// `model` are the names of the plain model's parameters.
PassReport MergeLinear(Graph& g, const BaseNames& model = {});

// Folds LayerScale into the layer before it: (x W' + b) g becomes x (g W)' + g b, where W, b and
// the gains g of the columns are parameters. The new weights are in `params` as
// "scaled.SCOPE.weight" and ".bias" beside the old ones, so this is for a graph that only runs,
// with nothing trainable.
PassReport FoldScales(Graph& g, ParamStore& params);

struct MergeResult {
  std::vector<PassReport> passes;
  size_t nodes_before = 0, nodes_after = 0;
  std::vector<std::string> left;  // scopes of parameters that could not be folded into the base
};

// Makes the plain model of the canonical graph (model + method): `g` must be an inference graph
// with nothing trainable; `params` gets the merged weights under the base's names (copy-on-write).
// `base_names` are the parameters of the plain model; what else remains is reported in `left`.
MergeResult Merge(Graph& g, ParamStore& params, const std::vector<std::string>& base_names);

}  // namespace graft
