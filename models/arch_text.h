// Architectures as text, as --arch and init: take them: a name, or a description such as
// "vit(heads=8,gelu=tanh,pool=mean)".
#pragma once
#include "models/model.h"

namespace graft {

// What a text says of a model. A name says everything; a description only what it gives, the rest
// of `config` is what the kind has by default.
struct ArchText {
  ModelConfig config;
  bool named = false;
  std::map<std::string, std::string> given;  // of a description: fields by name (Visit) and texts
};

// Keys of a description are the fields of VitConfig and BertConfig; mlp, patch, image stand for
// mlp_width, patch_size, image_size, and gelu and activation for one another. Throws Error naming
// the key, with those that are known.
ArchText ParseArch(const std::string& text);

// Sets the field of this name. Throws Error for a text that is no value of it.
void SetField(ModelConfig& config, const std::string& field, const std::string& text);
// The field's value as text.
std::string FieldText(const ModelConfig& config, const std::string& field);

// The description, with every field that is not as by default; ParseArch reads it back.
std::string DescribeArch(const ModelConfig& config);

}  // namespace graft
