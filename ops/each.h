// Loops over arrays of vectors.
#pragma once
#include <cstddef>

#include "hwy/base.h"

// for i = 0 ... count - 1, without a branch: gcc keeps an array of vectors in registers only if no
// loop over it is left. Lambdas called with compile-time indices do the same, and took half a
// minute longer to compile for the tiles of products. 64: more than any count.
#define GRAFT_EACH(i, count) HWY_UNROLL(64) for (size_t i = 0; i < (count); ++i)
