// Says why nodes of a compiled graph have the kernels they have, for `graft profile`.
#pragma once
#include <vector>

#include "ops/low_precision.h"
#include "runtime/op.h"

namespace graft {

// A text that says why the kernel serves, and one that says why the others do not; both are "" for
// operators that have only one kernel.
struct KernelChoice {
  const char *why = "", *refused = "";
};
// The choice for a node of a graph that all passes have seen, asked of the code that chooses.
KernelChoice WhyKernel(const Graph& g, NodeId node, const Counts& capacity);
KernelChoice WhyMatmul(const PrepareArgs& args);  // of matmul, in matmul.cc

// For each node of a graph that the pass low_precision has seen: why a matmul is still one; "" for
// other nodes.
std::vector<const char*> ReasonsForF32(const Graph& g, const Precision& precision);

}  // namespace graft
