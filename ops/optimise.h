// Optimising passes: equal but cheaper forms. They act on a copy of the canonical graph at compile
// time, so they can break no merge pattern.
#pragma once
#include "runtime/passes.h"

namespace graft {

// Before gradients: sink_gather (only rows that somebody reads), share_equal.
std::vector<Pass> ForwardPasses();

// On the whole step or on an inference graph: matmul_epilogue (bias, activation, residual into the
// matmul before), share_equal.
std::vector<Pass> StepPasses();

}  // namespace graft
