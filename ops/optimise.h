// Optimising passes replace forms by equal ones that are cheaper. They act on a copy of the
// canonical graph at compile time, so they can break no merge pattern.
#pragma once
#include "runtime/passes.h"

namespace graft {

// The passes that run before gradients are taken: sink_gather (computes only rows that are read)
// and share_equal.
std::vector<Pass> ForwardPasses();

// The passes on a whole step or an inference graph: matmul_epilogue (bias, activation and residual
// become part of the matmul before them), nf4_matmul (a product dequantises its weight as it goes),
// share_equal, and early_updates (gradients are added up as soon as they can be).
std::vector<Pass> StepPasses();

}  // namespace graft
