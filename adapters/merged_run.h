// What a run has made of its base, for methods that go on from it.
#pragma once
#include "models/model.h"
#include "runtime/params.h"

namespace graft {

// The SHA-256 of the weights that a run stands for (UsualCheckpoint).
std::string HashOfRunWeights(const std::string& run);

// Reads the tensors of these weights. Throws Error if they do not have the hash, unless that
// is "".
ParamStore RunWeights(const std::string& run, const std::string& sha256);

// The parameters of `base`, a model of `config`, with the run's weights merged into them; the
// head is the run's. Throws Error for a run whose method does not fold or whose architecture is
// another, and for weights that do not have the hash, unless that is "".
ParamStore MergedRun(const ModelConfig& config, const std::string& run, const std::string& sha256,
                     const ParamStore& base);

}  // namespace graft
