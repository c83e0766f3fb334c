// What tests run of low_matmul: its record has no room for them.
#pragma once
#include <vector>

#include "runtime/op.h"

namespace graft {

std::vector<Sample> LowMatmulSamples();
std::vector<ErrorSample> LowMatmulErrors();

}  // namespace graft
