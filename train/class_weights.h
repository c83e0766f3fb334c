// Weights of classes in the training loss.
#pragma once
#include <vector>

#include "runtime/graph.h"
#include "runtime/params.h"

namespace graft {

// Replaces the output "losses" of a training graph with label smoothing e by weighted ones. With
// weights w [K], logits z [K], label y and log-probabilities log p_k = z_k - logsumexp(z),
//
//   loss = -(1 - e) w_y log p_y - (e / K) sum_k w_k log p_k.
//
// Their sum over a batch divided by the sum of w_y is torch.nn.CrossEntropyLoss(weight=w,
// label_smoothing=e). The weights become frozen parameters "loss.*" of `params`.
// REQUIRES: the graph has the outputs "logits" [S,K] and "losses" [S,1] and the input "labels".
void WeightLosses(Graph* graph, ParamStore* params, const std::vector<double>& weights,
                  double smoothing);

}  // namespace graft
