// The modules of the Hugging Face model that a checkpoint is, by name: what peft's adapters speak
// of, whatever layout the checkpoint itself came in.
#pragma once
#include "models/files/checkpoint.h"

namespace graft {

struct HfModule {
  std::string name;                     // "vit.encoder.layer.0.attention.attention.query"
  std::string scope;                    // "blocks.0.attn.q"
  std::vector<std::string> parameters;  // "weight", "bias"
  std::vector<int64_t> weight_shape;    // in the file: of rank 2 dense, 4 convolution, 1 norm
};

// What peft's config says of the model's class.
struct HfClass {
  std::string_view task_type;  // "" = null: peft knows no task for images
  std::string_view name, library;
};

// One way to name the modules. transformers 5 renamed those of ViT and DeiT in memory and in
// adapters (`vit.layers.0.attention.q_proj`), but kept the old names in checkpoints; it did not
// rename those of BERT.
struct HfNaming {
  int transformers = 0;  // 4 or 5; 0 = every release
  HfClass of;
  std::vector<HfModule> modules;

  const HfModule* FindName(std::string_view name) const;
  const HfModule* FindScope(std::string_view scope) const;
};

// Every naming that an adapter for this model may use, the likeliest first.
std::vector<HfNaming> HfNamings(const LoadedModel& model);
// The naming that a release of transformers (4 or 5) uses for the whole classifier.
HfNaming HfNamingFor(const LoadedModel& model, int transformers);
// What the classifier's keys of the backbone begin with: "vit.", "deit." or "bert.".
std::string_view HfRootFor(const LoadedModel& model);

}  // namespace graft
