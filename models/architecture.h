// Which architecture a checkpoint is, and where each fact of it was found.
#pragma once
#include "models/checkpoint.h"

namespace graft {

// Fills layout, prefix, config, fact_source, hf_config and labels of `model`. Facts come from, in
// this order: config.json, the file's metadata (graft.config), `arch` (--arch), the table of
// architectures by shape. Throws Error that names --arch if none knows, and for what is not
// supported.
void RecogniseArchitecture(const SafetensorsModel& file, const std::string& arch,
                           LoadedModel* model);

}  // namespace graft
