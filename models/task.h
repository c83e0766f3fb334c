// What the logits of a head say, and the loss that teaches it: the `problem_type` of transformers.
#pragma once
#include <string>
#include <vector>

#include "runtime/graph.h"

namespace graft {

inline constexpr const char* kClassify = "classify";       // one class of K: cross entropy
inline constexpr const char* kRegression = "regression";   // K numbers: squared error
inline constexpr const char* kMultiLabel = "multi-label";  // each of K classes or not: BCE

const std::vector<std::string>& TaskNames();  // in this order

// The losses [S,1] of logits [S,K]. Classes come from the input "labels" i32 [S], other tasks read
// "targets" f32 [S,K]. Label smoothing applies to classes alone.
ValueId TaskLosses(Graph& g, ValueId logits, const std::string& task, double label_smoothing);

}  // namespace graft
