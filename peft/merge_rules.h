// The algebra of merging, as data: what is linear in its input becomes part of the weights beside
// it. x depends on an input, all other letters on parameters only; W, P, A, B are matrices
// [out,in], b, c, s vectors (s also a number), and A', B', ... the transposes.
#pragma once
#include <set>

#include "runtime/rewrite.h"

namespace graft {

// The names of the parameters of the plain model.
using BaseNames = std::set<std::string, std::less<>>;

// `constant` tells whether a value depends on parameters only. Each rule lowers the number of nodes
// that depend on an input. What takes the place of the model's parameters has their names. A factor
// that is itself a parameter of the model, such as LayerScale's, is part of the model and stays.
std::vector<Rule> MergeRules(const Predicate& constant, const BaseNames& model);

}  // namespace graft
