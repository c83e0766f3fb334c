// Facts of an architecture that tensors do not tell: heads, eps, activation, pooling.
#pragma once
#include <nlohmann/json.hpp>

#include "models/files/checkpoint.h"
#include "models/files/timm_config.h"

namespace graft {

// What a checkpoint's config.json says, be it that of transformers or that of a model directory of
// timm.
struct StatedConfig {
  std::string path;  // "" without one
  nlohmann::json json;
  std::optional<TimmConfig> timm;
};

// What the metadata, timm's config.json or --arch say of positions, for a file whose number of
// positions fits two ways.
std::string StatedPositions(const LoadedModel& model, const StatedConfig& config,
                            const std::string& arch);

// Fills in the facts of a model whose sizes are known, from these sources in this order:
// config.json, the metadata graft.config, `arch` (--arch), a table by sizes. fact_source says which
// one told each. Throws Error, naming --arch, for a fact that nobody tells, and where two sources
// disagree.
void TakeFacts(const TensorFile& file, const StatedConfig& config, const std::string& arch,
               LoadedModel* model);

// Adds a notice of the facts that were assumed because the file does not state them.
void NoteAssumed(LoadedModel* model);

}  // namespace graft
