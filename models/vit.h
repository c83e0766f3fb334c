// Vision transformers (Dosovitskiy et al. 2021, arXiv 2010.11929) as graphs.
#pragma once

#include "models/task.h"
#include "runtime/graph.h"
#include "runtime/params.h"

namespace graft {

struct VitConfig {
  int64_t image_size = 224, patch_size = 16, channels = 3;
  // mlp_width is the number of columns that fc2 reads; the fc1 of a gated MLP makes twice as many.
  int64_t width = 768, depth = 12, heads = 12, mlp_width = 3072, classes = 1000;
  double eps = 1e-6;         // of every layer norm
  std::string gelu = "erf";  // one of Activations() (transformer.h)
  // What the head reads. "token": the normalised class token. "mean": the mean of the patch rows
  // after the final norm. "mean_fc_norm": the mean of the patch rows, then the norm (timm's
  // global_pool="avg"). "distilled": two heads, on the class token and on the distillation token,
  // whose logits are averaged. "token_mean": the class token beside the mean of the patch rows
  // (transformers' Dinov2).
  std::string pool = "token";
  int64_t tokens = 1;     // in front of the patches: the class token, then a distillation token
  int64_t registers = 0;  // behind those: tokens that no head reads (Darcet et al. 2023)
  // Which rows have a position embedding. "all": all of them. "patches": those of patches alone
  // (timm's no_embed_class). "no_registers": all but the registers.
  std::string positions = "all";
  bool qkv_bias = true, patch_bias = true;
  bool pre_norm = false;     // a layer norm after the position embeddings (CLIP)
  bool layer_scale = false;  // see BlockShape, as is the next
  bool qk_norm = false;
  // What the logits say (task.h). This is no part of an architecture, so Visit leaves it out.
  std::string task = kClassify;
  bool operator==(const VitConfig&) const = default;
  static void Visit(auto& self, auto&& f) {
    f("image_size", self.image_size), f("patch_size", self.patch_size),
        f("channels", self.channels);
    f("width", self.width), f("depth", self.depth), f("heads", self.heads);
    f("mlp_width", self.mlp_width), f("classes", self.classes), f("eps", self.eps);
    f("gelu", self.gelu), f("pool", self.pool), f("tokens", self.tokens);
    f("registers", self.registers), f("positions", self.positions);
    f("qkv_bias", self.qkv_bias), f("patch_bias", self.patch_bias);
    f("pre_norm", self.pre_norm), f("layer_scale", self.layer_scale), f("qk_norm", self.qk_norm);
  }
  int64_t patches() const { return (image_size / patch_size) * (image_size / patch_size); }
  int64_t rows() const { return tokens + registers + patches(); }  // of one image
  // The rows of pos_embed that come before those of the patches.
  int64_t token_positions() const {
    return positions == "patches" ? 0 : positions == "all" ? tokens + registers : tokens;
  }
};

// Throws Error for sizes that do not fit each other (width not divisible by heads, ...), and for
// more patches than kMaxPatches: memory grows with them, and a few bytes of metadata could ask for
// any number.
inline constexpr int64_t kMaxImageSize = 4096, kMaxPatches = 1 << 16;
void CheckConfig(const VitConfig& config, const std::string& where);

// What a graph is built for. Dropout needs the input "rng" (see ops.h, Dropout).
struct VitBuild {
  bool loss = false;  // the input of TaskLosses and output "losses"
  double label_smoothing = 0;
  double drop_path = 0;  // rate of the last block; the first has 0
  int64_t seed = 0;      // of the drop-path streams
  // For images that are mixed in pairs: adds the inputs "labels_other" i32 [S] and "share" f32
  // [S,1], the weight of "labels" in the loss of classes. Targets need neither, as they are mixed
  // with the images.
  bool mixed = false;
};

// Inputs: image [S,3,H,W] (normalised), with `loss` labels i32 [S] or targets f32 [S,classes].
// Outputs: logits [S,classes], losses [S,1]. Parameters have canonical names, all frozen:
//   patch_embed.{weight [D,3PP],bias}, cls_token [1,D], dist_token [1,D], reg_token [registers,D],
//   pos_embed [token_positions+n,D], norm_pre.{weight,bias},
//   blocks.N.{norm1,norm2}.{weight,bias}, blocks.N.attn.{q,k,v,o}.{weight,bias},
//   blocks.N.attn.{q_norm,k_norm}.{weight,bias}, blocks.N.{ls1,ls2}.gamma,
//   blocks.N.mlp.{fc1,fc2}.{weight,bias}, norm.{weight,bias}, head.{weight,bias},
//   head.dist.{weight,bias}; each only where the configuration asks for it.
// Edges are named for methods, in block N: blocks.N.{x, a, c, o, x1, m, h, g, u, y} (block input,
// norm1, attention context, projection, first residual sum, norm2, fc1, activation, fc2, output).
Graph BuildVit(const VitConfig& config, const VitBuild& build = {});

// Gives seeded initial values (InitMissing, transformer.h) to what is missing.
void InitVit(const VitConfig& config, ParamStore& params, uint64_t seed);

// Resamples pos_embed [before+n*n, D] for another grid: the first `before` rows stay, the others
// are resampled bicubically. kAntialiased is what timm's resample_abs_pos_embed and transformers'
// dinov2_with_registers do, kPlain what transformers' dinov2 does.
enum class Resampling { kAntialiased, kPlain };
void ResizePositions(ParamStore& params, int64_t before, int64_t grid_from, int64_t grid_to,
                     Resampling how = Resampling::kAntialiased);

// The models under timm's names: vit_{nano,tiny,small,base,large}_patch{P}_{S}, such as
// "vit_base_patch16_224"; deit_..., deit_SIZE_distilled_...,
// deit3_{small,medium,base,large}_patch16_{S}; vit_{small,base,large,giant}_patch14[_reg4]_dinov2.
// Throws Error with the nearest name.
VitConfig VitByName(const std::string& name);
std::vector<std::string> VitNames();

}  // namespace graft
