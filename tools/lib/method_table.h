// What `graft inspect --methods` says about methods; everything comes from their records.
#pragma once
#include <nlohmann/json.hpp>

#include "tools/lib/method_facts.h"

namespace graft {

struct MethodQuery {
  std::string term;   // "lora", "lora(r=4)", or "" for all methods as they are by default
  std::string model;  // what they are shown on: its name and the model itself, or the built-in ones
  const LoadedModel* loaded = nullptr;
};

// Returns {"methods": [{name, summary, equation, ...}]} (docs/cli.md). Throws Error (kUsage) with
// the nearest name.
nlohmann::json MethodsJson(const MethodQuery& query);
// Writes a line for each method, or a page about the one that is named.
std::string MethodsText(const MethodQuery& query);

}  // namespace graft
