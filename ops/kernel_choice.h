// Says why nodes of a compiled graph have the kernels they have, for `graft profile`.
#pragma once
#include <vector>

#include "ops/low_precision.h"
#include "runtime/op.h"

namespace graft {

// A text that says why the kernel serves, and one that says why the others do not; both are "" for
// operators that have only one kernel.
struct KernelChoice {
  std::string why, refused;
};
// The choice for a node of a graph that all passes have seen, asked of the code that chooses.
KernelChoice WhyKernel(const Graph& g, NodeId node, const Counts& capacity);
KernelChoice WhyMatmul(const PrepareArgs& args);  // of matmul, in matmul.cc

// For each node of a graph that the pass low_precision has seen: why it is not computed in the
// precision that was asked for; "" if it is, and for nodes that the pass leaves to f32.
std::vector<const char*> ReasonsForNoLess(const Graph& g, const Precision& precision);

}  // namespace graft
