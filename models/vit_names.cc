// Lists the architectures that have a name: VitByName and VitNames of vit.h.
#include <algorithm>
#include <cstdio>

#include "models/vit.h"

namespace graft {
namespace {

struct VitSize {
  const char* name;
  int64_t width, depth, heads;
};
constexpr VitSize kNano{"nano", 64, 4, 4}, kTiny{"tiny", 192, 12, 3}, kSmall{"small", 384, 12, 6},
    kMedium{"medium", 512, 12, 8}, kBase{"base", 768, 12, 12}, kLarge{"large", 1024, 24, 16},
    kHuge{"huge", 1280, 32, 16}, kGiant{"giant", 1536, 40, 24};

void Distilled(VitConfig& c) { c.tokens = 2, c.pool = "distilled"; }
// DeiT III: Touvron et al. 2022, arXiv 2204.07118.
void Deit3(VitConfig& c) { c.positions = "patches", c.layer_scale = true; }
// DINOv2: Oquab et al. 2023, arXiv 2304.07193. The giant has a gated MLP, two thirds as wide.
void Dino(VitConfig& c) {
  c.layer_scale = true;
  if (c.width == kGiant.width) c.gelu = "swiglu", c.mlp_width = 4096;
}
void DinoWithRegisters(VitConfig& c) { Dino(c), c.registers = 4, c.positions = "patches"; }
// CLIP: Radford et al. 2021, arXiv 2103.00020.
void Clip(VitConfig& c) { c.pre_norm = true, c.patch_bias = false, c.eps = 1e-5; }
void ClipOfOpenAi(VitConfig& c) { Clip(c), c.gelu = "quick"; }

// Names are begin + SIZE + end, where "#" in the end stands for a number: first the patch size,
// then the image size. Where a name has one number only, the image size is the one given here.
struct VitFamily {
  const char *begin, *end;
  std::vector<VitSize> sizes;
  int64_t image;
  std::vector<std::pair<int64_t, int64_t>> listed;  // patches and images of VitNames
  void (*change)(VitConfig&);
};

const std::vector<VitFamily>& Families() {
  const auto plain = [](VitConfig&) {};
  static const std::vector<VitFamily> kFamilies{
      {"vit_",
       "_patch#_#",
       {kNano, kTiny, kSmall, kBase, kLarge},
       0,
       {{16, 224}, {32, 224}, {8, 224}, {16, 384}, {4, 32}, {8, 64}},
       plain},
      {"deit_", "_patch#_#", {kTiny, kSmall, kBase}, 0, {{16, 224}}, plain},
      {"deit_", "_distilled_patch#_#", {kTiny, kSmall, kBase}, 0, {{16, 224}}, Distilled},
      {"deit3_", "_patch#_#", {kSmall, kMedium, kBase, kLarge}, 0, {{16, 224}, {16, 384}}, Deit3},
      {"vit_", "_patch#_dinov2", {kSmall, kBase, kLarge, kGiant}, 518, {{14, 518}}, Dino},
      {"vit_",
       "_patch#_reg4_dinov2",
       {kSmall, kBase, kLarge, kGiant},
       518,
       {{14, 518}},
       DinoWithRegisters},
      {"vit_",
       "_patch#_clip_#",
       {kBase, kLarge, kHuge},
       0,
       {{16, 224}, {32, 224}, {14, 224}},
       Clip},
      {"vit_",
       "_patch#_clip_quickgelu_#",
       {kBase, kLarge, kHuge},
       0,
       {{16, 224}, {32, 224}, {14, 224}},
       ClipOfOpenAi},
  };
  return kFamilies;
}

std::string Written(const VitFamily& family, const VitSize& size, int64_t patch, int64_t image) {
  std::string name = std::string(family.begin) + size.name + family.end;
  for (const int64_t number : {patch, image})
    if (const size_t hash = name.find('#'); hash != std::string::npos)
      name.replace(hash, 1, std::to_string(number));
  return name;
}

// Reads the numbers in a name of this family and size; returns false for other names.
bool Numbers(const VitFamily& family, const VitSize& size, const std::string& name, int64_t* patch,
             int64_t* image) {
  std::string format = std::string(family.begin) + size.name + family.end;
  for (size_t hash; (hash = format.find('#')) != std::string::npos;)
    format.replace(hash, 1, "%9ld");
  *image = family.image;
  std::sscanf(name.c_str(), format.c_str(), patch, image);
  return Written(family, size, *patch, *image) == name;
}

}  // namespace

std::vector<std::string> VitNames() {
  std::vector<std::string> names;
  for (const VitFamily& family : Families())
    for (const VitSize& size : family.sizes)
      for (const auto& [patch, image] : family.listed)
        names.push_back(Written(family, size, patch, image));
  return names;
}

VitConfig VitByName(const std::string& name) {
  for (const VitFamily& family : Families())
    for (const VitSize& size : family.sizes) {
      int64_t patch = 0, image = 0;
      if (!Numbers(family, size, name, &patch, &image)) continue;
      VitConfig c{.image_size = image,
                  .patch_size = patch,
                  .width = size.width,
                  .depth = size.depth,
                  .heads = size.heads,
                  .mlp_width = 4 * size.width};
      family.change(c);
      CheckConfig(c, name);
      return c;
    }
  Fail("no architecture '{}'{}", name, DidYouMean(name, VitNames()));
}

}  // namespace graft
