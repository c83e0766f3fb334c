// Parts of a training graph that are made of parameters alone: the MLP of prefix tuning, keys of
// deep prompts, expressions of biases. Their backward pass need not run for every micro-batch.
//
// Let f = F(p) be what such a part gives to the rest of the graph and c_i the cotangent of f in
// micro-batch i. The gradient of p is linear in it,
//
//   sum_i F'(p)^T c_i = F'(p)^T sum_i c_i,
//
// so the cotangents can be added up instead of the gradients, and F' is applied once a step.
#pragma once
#include "runtime/graph.h"

namespace graft {

// A connected part: nodes that depend on parameters only (dependence.h) and on at least one that is
// trainable, joined by the trainable values that they read and make.
struct ParameterPart {
  std::vector<ValueId> trainable;  // parameters
  std::vector<ValueId> frontier;   // what others read of it; it may hold some of `trainable`
};

// The parts of a graph without gradients whose frontier is worth accumulating. It is
//
//   smaller than the trainable parameters, so that less is kept in every lane, or
//   at most twice as large, where a matrix product is saved in every micro-batch, or
//   at most 512 numbers for each node of the part, whose call takes longer than adding them up.
//
// Others would cost more memory than they save time: the products W * (A B) of GLoRA are whole
// weights.
std::vector<ParameterPart> LateParts(const Graph& g);

}  // namespace graft
