#include "models/vit.h"

#include <algorithm>

#include "models/transformer.h"
#include "ops/row_sets.h"

namespace graft {

void CheckConfig(const VitConfig& c, const std::string& where) {
  auto positive = [&](const char* name, int64_t value, int64_t most) {
    if (value < 1 || value > most) Fail("{}: {} = {}, expected 1 to {}", where, name, value, most);
  };
  positive("image_size", c.image_size, kMaxImageSize);
  positive("patch_size", c.patch_size, c.image_size);
  positive("channels", c.channels, 3);
  positive("width", c.width, 65536);
  positive("depth", c.depth, 1024);
  positive("heads", c.heads, c.width);
  positive("mlp_width", c.mlp_width, 1 << 20);
  positive("classes", c.classes, 1 << 20);
  if (c.width % c.heads) Fail("{}: width {} is not divisible by {} heads", where, c.width, c.heads);
  if (c.image_size % c.patch_size)
    Fail("{}: image size {} is not divisible by patch size {}", where, c.image_size, c.patch_size);
  if (const int64_t side = c.image_size / c.patch_size; side * side > kMaxPatches)
    Fail("{}: images of {}x{} pixels are {} patches of {}x{}, expected at most {}", where,
         c.image_size, c.image_size, side * side, c.patch_size, c.patch_size, kMaxPatches);
  if (!(c.eps > 0 && c.eps < 1))
    Fail("{}: eps = {}, expected a small positive number", where, c.eps);
  CheckActivation(c.gelu, where);
  const auto one_of = [&](const char* name, const std::string& value,
                          const std::vector<std::string>& words) {
    if (std::ranges::find(words, value) == words.end())
      Fail("{}: {} '{}'; known: {}", where, name, value, fmt::join(words, ", "));
  };
  one_of("pool", c.pool, {"token", "mean", "mean_fc_norm", "distilled", "token_mean"});
  one_of("positions", c.positions, {"all", "patches", "no_registers"});
  if (c.tokens < 0 || c.tokens > 2) Fail("{}: tokens = {}, expected 0 to 2", where, c.tokens);
  if (c.registers < 0 || c.registers > 1024)
    Fail("{}: registers = {}, expected 0 to 1024", where, c.registers);
  if (c.pool == "distilled" && c.tokens != 2)
    Fail(
        "{}: pool 'distilled', the mean of two heads (head_dist.weight, head_dist.bias is the "
        "second), needs a distillation token (tokens = 2)",
        where);
  if (c.tokens == 0 && !c.pool.starts_with("mean"))
    Fail("{}: pool '{}' needs a class token; expected mean or mean_fc_norm", where, c.pool);
}

namespace {

class VitBuilder {
 public:
  VitBuilder(const VitConfig& config, const VitBuild& build) : c_(config), b_(build) {}

  Graph Build() {
    const ValueId image = g_.AddInput(
        "image", {DType::kF32, {Dim::Sequences(), c_.channels, c_.image_size, c_.image_size}});
    if (b_.drop_path > 0) g_.AddInput("rng", {DType::kI32, {2}});
    ValueId x = Embed(image);
    for (int64_t i = 0; i < c_.depth; ++i) x = Block(x, i);
    const ValueId logits = Head(x);
    g_.SetOutput("logits", logits);
    if (b_.loss) {
      Scope scope(g_, "loss");
      ValueId losses = TaskLosses(g_, logits, c_.task, b_.label_smoothing);
      if (b_.mixed && c_.task == kClassify) losses = Mixed(losses, logits);
      g_.SetOutput("losses", losses);
    }
    return std::move(g_);
  }

 private:
  // The loss of mixed images: share * losses + (1 - share) * the losses of the other labels.
  ValueId Mixed(ValueId losses, ValueId logits) {
    const ValueId other = g_.AddInput("labels_other", {DType::kI32, {Dim::Sequences()}});
    const ValueId share = g_.AddInput("share", {DType::kF32, {Dim::Sequences(), 1}});
    const ValueId rest = CrossEntropy(g_, logits, other, b_.label_smoothing);
    return Add(g_, rest, Mul(g_, Sub(g_, losses, rest), share));
  }

  // Puts parameter rows into all images, before row `position` of each; these images have `rows`
  // rows in front of their patches.
  ValueId Insert(ValueId x, const char* name, int64_t count, int64_t position) {
    const ValueId token = g_.AddParam(name, {count, c_.width});
    return InsertTokens(g_, x, token, Offsets(g_, c_.patches() + position), position);
  }

  ValueId ClassTokens(ValueId x) {
    if (c_.tokens >= 1) x = Insert(x, "cls_token", 1, 0);
    return c_.tokens == 2 ? Insert(x, "dist_token", 1, 1) : x;
  }
  ValueId Registers(ValueId x) {
    return c_.registers > 0 ? Insert(x, "reg_token", c_.registers, c_.tokens) : x;
  }
  ValueId Positions(ValueId x) {
    const int64_t rows = c_.token_positions() + c_.patches();
    const ValueId offsets = Offsets(g_, rows);
    if (rows == c_.rows()) offsets_ = offsets;
    return AddPositions(g_, x, g_.AddParam("pos_embed", {rows, c_.width}), offsets);
  }

  ValueId Embed(ValueId image) {
    ValueId x;
    {
      Scope scope(g_, "patch_embed");
      const int64_t in = c_.channels * c_.patch_size * c_.patch_size;
      x = Linear(g_, Patchify(g_, image, c_.patch_size),
                 g_.AddParam("patch_embed.weight", {c_.width, in}),
                 c_.patch_bias ? g_.AddParam("patch_embed.bias", {c_.width}) : ValueId{});
    }
    {
      Scope scope(g_, "embed");
      if (c_.positions == "patches")
        x = Registers(ClassTokens(Positions(x)));
      else if (c_.positions == "all")
        x = Positions(Registers(ClassTokens(x)));
      else
        x = Registers(Positions(ClassTokens(x)));
      if (!offsets_.valid()) offsets_ = Offsets(g_, c_.rows());
    }
    return c_.pre_norm ? Norm(g_, x, "norm_pre", c_.eps) : x;
  }

  ValueId DropPath(ValueId branch, int64_t block, const char* name) {
    if (b_.drop_path <= 0 || block == 0) return branch;
    const double p = b_.drop_path * static_cast<double>(block) / static_cast<double>(c_.depth - 1);
    return rows_.Drop(branch, {p, true, b_.seed, fmt::format("blocks.{}.{}", block, name)});
  }

  ValueId Block(ValueId x, int64_t i) {
    Scope scope(g_, fmt::format("blocks.{}", i));
    if (i == 0) Edge(g_, "x", x);  // later ones are the y of the block before
    const BlockShape shape{c_.width, c_.heads,    c_.mlp_width,   c_.eps,
                           c_.gelu,  c_.qkv_bias, c_.layer_scale, c_.qk_norm};
    return PreNormBlock(g_, x, offsets_, shape, [&](ValueId branch, std::string_view edge) {
      return DropPath(branch, i, edge == "o" ? "drop_path1" : "drop_path2");
    });
  }

  // Rows 0 and 1 of each image have their own heads, and the logits are the mean of both
  // (Touvron et al. 2021, arXiv 2012.12877, section 4).
  ValueId TwoHeads(ValueId x) {
    ValueId first, second;
    {
      Scope pool(g_, "pool");
      const ValueId both = DropTokens(g_, x, offsets_, 2, c_.rows() - 2), pairs = Offsets(g_, 2);
      first = DropTokens(g_, both, pairs, 1, 1);
      second = DropTokens(g_, both, pairs, 0, 1);
    }
    g_.SetName(first, "pooled");
    const ValueId a = Dense(g_, first, "head", c_.classes);
    const ValueId b = Dense(g_, second, "head.dist", c_.classes);
    Scope scope(g_, "head");
    return Scale(g_, Add(g_, a, b), 0.5);
  }

  ValueId Pool(ValueId x) {
    Scope pool(g_, "pool");
    const auto mean = [&] { return SegmentMean(g_, x, offsets_, c_.tokens + c_.registers); };
    if (c_.pool.starts_with("mean")) return mean();
    const ValueId token = GatherRows(g_, x, FirstRows(g_, offsets_));
    return c_.pool == "token" ? token : ConcatCols(g_, token, mean());
  }

  ValueId Head(ValueId x) {
    if (c_.pool == "distilled") return TwoHeads(Norm(g_, x, "norm", c_.eps));
    const ValueId pooled = c_.pool == "mean_fc_norm" ? Norm(g_, Pool(x), "norm", c_.eps)
                                                     : Pool(Norm(g_, x, "norm", c_.eps));
    g_.SetName(pooled, "pooled");
    return Dense(g_, pooled, "head", c_.classes);
  }

  const VitConfig& c_;
  const VitBuild& b_;
  Graph g_;
  RowSets rows_{g_};
  ValueId offsets_;
};

}  // namespace

Graph BuildVit(const VitConfig& config, const VitBuild& build) {
  CheckConfig(config, "vit");
  return VitBuilder(config, build).Build();
}

void InitVit(const VitConfig& config, ParamStore& params, uint64_t seed) {
  InitMissing(BuildVit(config), params, seed);
}

}  // namespace graft
