// Vision transformers (Dosovitskiy et al. 2021, arXiv 2010.11929) as graphs.
#pragma once
#include <map>

#include "runtime/graph.h"
#include "runtime/params.h"

namespace graft {

struct VitConfig {
  int64_t image_size = 224, patch_size = 16, channels = 3;
  int64_t width = 768, depth = 12, heads = 12, mlp_width = 3072, classes = 1000;
  double eps = 1e-6;         // of every layer norm
  std::string gelu = "erf";  // erf | tanh | relu
  // token: head on the normalised class token. mean: mean of the patch rows after the final norm.
  // mean_fc_norm: mean of the patch rows, then the norm (timm's global_pool="avg"). distilled: the
  // mean of two heads, on the class token and on the distillation token.
  std::string pool = "token";
  int64_t tokens = 1;  // in front of the patches: the class token, then a distillation token
  bool operator==(const VitConfig&) const = default;
  static void Visit(auto& self, auto&& f) {
    f("image_size", self.image_size), f("patch_size", self.patch_size),
        f("channels", self.channels);
    f("width", self.width), f("depth", self.depth), f("heads", self.heads);
    f("mlp_width", self.mlp_width), f("classes", self.classes), f("eps", self.eps);
    f("gelu", self.gelu), f("pool", self.pool), f("tokens", self.tokens);
  }
  int64_t patches() const { return (image_size / patch_size) * (image_size / patch_size); }
  int64_t rows() const { return tokens + patches(); }  // of one image
};

// Throws Error for sizes that do not fit each other (width not divisible by heads, ...).
// Memory grows with the patches, of which a few bytes of metadata may ask for any number.
inline constexpr int64_t kMaxImageSize = 4096, kMaxPatches = 1 << 16;
void CheckConfig(const VitConfig& config, const std::string& where);

// What a graph is built for. Dropping needs the inputs "rng" (see ops.h, Dropout).
struct VitBuild {
  bool loss = false;  // input "labels" and output "losses"
  double label_smoothing = 0;
  double drop_path = 0;  // rate of the last block; the first has 0
  int64_t seed = 0;      // of the drop-path streams
};

// Inputs: image [S,3,H,W] (normalised), labels i32 [S] with `loss`. Outputs: logits [S,classes],
// losses [S,1]. Parameters have canonical names, all frozen:
//   patch_embed.{weight [D,3PP],bias}, cls_token [1,D], dist_token [1,D], pos_embed [tokens+n,D],
//   blocks.N.{norm1,norm2}.{weight,bias}, blocks.N.attn.{q,k,v,o}.{weight,bias},
//   blocks.N.mlp.{fc1,fc2}.{weight,bias}, norm.{weight,bias}, head.{weight,bias},
//   head.dist.{weight,bias}; those of the distillation token only where there is one.
// Edges are named for methods, in block N: blocks.N.{x, a, c, o, x1, m, h, g, u, y} (block input,
// norm1, attention context, projection, first residual sum, norm2, fc1, activation, fc2, output).
Graph BuildVit(const VitConfig& config, const VitBuild& build = {});

// Seeded initial values (InitMissing, transformer.h) for what is missing.
void InitVit(const VitConfig& config, ParamStore& params, uint64_t seed);

// pos_embed [tokens+n*n, D] for another grid: the tokens' rows stay, the others are resampled
// bicubically with antialiasing as timm's resample_abs_pos_embed does.
void ResizePositions(ParamStore& params, int64_t grid_from, int64_t grid_to);

// vit_{nano,tiny,small,base,large}_patch{P}_{S}, deit_... and deit_SIZE_distilled_..., e.g.
// "vit_base_patch16_224". Throws Error with the nearest name.
VitConfig VitByName(const std::string& name);
std::vector<std::string> VitNames();

}  // namespace graft
