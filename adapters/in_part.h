// Methods of which merging leaves something: what folds goes into the base, the rest is an adapter
// for that base, in the form that it needs after training.
#pragma once
#include "adapters/fused_model.h"

namespace graft {

struct MethodParts {
  Method folds, stays;
};
// The terms that fold completely, and the others.
MethodParts SplitByFolds(const Method& method);

// Puts reduced forms (MethodRecord::reduced) in the place of terms that have one, computes their
// parameters, and returns whether there were any: a prefix without the MLP that makes it. Throws
// Error (kProof) if the graph is not that of the reduced method.
bool ReduceMethod(OpenedModel* opened);

// What the adapter of a method holds: parameters that train, those that terms own, and the head.
std::vector<std::string> AdapterNames(const OpenedModel& opened);

// The logits of the whole, and of the fused base with the rest: how far they are apart, relative to
// the largest.
double ErrorInPart(OpenedModel& whole, const FusedModel& fused, const OpenedModel& rest,
                   const LogitsOf& logits);

}  // namespace graft
