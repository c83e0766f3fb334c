#include "models/vit.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "ops/ops.h"
#include "runtime/rng.h"

namespace graft {

void CheckConfig(const VitConfig& c, const std::string& where) {
  auto positive = [&](const char* name, int64_t value, int64_t most) {
    if (value < 1 || value > most) Fail("{}: {} = {}, expected 1 to {}", where, name, value, most);
  };
  positive("image_size", c.image_size, 8192);
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
  if (!(c.eps > 0 && c.eps < 1))
    Fail("{}: eps = {}, expected a small positive number", where, c.eps);
  if (c.gelu != "erf" && c.gelu != "tanh") Fail("{}: gelu '{}'; known: erf, tanh", where, c.gelu);
  const std::vector<std::string> pools{"token", "mean", "mean_fc_norm"};
  if (std::find(pools.begin(), pools.end(), c.pool) == pools.end())
    Fail("{}: pool '{}'{}", where, c.pool, DidYouMean(c.pool, pools));
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
  ValueId Param(const std::string& name, Shape shape) {
    return g_.AddParam(name, std::move(shape));
  }
  std::string Full(const char* name) const { return g_.scope + "." + name; }

  ValueId DenseAs(ValueId x, const char* name, int64_t in, int64_t out) {
    Scope scope(g_, name);
    return Linear(g_, x, Param(Full("weight"), {out, in}), Param(Full("bias"), {out}));
  }
  ValueId Norm(ValueId x, const char* name) {
    Scope scope(g_, name);
    return LayerNorm(g_, x, Param(Full("weight"), {c_.width}), Param(Full("bias"), {c_.width}),
                     c_.eps);
  }
  ValueId Edge(const char* name, ValueId v) {
    g_.SetName(v, Full(name));
    return v;
  }

  ValueId Embed(ValueId image) {
    ValueId x;
    {
      Scope scope(g_, "patch_embed");
      const int64_t in = c_.channels * c_.patch_size * c_.patch_size;
      x = Linear(g_, Patchify(g_, image, c_.patch_size),
                 Param("patch_embed.weight", {c_.width, in}),
                 Param("patch_embed.bias", {c_.width}));
    }
    Scope scope(g_, "embed");
    const ValueId patch_rows = Offsets(g_, c_.patches());
    x = InsertTokens(g_, x, Param("cls_token", {1, c_.width}), patch_rows, 0);
    offsets_ = Offsets(g_, c_.patches() + 1);
    return AddPositions(g_, x, Param("pos_embed", {1 + c_.patches(), c_.width}), offsets_);
  }

  ValueId DropPath(ValueId branch, int64_t block, const char* name) {
    if (b_.drop_path <= 0 || block == 0) return branch;
    const double p = b_.drop_path * static_cast<double>(block) / static_cast<double>(c_.depth - 1);
    return Dropout(g_, branch, offsets_, rng_, {p, true, b_.seed, Full(name)});
  }

  ValueId Block(ValueId x, int64_t i) {
    Scope scope(g_, fmt::format("blocks.{}", i));
    if (i == 0) Edge("x", x);  // later ones are the y of the block before
    const ValueId a = Edge("a", Norm(x, "norm1"));
    ValueId o;
    {
      Scope attn(g_, "attn");
      const ValueId q = DenseAs(a, "q", c_.width, c_.width),
                    k = DenseAs(a, "k", c_.width, c_.width),
                    v = DenseAs(a, "v", c_.width, c_.width);
      const double scale = 1 / std::sqrt(static_cast<double>(c_.width / c_.heads));
      const ValueId context = g_.Add1(kAttention, {q, k, v, offsets_, offsets_},
                                      AttentionAttrs{.heads = c_.heads, .scale = scale});
      o = DenseAs(context, "o", c_.width, c_.width);
      g_.SetName(context, fmt::format("blocks.{}.c", i));
    }
    const ValueId x1 = Edge("x1", Add(g_, x, DropPath(Edge("o", o), i, "drop_path1")));
    const ValueId m = Edge("m", Norm(x1, "norm2"));
    ValueId u;
    {
      Scope mlp(g_, "mlp");
      const ValueId h = DenseAs(m, "fc1", c_.width, c_.mlp_width);
      g_.SetName(h, fmt::format("blocks.{}.h", i));
      ValueId act;
      {
        Scope act_scope(g_, "act");
        act = g_.Add1(c_.gelu == "erf" ? kGelu : kGeluTanh, {h});
      }
      g_.SetName(act, fmt::format("blocks.{}.g", i));
      u = DenseAs(act, "fc2", c_.mlp_width, c_.width);
    }
    return Edge("y", Add(g_, x1, DropPath(Edge("u", u), i, "drop_path2")));
  }

  ValueId Head(ValueId x) {
    ValueId pooled;
    if (c_.pool == "mean_fc_norm") {
      ValueId mean;
      {
        Scope pool(g_, "pool");
        mean = SegmentMean(g_, x, offsets_, 1);
      }
      pooled = Norm(mean, "norm");
    } else {
      x = Norm(x, "norm");
      Scope pool(g_, "pool");
      pooled = c_.pool == "token" ? GatherRows(g_, x, FirstRows(g_, offsets_))
                                  : SegmentMean(g_, x, offsets_, 1);
    }
    g_.SetName(pooled, "pooled");
    return DenseAs(pooled, "head", c_.width, c_.classes);
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

namespace {

void InitParam(ParamStore& params, const std::string& name, const Extents& shape, uint64_t seed) {
  float* data = params.Allocate(name, shape);
  const std::span<float> values(data, static_cast<size_t>(shape.size()));
  if (name.ends_with("bias")) return;
  if (shape.rank == 1)
    std::fill(values.begin(), values.end(), 1.0f);  // gains
  else
    FillTruncNormal(values, {MakeKey(seed, Purpose::kInit, name)}, 0, 0.02, -2, 2);
}

}  // namespace

void InitVit(const VitConfig& config, ParamStore& params, uint64_t seed) {
  const Graph g = BuildVit(config);
  for (ValueId v : g.Leaves(Role::kParam))
    if (!params.Has(g.value(v).name)) InitParam(params, g.value(v).name, At(g.shape(v), {}), seed);
  params.Freeze();
}

void ResetHead(ParamStore& params, int64_t width, int64_t classes, uint64_t seed) {
  InitParam(params, "head.weight", {classes, width}, seed);
  InitParam(params, "head.bias", {classes}, seed);
  params.Freeze();
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
  const int64_t width = shape.cols();
  GRAFT_CHECK(shape.rows() == 1 + from * from, "grid {}", from);
  const std::vector<double> m = ResampleMatrix(from, to);
  const std::span<const float> old = params.values("pos_embed");
  std::vector<float> fresh(static_cast<size_t>((1 + to * to) * width));
  std::copy_n(old.begin(), width, fresh.begin());
  for (int64_t y = 0; y < to; ++y)
    for (int64_t x = 0; x < to; ++x)
      for (int64_t sy = 0; sy < from; ++sy)
        for (int64_t sx = 0; sx < from; ++sx) {
          const double w =
              m[static_cast<size_t>(y * from + sy)] * m[static_cast<size_t>(x * from + sx)];
          if (w == 0) continue;
          const float* source = &old[static_cast<size_t>((1 + sy * from + sx) * width)];
          float* target = &fresh[static_cast<size_t>((1 + y * to + x) * width)];
          for (int64_t d = 0; d < width; ++d) target[d] += static_cast<float>(w * source[d]);
        }
  params.Set("pos_embed", {1 + to * to, width}, fresh);
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
      names.push_back(fmt::format("deit_{}_patch16_224", size.name));
  return names;
}

VitConfig VitByName(const std::string& name) {
  if (name.find("distilled") != std::string::npos)
    Fail("'{}': distilled DeiT (two heads, two tokens) is not supported; use the undistilled model",
         name);
  for (const Size& size : kSizes)
    for (const char* family : {"vit", "deit"}) {
      const std::string prefix = fmt::format("{}_{}_patch", family, size.name);
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
      CheckConfig(c, name);
      return c;
    }
  Fail("no architecture '{}'{}", name, DidYouMean(name, VitNames()));
}

}  // namespace graft
