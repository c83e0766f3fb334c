// Optimising passes replace forms by equal ones that are cheaper. They act on a copy of the
// canonical graph at compile time, so they can break no merge pattern.
#pragma once
#include "runtime/passes.h"

namespace graft {

// The passes before gradients are taken: sink_gather (only rows that somebody reads), share_equal.
std::vector<Pass> ForwardPasses();

// The passes on a whole step or an inference graph: matmul_epilogue (bias, activation and residual
// become part of the matmul before), nf4_matmul (a product dequantises its weight as it goes),
// share_equal, early_updates (gradients are added up as soon as they can be).
std::vector<Pass> StepPasses();

}  // namespace graft
