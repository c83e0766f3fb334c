// The parallel adapters of one block, for the methods that are made of them.
#pragma once
#include "peft/bottleneck.h"

namespace graft {

// These read the options r, act, scale and dropout, where the record has them.
void AddParallelMlp(const MethodArgs& a, const BlockSite& block);
void AddParallelAttention(const MethodArgs& a, const BlockSite& block);

}  // namespace graft
