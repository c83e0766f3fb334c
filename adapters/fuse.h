// Merging a method into the weights of its model, with a proof before anybody gets them.
#pragma once
#include <functional>

#include "models/model.h"
#include "peft/method.h"

namespace graft {

struct FuseProof {
  double max_abs_logit_difference = 0;
  double relative_error = 0;  // max abs difference over max abs logit
  double top1_agreement = 0;  // share of the examples, 0 to 1
  int64_t n = 0;              // examples
  size_t nodes_before = 0, nodes_after = 0;
};

// A larger relative error means that something else than the rounding of f32 sums is different.
inline constexpr double kFuseTolerance = 1e-5;

struct FusedWeights {
  ParamStore params;  // for the plain model, BuildModel(config); what was not merged is shared
  FuseProof proof;
};

// The output "logits" [n,classes] of a graph with these parameters, row after row, for examples
// that the caller chooses: the same ones at every call.
using LogitsOf = std::function<std::vector<float>(const Graph& graph, ParamStore& params)>;

// Merges, and calls `logits` once for the model with its method and once for the merged one.
// `params` hold the trained weights and stay as they are; what the method should have and they lack
// is initialised from `seed`. Throws Error, so that no wrong weights leave: kNotFoldable if a
// branch stays, kProof if the graph is not that of the plain model or the logits differ by more
// than kFuseTolerance.
FusedWeights Fuse(const ModelConfig& config, const Method& method, ParamStore& params,
                  const LogitsOf& logits, uint64_t seed = 0);

}  // namespace graft
