// Inputs of a graph of which only the time counts.
#pragma once
#include "models/model.h"
#include "runtime/session.h"

namespace graft {

// Fills what the session has of a worker's inputs: every image is the same noise, every text has
// `length` tokens (0 for images), labels run through the classes.
void FillWithNoise(Session& session, int64_t length, const ModelConfig& model, int worker);

}  // namespace graft
