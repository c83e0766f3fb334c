// What timm's names of vision transformers say that tensors do not.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace graft {

struct TimmFacts {
  int64_t heads = 0;
  double eps = 0;
  std::string gelu;  // one of Activations()
};

// `name` is without the tag of its weights: "vit_large_patch14_clip_quickgelu_224". Returns nothing
// for a name that is not in timm's vision_transformer.py and deit.py, as an own architecture may
// have any heads.
std::optional<TimmFacts> FactsOfTimmName(std::string_view name);

// Why the blocks of this architecture are not those that Graft builds, although their tensors have
// the same names and shapes; "" for all others.
std::string OtherBlocksOfTimm(std::string_view name);

}  // namespace graft
