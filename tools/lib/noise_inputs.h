// Inputs for a graph that is only timed.
#pragma once
#include "models/model.h"
#include "runtime/session.h"

namespace graft {

// Fills those of a worker's inputs that the session has: every image is the same noise, every text
// has `length` tokens (0 for images), and labels run through the classes.
void FillWithNoise(Session& session, int64_t length, const ModelConfig& model, int worker);

}  // namespace graft
