#include "models/vit.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "models/transformer.h"
#include "ops/ops.h"

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
  positive("tokens", c.tokens, 2);
  const std::vector<std::string> pools{"token", "mean", "mean_fc_norm", "distilled"};
  if (std::find(pools.begin(), pools.end(), c.pool) == pools.end())
    Fail("{}: pool '{}'{}", where, c.pool, DidYouMean(c.pool, pools));
  if (c.pool == "distilled" && c.tokens != 2)
    Fail("{}: pool 'distilled' needs a distillation token (tokens = 2)", where);
}

namespace {

class Builder {
 public:
  Builder(const VitConfig& config, const VitBuild& build) : c_(config), b_(build) {}

  Graph Build() {
    const ValueId image = g_.AddInput(
        "image", {DType::kF32, {Dim::Sequences(), c_.channels, c_.image_size, c_.image_size}});
    if (b_.drop_path > 0) rng_ = g_.AddInput("rng", {DType::kI32, {2}});
    ValueId x = Embed(image);
    for (int64_t i = 0; i < c_.depth; ++i) x = Block(x, i);
    const ValueId logits = Head(x);
    g_.SetOutput("logits", logits);
    if (b_.loss) {
      Scope scope(g_, "loss");
      const ValueId labels = g_.AddInput("labels", {DType::kI32, {Dim::Sequences()}});
      g_.SetOutput("losses", CrossEntropy(g_, logits, labels, b_.label_smoothing));
    }
    return std::move(g_);
  }

 private:
  ValueId Token(ValueId x, const char* name, int64_t position) {
    const ValueId token = g_.AddParam(name, {1, c_.width});
    return InsertTokens(g_, x, token, Offsets(g_, c_.patches() + position), position);
  }

  ValueId Embed(ValueId image) {
    ValueId x;
    {
      Scope scope(g_, "patch_embed");
      const int64_t in = c_.channels * c_.patch_size * c_.patch_size;
      x = Linear(g_, Patchify(g_, image, c_.patch_size),
                 g_.AddParam("patch_embed.weight", {c_.width, in}),
                 g_.AddParam("patch_embed.bias", {c_.width}));
    }
    Scope scope(g_, "embed");
    x = Token(x, "cls_token", 0);
    if (c_.tokens == 2) x = Token(x, "dist_token", 1);
    offsets_ = Offsets(g_, c_.rows());
    return AddPositions(g_, x, g_.AddParam("pos_embed", {c_.rows(), c_.width}), offsets_);
  }

  ValueId DropPath(ValueId branch, int64_t block, const char* name) {
    if (b_.drop_path <= 0 || block == 0) return branch;
    const double p = b_.drop_path * static_cast<double>(block) / static_cast<double>(c_.depth - 1);
    return Dropout(g_, branch, offsets_, rng_,
                   {p, true, b_.seed, fmt::format("blocks.{}.{}", block, name)});
  }

  ValueId Block(ValueId x, int64_t i) {
    Scope scope(g_, fmt::format("blocks.{}", i));
    if (i == 0) Edge(g_, "x", x);  // later ones are the y of the block before
    const BlockShape shape{c_.width, c_.heads, c_.mlp_width, c_.eps, c_.gelu};
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
      const ValueId both = DropTokens(g_, x, offsets_, 2, c_.patches()), pairs = Offsets(g_, 2);
      first = DropTokens(g_, both, pairs, 1, 1);
      second = DropTokens(g_, both, pairs, 0, 1);
    }
    g_.SetName(first, "pooled");
    const ValueId a = Dense(g_, first, "head", c_.classes);
    const ValueId b = Dense(g_, second, "head.dist", c_.classes);
    Scope scope(g_, "head");
    return Scale(g_, Add(g_, a, b), 0.5);
  }

  ValueId Head(ValueId x) {
    ValueId pooled;
    if (c_.pool == "mean_fc_norm") {
      ValueId mean;
      {
        Scope pool(g_, "pool");
        mean = SegmentMean(g_, x, offsets_, c_.tokens);
      }
      pooled = Norm(g_, mean, "norm", c_.eps);
    } else {
      x = Norm(g_, x, "norm", c_.eps);
      if (c_.pool == "distilled") return TwoHeads(x);
      Scope pool(g_, "pool");
      pooled = c_.pool == "token" ? GatherRows(g_, x, FirstRows(g_, offsets_))
                                  : SegmentMean(g_, x, offsets_, c_.tokens);
    }
    g_.SetName(pooled, "pooled");
    return Dense(g_, pooled, "head", c_.classes);
  }

  const VitConfig& c_;
  const VitBuild& b_;
  Graph g_;
  ValueId offsets_, rng_;
};

}  // namespace

Graph BuildVit(const VitConfig& config, const VitBuild& build) {
  CheckConfig(config, "vit");
  return Builder(config, build).Build();
}

void InitVit(const VitConfig& config, ParamStore& params, uint64_t seed) {
  InitMissing(BuildVit(config), params, seed);
}

namespace {

// Keys' cubic with a = -0.5, as PIL and torch's antialiased bicubic use.
double Cubic(double x) {
  x = std::fabs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
  return 0;
}

// Row i: weights of the `from` source positions for target i; the kernel widens when shrinking.
std::vector<double> ResampleMatrix(int64_t from, int64_t to) {
  std::vector<double> m(static_cast<size_t>(from * to));
  const double scale = static_cast<double>(from) / static_cast<double>(to),
               width = std::max(1.0, scale);
  for (int64_t i = 0; i < to; ++i) {
    const double center = (static_cast<double>(i) + 0.5) * scale;
    double sum = 0;
    for (int64_t j = 0; j < from; ++j)
      sum += m[static_cast<size_t>(i * from + j)] =
          Cubic((static_cast<double>(j) + 0.5 - center) / width);
    for (int64_t j = 0; j < from; ++j) m[static_cast<size_t>(i * from + j)] /= sum;
  }
  return m;
}

}  // namespace

void ResizePositions(ParamStore& params, int64_t from, int64_t to) {
  const Extents shape = params.shape("pos_embed");
  const int64_t width = shape.cols(), tokens = shape.rows() - from * from;
  GRAFT_CHECK(tokens == 1 || tokens == 2, "grid {}", from);
  const std::vector<double> m = ResampleMatrix(from, to);
  const std::span<const float> old = params.values("pos_embed");
  std::vector<float> fresh(static_cast<size_t>((tokens + to * to) * width));
  std::copy_n(old.begin(), tokens * width, fresh.begin());
  for (int64_t y = 0; y < to; ++y)
    for (int64_t x = 0; x < to; ++x)
      for (int64_t sy = 0; sy < from; ++sy)
        for (int64_t sx = 0; sx < from; ++sx) {
          const double w =
              m[static_cast<size_t>(y * from + sy)] * m[static_cast<size_t>(x * from + sx)];
          if (w == 0) continue;
          const float* source = &old[static_cast<size_t>((tokens + sy * from + sx) * width)];
          float* target = &fresh[static_cast<size_t>((tokens + y * to + x) * width)];
          for (int64_t d = 0; d < width; ++d) target[d] += static_cast<float>(w * source[d]);
        }
  params.Set("pos_embed", {tokens + to * to, width}, fresh);
}

namespace {

struct Size {
  const char* name;
  int64_t width, depth, heads;
};
constexpr Size kSizes[] = {{"nano", 64, 4, 4},
                           {"tiny", 192, 12, 3},
                           {"small", 384, 12, 6},
                           {"base", 768, 12, 12},
                           {"large", 1024, 24, 16}};
constexpr int64_t kPatches[][2] = {{16, 224}, {32, 224}, {8, 224}, {16, 384}, {4, 32}, {8, 64}};

}  // namespace

std::vector<std::string> VitNames() {
  std::vector<std::string> names;
  for (const Size& size : kSizes)
    for (auto [patch, image] : kPatches)
      names.push_back(fmt::format("vit_{}_patch{}_{}", size.name, patch, image));
  for (const Size& size : kSizes)
    if (size.width >= 192 && size.width <= 768)
      for (const char* kind : {"", "distilled_"})
        names.push_back(fmt::format("deit_{}_{}patch16_224", size.name, kind));
  return names;
}

VitConfig VitByName(const std::string& name) {
  for (const Size& size : kSizes)
    for (const char* family : {"vit_{}_patch", "deit_{}_patch", "deit_{}_distilled_patch"}) {
      const std::string prefix = fmt::format(fmt::runtime(family), size.name);
      int64_t patch = 0, image = 0;
      int used = 0;
      if (!name.starts_with(prefix) ||
          std::sscanf(name.c_str() + prefix.size(), "%ld_%ld%n", &patch, &image, &used) != 2 ||
          prefix.size() + static_cast<size_t>(used) != name.size())
        continue;
      VitConfig c{.image_size = image,
                  .patch_size = patch,
                  .width = size.width,
                  .depth = size.depth,
                  .heads = size.heads,
                  .mlp_width = 4 * size.width};
      if (prefix.find("distilled") != std::string::npos) c.tokens = 2, c.pool = "distilled";
      CheckConfig(c, name);
      return c;
    }
  Fail("no architecture '{}'{}", name, DidYouMean(name, VitNames()));
}

}  // namespace graft
