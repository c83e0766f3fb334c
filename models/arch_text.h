// Architectures as text, as --arch and init: take them: a name, or a description such as
// "vit(heads=8,gelu=tanh,pool=mean)".
#pragma once
#include "models/model.h"

namespace graft {

// What a text says of a model. A name says everything. A description says only what it gives; the
// rest of `config` is what models of the kind have by default.
struct ArchText {
  ModelConfig config;
  bool named = false;
  std::map<std::string, std::string> given;  // of a description: fields by name (Visit) and texts
};

// The keys of a description are the fields of VitConfig and BertConfig; mlp, patch and image stand
// for mlp_width, patch_size and image_size, and gelu and activation for one another. Throws Error
// that names an unknown key and those that are known.
ArchText ParseArch(const std::string& text);

// Sets the field of this name. Throws Error for a text that is no value of it.
void SetField(ModelConfig& config, const std::string& field, const std::string& text);
// Returns the field's value as text.
std::string FieldText(const ModelConfig& config, const std::string& field);

// Describes a model by every field that differs from the default; ParseArch reads it back.
std::string DescribeArch(const ModelConfig& config);

}  // namespace graft
