// Merging a run or an adapter into its base, with a proof on real inputs before anything is
// written.
#pragma once
#include "graft/fuse.h"
#include "tools/lib/common.h"
#include "tools/lib/open_model.h"

namespace graft {

struct FusedModel {
  LoadedModel model;  // the layout to write; its parameters are the base's
  ParamStore params;  // merged, under the base's names
  RunConfig config;   // of the run or adapter
  FuseProof proof;
  bool random_inputs = false;  // of the proof
};

// Merges the method of `opened` and compares logits before and after on examples of `data` (the
// run's data set if empty; random inputs if there is none), within the memory budget. Throws Error:
// kUsage without a method, kNotFoldable if a branch stays, kProof if the logits differ or the graph
// is not that of the plain model.
FusedModel Fuse(OpenedModel opened, const std::string& data, const CommonOptions& common);

// Copies the files of a BERT's tokenizer, a directory or one file under any name, to those names
// that a Hugging Face directory has: without its vocabulary a BERT cannot read texts.
void CopyTokenizer(const std::string& from, const std::string& directory);

// Writes the fused model in the form that the base came in, with its metadata.
void SaveFused(const FusedModel& fused, const std::string& path);

}  // namespace graft
