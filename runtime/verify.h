// The invariants of a graph, each with its own message. They are checked after every pass.
#pragma once
#include "runtime/graph.h"

namespace graft {

// Throws Error that names the first broken invariant:
//   use lists, producers, live inputs, acyclicity, result types, unique leaf names, trainable only
//   on parameters, outputs alive, updates well-typed and unique, main phase before update phase.
void Verify(const Graph& g);

// Verifies a graph on its way to another, behind a pass or a term of a method. This is left out
// while a VerifyAtTheEnd lives on this thread: a caller that builds many graphs, by rewrites that
// one of them has shown to be right, verifies each once, when its session is built.
void VerifyStep(const Graph& g);
class VerifyAtTheEnd {
 public:
  VerifyAtTheEnd();
  ~VerifyAtTheEnd();
  VerifyAtTheEnd(const VerifyAtTheEnd&) = delete;
};

// Throws Error if a trainable parameter reaches no output: it would stay as it is without a word.
void VerifyTrainableReachOutput(const Graph& g);

}  // namespace graft
