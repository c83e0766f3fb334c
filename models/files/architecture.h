// Which architecture a checkpoint is, and where each fact of it was found.
#pragma once
#include "models/files/checkpoint.h"

namespace graft {

// Fills layout, root, config, fact_source, hf_config, labels and notices of `model`. Facts come
// from these sources in this order: config.json, the file's metadata (graft.config), `arch`
// (--arch), the table of architectures by shape; an .npz of the original ViT has the usual eps and
// GELU. Throws Error that names --arch if none of them knows a fact, and Error for what is not
// supported.
void RecogniseArchitecture(const TensorFile& file, const std::string& arch, LoadedModel* model);

// Full names of tensors by which models are recognised, such as "cls_token".
std::vector<std::string> SignsOfModels();

// Parses the whole configuration as it is written to the metadata graft.config. Throws Error naming
// `where`.
ModelConfig ParseModelConfig(const std::string& text, const std::string& where);

}  // namespace graft
