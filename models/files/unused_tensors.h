// Tensors of a checkpoint that the model does not read: harmless ones, and those without which it
// would compute something else.
#pragma once
#include "models/files/checkpoint.h"

namespace graft {

// Why a tensor of so many numbers that no model of this kind needs may be left out, such as "a
// decoder's"; "" if it is not known to be harmless. `key` lacks the root of the model's names.
std::string HarmlessReason(const std::string& key, int64_t numbers, const LoadedModel& model);

// What the name of an unused tensor stands for, such as " (LayerScale)"; "" if that is not known.
std::string MeaningOf(const std::string& key);

// Throws Error naming the first tensor in ledger.unexpected that is not harmless, and its meaning.
void CheckUnused(const LoadedModel& model);

}  // namespace graft
