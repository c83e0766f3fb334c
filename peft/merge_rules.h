// The algebra of merging, as data: what is linear in its input becomes part of the weights beside
// it. x depends on an input, all other letters on parameters only; W, P, A, B are matrices [out,in],
// b, c, s vectors (s also a number), and A', B', ... their transposes.
#pragma once
#include "runtime/rewrite.h"

namespace graft {

// `constant`: whether a value depends on parameters only. Each rule lowers the number of nodes that
// depend on an input.
std::vector<Rule> MergeRules(const Predicate& constant);

}  // namespace graft
