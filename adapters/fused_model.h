// A run or an adapter merged into its base, and the base's form written again.
#pragma once
#include "adapters/fuse.h"
#include "adapters/open_model.h"

namespace graft {

struct FusedModel {
  LoadedModel model;  // the layout to write; its parameters are the base's
  ParamStore params;  // merged, under the base's names
  AdapterFacts facts;
  FuseProof proof;
  FileDType weights = FileDType::kF32;  // in which SaveFused writes them
};

// Merges the method of `opened`. The proof is the logits before and after, for inputs that the
// caller chooses. Throws Error of kind kUsage without a method, and as Fuse of fuse.h does.
FusedModel Fuse(OpenedModel opened, const LogitsOf& logits, FileDType weights = FileDType::kF32);

// Copies the files of a BERT's tokenizer, from a directory or from one file of any name, to the
// names that a Hugging Face directory has for them. A BERT without its vocabulary cannot read
// texts.
void CopyTokenizer(const std::string& from, const std::string& directory);

// Writes the fused model in the form that the base came in, with its metadata.
// What transformers computes differently from a model that SaveFused writes for it, though the
// weights are proved: each a note. Empty for other layouts.
std::vector<std::string> OtherInTransformers(const FusedModel& fused);
void SaveFused(const FusedModel& fused, const std::string& path);

}  // namespace graft
