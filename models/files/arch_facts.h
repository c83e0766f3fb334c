// Facts of an architecture that tensors do not tell: heads, eps, activation, pooling.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "models/files/checkpoint.h"

namespace graft {

// What the metadata or --arch say of positions, for a file whose number of positions fits twice.
std::string StatedPositions(const LoadedModel& model, const std::string& arch);

// Takes the facts of a model whose sizes are known from, in this order: config.json (`config_path`
// is
// "" without one), the metadata graft.config, `arch` (--arch), a table by sizes. Each source goes
// into fact_source. Throws Error, naming --arch, for a fact that nobody tells, and where two
// disagree.
void TakeFacts(const std::string& config_path, const nlohmann::json& config,
               const std::string& arch, LoadedModel* model);

// A notice with the facts that were assumed, since the file does not state them.
void NoteAssumed(LoadedModel* model);

}  // namespace graft
