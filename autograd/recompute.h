// Trades time for memory: values that the backward pass reads long after the forward pass has made
// them are not kept but computed a second time.
#pragma once
#include "runtime/passes.h"
#include "runtime/session.h"

namespace graft {

struct RecomputeLimit {
  Counts capacity;
  size_t arena_bytes = SIZE_MAX;  // the largest arena that is wanted
  std::vector<StepInfo> kernels;  // of a session of the same graph, for the scratch they want
};

struct RecomputeResult {
  int nodes = 0;           // computed a second time
  size_t arena_bytes = 0;  // planned; the smallest that was found if that is above the limit
  double seconds = 0;      // of the additional nodes in one Run, by ModelSeconds
};

// Makes clones of forward nodes, placed before the gradients that read them, until the arena that a
// session would plan is no larger than the limit. Where no plan is small enough, g stays as it is.
// One step relieves the position at which most is alive: of the values that lie idle across it, the
// one whose second computation costs least per byte gets a clone for its later readers. Operands
// that are gone by then are kept longer or computed again, too, whichever is cheaper. Any node may
// be chosen that reads no accumulator, as an accumulator has changed by then. A product of a frozen
// weight shares the packed copy with its clone (Session). Since the steps do not depend on the
// limit, a smaller limit takes the same steps and more.
// Clones compute the same bits: they are the same kernels on the same operands, and masks are
// functions of a counter.
RecomputeResult Recompute(Graph& g, const RecomputeLimit& limit);

// The pass "recompute", which runs on a step after all others and does nothing without a limit.
Pass RecomputePass(const RecomputeLimit& limit);

// The time of a node on a nominal machine, for comparing plans. Nothing is measured, so a plan is
// the same everywhere.
double ModelSeconds(const Cost& cost);

}  // namespace graft
