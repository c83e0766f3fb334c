// Merging a run or an adapter into its base, with a proof on real inputs before anything is
// written.
#pragma once
#include "tools/lib/open_model.h"

namespace graft {

struct FuseProof {
  double max_abs_logit_difference = 0;
  double relative_error = 0;  // max abs difference over max abs logit
  double top1_agreement = 0;
  int64_t n = 0;
  size_t nodes_before = 0, nodes_after = 0;
};

// A larger relative error means that something else than the rounding of f32 sums is different.
inline constexpr double kFuseTolerance = 1e-5;

struct FusedModel {
  LoadedModel model;  // the layout to write; its parameters are the base's
  ParamStore params;  // merged, under the base's names
  RunConfig config;   // of the run or adapter
  FuseProof proof;
};

// Merges the method of `opened` and compares logits before and after on examples of `data` (the
// run's data set if empty; random inputs if there is none). Throws Error: kUsage without a method,
// kNotFoldable if a branch stays, kProof if the logits differ or the graph is not that of the plain
// model.
FusedModel Fuse(OpenedModel opened, const std::string& data);

// Writes the fused model in the form that the base came in, with its metadata.
void SaveFused(const FusedModel& fused, const std::string& path);

}  // namespace graft
