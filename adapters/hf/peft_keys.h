// The keys of adapter_model.safetensors, but for those of prompts (peft_prompt.h).
#pragma once
#include <string_view>

#include "models/files/hf_modules.h"

namespace graft {

inline constexpr std::string_view kPeftRoot = "base_model.model.";  // of every key
inline constexpr const char* kZerosPart = "zeros";

// What a key names: a module, and the part of our layer that the tensor is; "" is the base's own
// frozen copy, kZerosPart what GLORA has of a part that is off.
struct PeftKey {
  const HfModule* module = nullptr;  // null for a key that names nothing
  std::string part;
};

// peft leaves the adapter's name ("default") out of its keys, but for what `bias="all"` finds
// inside of a container that is saved whole, and other programs keep it everywhere.
PeftKey FindPeftKey(const HfNaming& naming, std::string_view key);

}  // namespace graft
