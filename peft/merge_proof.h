// The proof that a merge is algebra and rounding, whatever the inputs are. The logits of a model
// can tell neither small mistakes from rounding nor, where changes are large, rounding from
// mistakes; here every place that the rules have rewritten is looked at alone, in double precision.
#pragma once
#include "runtime/graph.h"
#include "runtime/params.h"

namespace graft {

struct MergeProof {
  int64_t places = 0;       // values that the rules replaced
  int64_t weights = 0;      // tensors that were merged
  double weight_error = 0;  // the largest difference from their exact values, 1 is the most that
                            // rounding in f32 can make
};

// A merged weight in double precision, and the sum of the absolute values that it is made of, which
// measures what rounding can change.
using OnMergedWeight = std::function<void(const std::string& name, std::span<const double> exact,
                                          std::span<const double> magnitude)>;

// `before` is the model with its method and `params` its parameters; `merged` is what Merge() made
// of them, and `base_names` what it was given. A place is compared on random rows: what it computed
// before with what it computes from what it reads now. The weights in `merged` must be the exact
// ones rounded, all others those of `params`. Throws Error (kProof) naming the weight.
MergeProof ProveMerge(const Graph& before, const ParamStore& params, const ParamStore& merged,
                      const std::vector<std::string>& base_names,
                      const OnMergedWeight& on_weight = {});

}  // namespace graft
