#include "models/files/timm_names.h"

#include <algorithm>

namespace graft {
namespace {

// Architectures that share the facts in front of them, as timm 1.0 registers them; those whose
// tensors Graft refuses anyway (other attention, pooling by attention, RMS norms) are left out.
// Sizes do not tell these: "vit_base_patch16_gap_224" has 16 heads, and some of SigLIP's an
// approximate GELU where others of the same width have the exact one.
struct Group {
  int64_t heads;
  double eps;
  const char* gelu;
  std::string_view names;  // a space between two
};
constexpr Group kGroups[] = {
    {2, 1e-6, "erf", "test_vit test_vit2"},
    {3, 1e-6, "erf",
     "vit_tiny_patch16_224 vit_tiny_patch16_384 deit_tiny_patch16_224 "
     "deit_tiny_distilled_patch16_224"},
    {4, 1e-5, "erf", "vit_xsmall_patch16_clip_224"},
    {4, 1e-6, "erf", "vit_wee_patch16_reg1_gap_256"},
    {5, 1e-6, "erf", "vit_little_patch16_reg1_gap_256 vit_little_patch16_reg4_gap_256"},
    {6, 1e-6, "erf",
     "vit_small_patch32_224 vit_small_patch32_384 vit_small_patch16_224 vit_small_patch16_384 "
     "vit_small_patch8_224 vit_small_patch16_36x1_224 flexivit_small vit_small_patch14_dinov2 "
     "vit_small_patch14_reg4_dinov2 deit_small_patch16_224 deit_small_distilled_patch16_224 "
     "deit3_small_patch16_224 deit3_small_patch16_384"},
    {8, 1e-5, "erf", "vit_medium_patch32_clip_224 vit_medium_patch16_clip_224"},
    {8, 1e-6, "erf",
     "vit_medium_patch16_gap_240 vit_medium_patch16_gap_256 vit_medium_patch16_gap_384 "
     "vit_medium_patch16_reg1_gap_256 vit_medium_patch16_reg4_gap_256 "
     "vit_mediumd_patch16_reg4_gap_256 vit_mediumd_patch16_reg4_gap_384 deit3_medium_patch16_224"},
    {10, 1e-5, "erf", "vit_betwixt_patch32_clip_224"},
    {10, 1e-6, "erf",
     "vit_betwixt_patch16_gap_256 vit_betwixt_patch16_reg1_gap_256 "
     "vit_betwixt_patch16_reg4_gap_256 vit_betwixt_patch16_reg4_gap_384"},
    {12, 1e-5, "erf",
     "vit_base_patch32_clip_224 vit_base_patch32_clip_256 vit_base_patch32_clip_384 "
     "vit_base_patch32_clip_448 vit_base_patch16_clip_224 vit_base_patch16_clip_384"},
    {12, 1e-5, "quick", "vit_base_patch32_clip_quickgelu_224 vit_base_patch16_clip_quickgelu_224"},
    {12, 1e-6, "erf",
     "vit_base_patch32_224 vit_base_patch32_384 vit_base_patch16_224 vit_base_patch16_384 "
     "vit_base_patch8_224 vit_base_patch16_224_miil flexivit_base vit_base_patch14_dinov2 "
     "vit_base_patch14_reg4_dinov2 vit_base_patch14_reg1_tipsv2 vit_base_patch16_siglip_gap_224 "
     "vit_base_patch16_siglip_gap_256 vit_base_patch16_siglip_gap_384 "
     "vit_base_patch16_siglip_gap_512 vit_base_patch16_reg4_gap_256 deit_base_patch16_224 "
     "deit_base_patch16_384 deit_base_distilled_patch16_224 deit_base_distilled_patch16_384 "
     "deit3_base_patch16_224 deit3_base_patch16_384"},
    {12, 1e-6, "tanh", "vit_base_patch32_siglip_gap_256"},
    {13, 1e-6, "erf",
     "vit_so150m2_patch16_reg1_gap_256 vit_so150m2_patch16_reg1_gap_384 "
     "vit_so150m2_patch16_reg1_gap_448"},
    {14, 1e-5, "erf", "vit_base_patch16_plus_clip_240"},
    {14, 1e-6, "erf",
     "vit_base_patch32_plus_256 vit_base_patch16_plus_240 vit_so150m_patch16_reg4_gap_256 "
     "vit_so150m_patch16_reg4_gap_384"},
    {16, 1e-5, "erf",
     "vit_large_patch14_clip_224 vit_large_patch14_clip_336 vit_huge_patch14_clip_224 "
     "vit_huge_patch14_clip_336 vit_huge_patch14_clip_378 vit_giant_patch14_clip_224 "
     "vit_gigantic_patch14_clip_224 vit_gigantic_patch14_clip_378"},
    {16, 1e-5, "quick",
     "vit_large_patch14_clip_quickgelu_224 vit_large_patch14_clip_quickgelu_336 "
     "vit_huge_patch14_clip_quickgelu_224 vit_huge_patch14_clip_quickgelu_378 "
     "vit_gigantic_patch14_clip_quickgelu_224"},
    {16, 1e-6, "erf",
     "vit_large_patch32_224 vit_large_patch32_384 vit_large_patch16_224 vit_large_patch16_384 "
     "vit_large_patch14_224 vit_huge_patch14_224 vit_giant_patch14_224 vit_gigantic_patch14_224 "
     "vit_base_patch16_gap_224 vit_huge_patch14_gap_224 vit_huge_patch16_gap_448 "
     "vit_giant_patch16_gap_224 eva_large_patch14_196 eva_large_patch14_336 flexivit_large "
     "vit_large_patch14_dinov2 vit_large_patch14_reg4_dinov2 vit_large_patch14_reg1_tipsv2 "
     "vit_so400m_patch14_reg1_tipsv2 vit_large_patch16_siglip_gap_256 "
     "vit_large_patch16_siglip_gap_384 vit_so400m_patch14_siglip_gap_224 "
     "vit_so400m_patch14_siglip_gap_378 vit_so400m_patch14_siglip_gap_384 "
     "vit_so400m_patch14_siglip_gap_448 vit_so400m_patch14_siglip_gap_896 "
     "deit3_large_patch16_224 deit3_large_patch16_384 deit3_huge_patch14_224"},
    {16, 1e-6, "tanh",
     "vit_large_patch16_siglip_gap_512 vit_so400m_patch16_siglip_gap_256 "
     "vit_so400m_patch16_siglip_gap_384 vit_so400m_patch16_siglip_gap_512 "
     "vit_giantopt_patch16_siglip_gap_256 vit_giantopt_patch16_siglip_gap_384"},
    {24, 1e-6, "swiglu",
     "vit_giant_patch14_dinov2 vit_giant_patch14_reg4_dinov2 vit_giant_patch14_reg1_tipsv2"},
};

// Before 0.9 the name ended with that of the weights.
constexpr std::string_view kOldTags[] = {"_in21k", "_sam", "_dino", "_clip_laion2b"};

bool Lists(std::string_view names, std::string_view name) {
  for (size_t begin = 0; begin < names.size();) {
    const size_t end = std::min(names.find(' ', begin), names.size());
    if (names.substr(begin, end - begin) == name) return true;
    begin = end + 1;
  }
  return false;
}

}  // namespace

std::optional<TimmFacts> FactsOfTimmName(std::string_view name) {
  for (const Group& group : kGroups)
    if (Lists(group.names, name)) return TimmFacts{group.heads, group.eps, group.gelu};
  for (const std::string_view tag : kOldTags) {
    if (!name.ends_with(tag)) continue;
    std::string now(name.substr(0, name.size() - tag.size()));
    if (tag.starts_with("_clip"))
      if (const size_t image = now.rfind('_'); image != now.npos) now.insert(image, "_clip");
    return FactsOfTimmName(now);
  }
  return {};
}

std::string OtherBlocksOfTimm(std::string_view name) {
  if (name.find("_rpn_") == name.npos) return "";
  return "its norms stand behind attention and MLP, where Graft's blocks have them in front";
}

}  // namespace graft
