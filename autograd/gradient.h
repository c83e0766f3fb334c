// Reverse-mode differentiation as a graph transform: gradients are nodes made by the records'
// rules.
#pragma once
#include "runtime/op.h"

namespace graft {

// Adds to g the gradient of the sum of `loss`'s elements with respect to each of `wrt` and returns
// them in order, with an invalid id where loss does not depend on the value. The result is pruned
// by construction: nothing is built below the lowest value of `wrt`, nor for frozen inputs. Throws
// Error if the path crosses an operator without a rule, naming it.
std::vector<ValueId> AddGradients(Graph& g, ValueId loss, std::span<const ValueId> wrt);

}  // namespace graft
