// Why nodes of a compiled graph have the kernels they have, for `graft profile`.
#pragma once
#include <vector>

#include "ops/low_precision.h"
#include "runtime/op.h"

namespace graft {

// One text why the kernel serves, and one of the others and why they do not; "" of operators that
// have one kernel.
struct KernelChoice {
  const char *why = "", *refused = "";
};
// Of a node of a graph that all passes have seen. It asks the code that chooses.
KernelChoice WhyKernel(const Graph& g, NodeId node, const Counts& capacity);
KernelChoice WhyMatmul(const PrepareArgs& args);  // of matmul, in matmul.cc

// By node of a graph that the pass low_precision has seen: why a matmul is still one; "" of other
// nodes.
std::vector<const char*> ReasonsForF32(const Graph& g, const Precision& precision);

}  // namespace graft
