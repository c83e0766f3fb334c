// Facts of an architecture that tensors do not tell: heads, eps, activation, pooling.
#pragma once
#include <nlohmann/json.hpp>

#include "models/files/checkpoint.h"
#include "models/files/timm_config.h"

namespace graft {

// What a checkpoint's config.json says: of transformers, or of a model directory of timm.
struct StatedConfig {
  std::string path;  // "" without one
  nlohmann::json json;
  std::optional<TimmConfig> timm;
};

// What the metadata, timm's config.json or --arch say of positions, for a file whose number of
// positions fits twice.
std::string StatedPositions(const LoadedModel& model, const StatedConfig& config,
                            const std::string& arch);

// Takes the facts of a model whose sizes are known from, in this order: config.json, the metadata
// graft.config, `arch` (--arch), a table by sizes. Each source goes into fact_source. Throws Error,
// naming --arch, for a fact that nobody tells, and where two disagree.
void TakeFacts(const TensorFile& file, const StatedConfig& config, const std::string& arch,
               LoadedModel* model);

// A notice with the facts that were assumed, since the file does not state them.
void NoteAssumed(LoadedModel* model);

}  // namespace graft
