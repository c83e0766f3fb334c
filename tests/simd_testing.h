// Lets tests of SIMD code that is dispatched within their own file run on every target.
#pragma once
#include <gtest/gtest.h>

#include "ops/targets.h"
// This comes after targets.h, which limits the targets; highway.h must come after foreach_target.h.
#include "hwy/targets.h"

namespace graft {

// Runs `f` once for each target that this CPU has and that was compiled.
template <class F>
void ForEachTarget(const F& f) {
  hwy::SetSupportedTargetsForTest(0);
  const int64_t supported = hwy::SupportedTargets() & HWY_TARGETS;
  for (int64_t rest = supported; rest != 0; rest &= rest - 1) {
    const int64_t target = rest & -rest;
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    SCOPED_TRACE(hwy::TargetName(target));
    f();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace graft
