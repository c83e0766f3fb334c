// Writing an adapter that Hugging Face peft loads: the other direction of hf_peft.h.
#pragma once
#include <optional>

#include "adapters/hf/peft_reader.h"

namespace graft {

// The config and the tensors, each file key with the parameter that goes there, sorted by key.
struct PeftPlan {
  PeftConfig config;
  HfNaming naming;
  std::vector<PeftOnModel::Tensor> tensors;
  // Layers with a LoRA that are saved whole, which peft's own LoRA cannot be: they are written as
  // W + scale B A.
  struct Fold {
    std::string scope;
    double scale;
  };
  std::vector<Fold> folds;
  std::optional<HfModule> zero_lora;  // a layer that gets a LoRA of rank 1 that is zero
  // Parameters [P,D] that are written beside each other, as "prompt_embeddings" (peft_prompt.h).
  std::vector<std::string> columns;
  // Layers with a GLoRA, whose parameters have the names `owner`.glora_* (peft_glora.h).
  struct Glora {
    HfModule module;
    std::string owner;  // the module's scope, or "blocks.0.attn.qkv"
    bool has_bias = true;
  };
  std::vector<Glora> glora;
  // What peft writes twice, of an adapter that came from there; the bytes belong to others.
  std::vector<TensorToWrite> copies;
};

// `trained` are the parameters that belong to the adapter, under canonical names. Throws Error for
// what peft cannot express, naming the format that can.
PeftPlan PlanPeft(const Method& method, const std::vector<std::string>& trained,
                  const HfNaming& naming, const std::string& base);

// Creates the directory with adapter_config.json and adapter_model.safetensors.
void WritePeft(const std::string& directory, const PeftPlan& plan, const ParamStore& params,
               const StringMap& metadata);

}  // namespace graft
