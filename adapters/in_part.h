// Methods that fold only in part: what folds is merged into the base, and the rest becomes an
// adapter for that base, in the form that it needs after training.
#pragma once
#include "adapters/fused_model.h"

namespace graft {

struct MethodParts {
  Method folds, stays;
};
// Splits the method into the terms that fold completely, which may depend on their options, and the
// others.
MethodParts SplitByFolds(const OpenedModel& opened);

// Replaces terms by their reduced forms (MethodRecord::reduced), such as a prefix without the MLP
// that makes it, and computes the parameters of those. Returns whether there were any. Throws Error
// (kProof) if the graph is not that of the reduced method.
bool ReduceMethod(OpenedModel* opened);

// The parameters that the adapter of a method holds: those that train, those that terms own, and
// the head.
std::vector<std::string> AdapterNames(const OpenedModel& opened);

// How far the logits of the whole are from those of the fused base with the rest, relative to the
// largest logit.
double ErrorInPart(OpenedModel& whole, const FusedModel& fused, const OpenedModel& rest,
                   const LogitsOf& logits);

}  // namespace graft
