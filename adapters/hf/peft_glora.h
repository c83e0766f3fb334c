// Adapters of peft's type GLORA: a form for A and B, one for C, one for D and E and one rank for
// all layers, each of which has parameters of its own.
//
//   MODULE.glora_A.Xd [out,r], .Xu [r,in]     lora        blocks.N.SITE.glora_a_down, _up
//   MODULE.glora_A.X [out,1], [1]             vector, constant          glora_a_down
//   MODULE.glora_C.Xd [in,r], .Xu [r,1], .X [in,1]                      glora_c_down, _up
//   MODULE.glora_D.X [out], [1]                                         glora_d
//   MODULE.glora_A.zeros                      none: as large as what is not there; never written
//
// What is read is glora(qkv=apart). Written are other terms, too: where parts have several forms or
// ranks, the smallest that holds all of them (a vector is a product with a row of ones, a smaller
// rank one with zeros behind), and what q, k and v share is given to each.
#pragma once
#include <optional>
#include <set>

#include "adapters/hf/peft_writer.h"

namespace graft {

// The part of a GLORA key behind its module, {"glora_A", "Xd"}: our parameter behind the scope,
// "glora_a_down"; "" for `zeros`; nothing for what is no such part.
std::optional<std::string> GloraPartName(std::string_view path, std::string_view leaf);

// The term of a config on these layers, and the parameters that it says with their shapes.
MethodTerm GloraTerm(const PeftConfig& config, bool has_bias, const std::string& targets);
std::map<std::string, std::vector<int64_t>> GloraShapes(const PeftConfig& config,
                                                        const HfModule& module, bool has_bias);

// The config's forms and rank for these terms, and for every layer whose GLoRA is among `trained`
// where it comes from. Throws Error for what peft cannot say.
void PlanGlora(const Method& method, const std::set<std::string>& trained, const HfNaming& naming,
               PeftConfig* config, std::vector<PeftPlan::Glora>* layers);

// The keys of a layer behind its module, and the names under which MakeGlora puts their values.
std::vector<PeftOnModel::Tensor> GloraTensors(const PeftConfig& config,
                                              const PeftPlan::Glora& layer);
void MakeGlora(const PeftConfig& config, const PeftPlan::Glora& layer, ParamStore* values);

}  // namespace graft
