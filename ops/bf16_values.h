// What lies between operators of low precision, and what waits for the backward pass, in bf16.
#pragma once
#include "runtime/passes.h"

namespace graft {

// bf16_values, to run behind low_precision:
//   times     (a b) slope, a low_matmul and the slope of an activation, is one node;
//   between   what an operator of low precision or a layer norm makes and only operators of low
//             precision read is bf16: they would round it themselves;
//   waiting   what is made on the way to the loss and read again on the way back, with rows of at
//             least kLeastWaitingSide numbers, waits as bf16. Who reads it on the way back and
//             takes f32 alone gets it widened;
//   shared    what several products of bf16 read is rounded once for all of them.
// Outputs, states, parameters and what is made of parameters alone stay as they are.
inline constexpr int64_t kLeastWaitingSide = 128;
Pass Bf16ValuesPass();

}  // namespace graft
