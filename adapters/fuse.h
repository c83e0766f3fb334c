// Merging a method into the weights of its model, with a proof before anybody gets them.
#pragma once
#include <functional>

#include "models/model.h"
#include "peft/merge.h"
#include "peft/merge_proof.h"
#include "peft/method.h"
#include "runtime/io/file_tensor.h"

namespace graft {

struct FuseProof {
  // The largest difference between the logits of the model with its method and those of the merged
  // one, in the precision in which it is written.
  double max_abs_logit_difference = 0;
  double relative_error = 0;  // max abs difference over max abs logit
  double top1_agreement = 0;  // share of the examples, 0 to 1
  int64_t n = 0;              // examples
  size_t nodes_before = 0, nodes_after = 0;
  MergeProof merge;           // of every place and every weight, in double precision
  double merged_error = 0;    // relative_error before the weights were rounded to a half type
  double rounding_error = 0;  // what other roundings of the merged weights do to the logits,
                              // relative; not looked at up to a merged_error of kFuseTolerance
};

// A larger relative error is looked into: it passes only if merged weights that are rounded
// otherwise change the logits by a comparable amount.
inline constexpr double kFuseTolerance = 1e-5;
inline constexpr double kMostTimesRounding = 100;

struct FuseOptions {
  uint64_t seed = 0;  // of what the method should have and `params` lack
  // For kF16 and kBF16, all weights are rounded to the type before the proof, as they are for a
  // program that loads them.
  FileDType weights = FileDType::kF32;
};

struct FusedWeights {
  ParamStore params;  // for the plain model, BuildModel(config); what was not merged is shared
  FuseProof proof;
};

// Merges as Merge (peft/merge.h) does, into the parameters that files of this model have. Throws
// Error (kNotFoldable) where they have no place for what a class has gained.
MergeResult MergeIntoPlain(const ModelConfig& config, Graph& g, ParamStore& params);

// Computes the output "logits" [n,classes] of a graph with these parameters, row after row, for
// examples that the caller chooses and that are the same at every call.
using LogitsOf = std::function<std::vector<float>(const Graph& graph, ParamStore& params)>;

// Merges, and calls `logits` for the model with its method and for the merged one. `params` hold
// the trained weights and stay as they are. Throws Error, so that no wrong weights leave:
// kNotFoldable if a branch stays; kProof if the graph is not that of the plain model, if a place or
// a weight is not what it was (ProveMerge), or if the logits differ by more than kFuseTolerance and
// by more than kMostTimesRounding times what other roundings of the merged weights change; kUser
// for a weight beyond the range of a half type.
FusedWeights Fuse(const ModelConfig& config, const Method& method, ParamStore& params,
                  const LogitsOf& logits, const FuseOptions& options = {});

}  // namespace graft
