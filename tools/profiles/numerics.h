// What a precision below f32 does to the numbers of a step: its gradients and logits beside those
// of f32, for the same parameters and inputs.
#pragma once
#include "tools/profiles/measure.h"

namespace graft {

// The distance of a tensor's gradient g from g0, that of f32.
struct GradientDistance {
  std::string tensor;   // or layer; as in the store, of late gradients as their states are named
  double cosine = 1;    // g g0 / (|g| |g0|); 1 if both are zero, 0 if one is
  double norm = 1;      // |g| / |g0|
  double relative = 0;  // |g - g0| / |g0|
  double share = 0;     // |g0|^2 of all tensors'
};

struct Numerics {
  std::string dtype;  // of the products
  // The smallest cosine comes first; empty for inference. The gradient of a layer is that of all
  // its tensors as one vector.
  std::vector<GradientDistance> gradients, layers;
  double cosine = 1;              // of all gradients as one vector
  double loss = 0, loss_f32 = 0;  // of a batch; 0 of inference
  double logits_relative = 0;     // |y - y0| / |y0| of the batch
  double logits_worst = 0;        // the largest difference over the range of y0
  double same_class = 1;          // share of rows with the same largest logit
};

// Throws Error (kUsage) where --dtype leaves products in f32.
void CheckNumerics(const CommonOptions& common);
// Measures after training a few steps in f32, so that no branch is at its zero.
Numerics MeasureNumerics(const ProfileWork& work, const CommonOptions& common, LoadedModel& model);

std::string LogitsText(const Numerics& numerics);  // a line
std::string LossText(const Numerics& numerics);    // of the loss and all gradients; "" of inference
// Both write the first `top` layers and tensors.
std::string NumericsText(const Numerics& numerics, int64_t top);
nlohmann::json NumericsJson(const Numerics& numerics);

}  // namespace graft
