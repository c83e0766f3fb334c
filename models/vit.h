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
  std::string gelu = "erf";  // erf | tanh
  // token: head on the normalised class token. mean: mean of the patch rows after the final norm.
  // mean_fc_norm: mean of the patch rows, then the norm (timm's global_pool="avg").
  std::string pool = "token";
  bool operator==(const VitConfig&) const = default;
  static void Visit(auto& self, auto&& f) {
    f("image_size", self.image_size), f("patch_size", self.patch_size),
        f("channels", self.channels);
    f("width", self.width), f("depth", self.depth), f("heads", self.heads);
    f("mlp_width", self.mlp_width), f("classes", self.classes), f("eps", self.eps);
    f("gelu", self.gelu), f("pool", self.pool);
  }
  int64_t patches() const { return (image_size / patch_size) * (image_size / patch_size); }
};

// Throws Error for sizes that do not fit each other (width not divisible by heads, ...).
void CheckConfig(const VitConfig& config, const std::string& where);

// What a graph is built for. Dropping needs the inputs "rng" (see ops.h, Dropout).
struct VitBuild {
  bool loss = false;  // input "labels" and output "losses"
  double label_smoothing = 0;
  double drop_path = 0;  // rate of the last block; the first has 0 (methods.md 0.1)
  int64_t seed = 0;      // of the drop-path streams
};

// Inputs: image [S,3,H,W] (normalised), labels i32 [S] with `loss`. Outputs: logits [S,classes],
// losses [S,1]. Parameters have canonical names, all frozen:
//   patch_embed.{weight [D,3PP],bias}, cls_token [1,D], pos_embed [1+n,D],
//   blocks.N.{norm1,norm2}.{weight,bias}, blocks.N.attn.{q,k,v,o}.{weight,bias},
//   blocks.N.mlp.{fc1,fc2}.{weight,bias}, norm.{weight,bias}, head.{weight,bias}.
// Edges are named for methods, in block N: blocks.N.{x, a, c, o, x1, m, h, g, u, y} (block input,
// norm1, attention context, projection, first residual sum, norm2, fc1, activation, fc2, output).
Graph BuildVit(const VitConfig& config, const VitBuild& build = {});

// Truncated normal 0.02 for matrices and tokens, gains 1, biases 0; only what is missing.
void InitVit(const VitConfig& config, ParamStore& params, uint64_t seed);
// The head alone, replacing what is there: trunc_normal(0.02), bias 0 (stream "head.weight").
void ResetHead(ParamStore& params, int64_t width, int64_t classes, uint64_t seed);

// pos_embed [1+n*n, D] for another grid: the class row stays, the others are resampled bicubically
// with antialiasing as timm's resample_abs_pos_embed does.
void ResizePositions(ParamStore& params, int64_t grid_from, int64_t grid_to);

// vit_{nano,tiny,small,base,large}_patch{P}_{S} and deit_..., e.g. "vit_base_patch16_224". Throws
// Error with the nearest name.
VitConfig VitByName(const std::string& name);
std::vector<std::string> VitNames();

}  // namespace graft
