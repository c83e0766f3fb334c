// The invariants of a graph, each with its own message. They are checked after every pass.
#pragma once
#include "runtime/graph.h"

namespace graft {

// Throws Error that names the first broken invariant:
//   use lists, producers, live inputs, acyclicity, result types, unique leaf names, trainable only
//   on parameters, outputs alive, updates well-typed and unique, main phase before update phase.
void Verify(const Graph& g);

// Throws Error if a trainable parameter reaches no output: it would silently stay as it is.
void VerifyTrainableReachOutput(const Graph& g);

}  // namespace graft
