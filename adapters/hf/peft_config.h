// adapter_config.json of Hugging Face peft: the fields that change what an adapter computes. Every
// other field must have a value that changes nothing, or reading fails and names it.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "adapters/hf/module_match.h"
#include "models/files/hf_modules.h"

namespace graft {

struct PeftConfig {
  // LORA | LN_TUNING | GLORA | PROMPT_TUNING | P_TUNING | PREFIX_TUNING
  std::string type = "LORA";
  std::string task_type;  // "" = null
  std::string base;       // base_model_name_or_path
  ModuleSpec target;
  bool all_linear = false;  // target_modules = "all-linear"
  ModuleSpec exclude;
  std::vector<std::string> modules_to_save;

  // GLORA only, beside r: the forms of A and B, of C, of D and E; lora, vector, constant or none.
  struct Glora {
    std::string ab = "lora", c = "lora", de = "constant";
  } glora;

  // PROMPT_TUNING, P_TUNING and PREFIX_TUNING only. Sizes of the model; 0: not told, then peft asks
  // it.
  struct Prompt {
    int64_t tokens = 0, width = 0, layers = 0;
  } prompt;

  // LORA only, and r of GLORA, too. Patterns are regular expressions on module names.
  int64_t r = 8;
  double alpha = 8, dropout = 0;
  bool rslora = false;
  std::string bias = "none";  // none | lora_only | all
  std::map<std::string, double> rank_pattern, alpha_pattern;
  std::vector<int64_t> layers;  // layers_to_transform; empty = all
  std::vector<std::string> layers_pattern;
};

PeftConfig ReadPeftConfig(const std::string& path);
nlohmann::json ToJson(const PeftConfig& config, const HfClass& of);

// The config's fields as questions about a module. Errors name `path` and the field.
class PeftSelector {
 public:
  PeftSelector(const PeftConfig& config, const std::string& path);

  // target_modules, without those that exclude_modules or modules_to_save take out. `linear`: a
  // dense layer, which is what "all-linear" chooses; the head of a SEQ_CLS model is not.
  bool Targets(const HfModule& module, bool linear) const;
  bool Saves(const HfModule& module) const;  // modules_to_save
  int64_t Rank(const HfModule& module) const;
  double Alpha(const HfModule& module) const;

 private:
  struct Pattern {
    std::string text;
    Regex regex;
    double value;
  };
  bool InLayers(std::string_view name) const;
  double Value(const std::vector<Pattern>& patterns, const HfModule& module, double otherwise,
               const char* field) const;

  const PeftConfig& config_;
  std::string path_;
  ModuleMatcher target_, exclude_;
  std::vector<Regex> layers_, saved_;
  std::vector<Pattern> ranks_, alphas_;
};

}  // namespace graft
