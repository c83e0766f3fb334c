#include "adapters/hf/peft_keys.h"

#include <algorithm>

#include "adapters/hf/peft_glora.h"
#include "runtime/words.h"

namespace graft {
namespace {

PeftKey WholePart(const HfNaming& naming, const std::vector<std::string>& path) {
  const std::string& part = path.back();
  if (part != "weight" && part != "bias") return {};
  return {naming.FindName(fmt::format("{}", fmt::join(path.begin(), path.end() - 1, "."))), part};
}

// MODULE.glora_A.Xd, and with the adapter's name MODULE.glora_A.default.Xd.
PeftKey GloraNamed(const HfNaming& naming, const std::vector<std::string>& path, int64_t at) {
  const int64_t behind = std::ssize(path) - at - 1;
  if (behind != 1 && behind != 2) return {};
  const std::optional<std::string> part = GloraPartName(path[at], path.back());
  const std::string module = fmt::format("{}", fmt::join(path.begin(), path.begin() + at, "."));
  if (!part) return {};
  return {naming.FindName(module), part->empty() ? kZerosPart : *part};
}

}  // namespace

PeftKey FindPeftKey(const HfNaming& naming, std::string_view key) {
  if (!key.starts_with(kPeftRoot)) return {};
  std::vector<std::string> path = SplitAt(key.substr(kPeftRoot.size()), '.');
  const auto glora = std::ranges::find_if(
      path, [](const std::string& part) { return part.starts_with("glora_"); });
  if (glora != path.end()) return GloraNamed(naming, path, glora - path.begin());
  constexpr std::string_view kWrappers[] = {"lora_A",     "lora_B",          "ln_tuning_layers",
                                            "base_layer", "modules_to_save", "original_module"};
  const auto wrapper = std::ranges::find_first_of(path, kWrappers);
  if (wrapper == path.end()) return WholePart(naming, path);
  const std::string kind = *wrapper;
  auto inner = path.erase(wrapper);
  PeftKey named = WholePart(naming, path);
  if (!named.module && kind != "base_layer" && kind != "original_module" && inner != path.end()) {
    path.erase(inner);
    if (path.size() > 1) named = WholePart(naming, path);
  }
  const bool lora = kind == "lora_A" || kind == "lora_B";
  if (!named.module || (named.part == "bias" && lora) ||
      (named.part == "weight" && kind == "base_layer"))
    return {};
  if (lora) named.part = kind == "lora_A" ? "lora_a" : "lora_b";
  if (kind == "original_module") named.part.clear();
  return named;
}

}  // namespace graft
