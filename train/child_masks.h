// The fixed masks of childtuning(mode=d).
#pragma once
#include <optional>

#include "autograd/train_step.h"
#include "peft/method.h"
#include "train/batches.h"

namespace graft {

struct ChildMasks {
  double keep = 0.3;                 // the share of the parameters that trains
  std::vector<std::string> targets;  // the layers that have masks
  double clip = 1;                   // of a tensor's gradient
};

// What the method asks for, if it trains by masks that the training data decide.
std::optional<ChildMasks> WantedChildMasks(const Method& method);

// One pass over the examples in their order, with dropout but without a step: F = mean over the
// batches of g^2, g the gradient of a batch's mean loss with its norm clipped, tensor by tensor (Xu
// et al. 2021 and their code). Writes the masks kChildMask + NAME, F >= threshold, of the wanted
// layers' parameters in blocks, into `params`, where one percentile of all of them is the
// threshold: numpy's, with linear interpolation. Returns their names; throws Error if there are
// none. `loss_graph` has everything trainable.
std::vector<std::string> MakeChildMasks(const Graph& loss_graph, ParamStore& params,
                                        const ChildMasks& wanted, const Counts& capacity,
                                        int64_t batch_size, BatchSource& data);

// The value at position q (n - 1) of the sorted values, linearly between two; values are not
// negative. q from 0 to 1.
double Percentile(std::span<const std::span<const float>> values, double q);

}  // namespace graft
