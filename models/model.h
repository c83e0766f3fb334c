// Any model that the library knows, and what is done with one whatever its kind.
#pragma once
#include <map>
#include <variant>

#include "models/bert.h"
#include "models/vit.h"

namespace graft {

using ModelConfig = std::variant<VitConfig, BertConfig>;

// Returns the model of an architecture name, such as "vit_base_patch16_224" or "bert_base", or of a
// description, such as "vit(width=64,depth=2,heads=4,mlp=256)" (arch_text.h). Throws Error with the
// nearest name.
ModelConfig ModelByName(const std::string& name);
std::vector<std::string> ModelNames();
// The name of the table's entry that agrees in sizes (classes, eps, activation and pooling may
// differ), or else a description that ModelByName reads.
std::string ArchitectureName(const ModelConfig& config);

std::string SizesText(const ModelConfig& config);  // "width 384, depth 6, mlp 1536"

void CheckConfig(const ModelConfig& config, const std::string& where);
int64_t& Classes(ModelConfig& config);
int64_t Classes(const ModelConfig& config);
// What the model's logits say (task.h).
std::string& TaskOf(ModelConfig& config);
const std::string& TaskOf(const ModelConfig& config);

// What a graph with logits is built for, whatever the model's kind; see VitBuild and BertBuild.
struct ModelBuild {
  bool loss = false;
  double label_smoothing = 0, drop_path = 0;
  int64_t seed = 0;
  bool mixed = false;
};
// Throws Error for drop path and mixed images on a BERT.
Graph BuildModel(const ModelConfig& config, const ModelBuild& build = {});
void InitModel(const ModelConfig& config, ParamStore& params, uint64_t seed);
// The shapes of all parameters that a model of this kind can have. For a BERT these include the
// pooler and the masked-LM head, which a graph with another head does not read.
std::map<std::string, Extents> ParamShapes(const ModelConfig& config);

}  // namespace graft
