// What `graft inspect` says about methods, from their records.
#pragma once
#include <nlohmann/json.hpp>

#include "peft/method.h"

namespace graft {

nlohmann::json MethodsJson(const std::string& name);  // "" = all; Error with the nearest name
std::string MethodsText(const std::string& name);

// Trainable parameters by role, equal ones of all blocks together ("blocks.*.attn.q.lora_a").
struct TrainableGroup {
  std::string name;
  std::string shape;
  int64_t tensors = 0, numbers = 0;
};
std::vector<TrainableGroup> TrainableGroups(const Graph& g);

int64_t ParameterCount(const Graph& g);  // trainable or not

}  // namespace graft
