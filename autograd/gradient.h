// Reverse-mode differentiation as a graph transform: gradients are nodes made by the records'
// rules.
#pragma once
#include "runtime/op.h"

namespace graft {

// How values of `wrt` that are made from each other count. With kTotal, what one gets through
// another is part of its gradient. With kPartial each is taken as independent, and nothing goes
// through it.
enum class Derivative : uint8_t { kTotal, kPartial };

// Adds to g the gradient of the sum of `loss`'s elements with respect to each of `wrt`, and returns
// the gradients in order, with an invalid id where loss does not depend on the value. Nothing is
// built below the lowest value of `wrt`, nor for frozen inputs, so nothing has to be pruned. Throws
// Error, naming the operator, if the path crosses one without a rule.
std::vector<ValueId> AddGradients(Graph& g, ValueId loss, std::span<const ValueId> wrt,
                                  Derivative derivative = Derivative::kTotal);

// Does the same for the sum over i of the dot product of values[i] and cotangents[i], which have
// the same type: the total derivative.
std::vector<ValueId> AddPullback(Graph& g, std::span<const ValueId> values,
                                 std::span<const ValueId> cotangents, std::span<const ValueId> wrt);

}  // namespace graft
