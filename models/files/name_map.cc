#include "models/files/name_map.h"

namespace graft {
namespace {

const std::vector<NameRule> kTimm = {
    {"cls_token", {"cls_token"}, Form::kLeadingOne},
    {"dist_token", {"dist_token"}, Form::kLeadingOne},
    {"reg_token", {"reg_token"}, Form::kLeadingOne},
    {"norm_pre.weight", {"norm_pre.weight"}},
    {"norm_pre.bias", {"norm_pre.bias"}},
    {"pos_embed", {"pos_embed"}, Form::kLeadingOne},
    {"patch_embed.proj.weight", {"patch_embed.weight"}, Form::kConvolution},
    {"patch_embed.proj.bias", {"patch_embed.bias"}},
    {"blocks.#.norm1.weight", {"blocks.#.norm1.weight"}},
    {"blocks.#.norm1.bias", {"blocks.#.norm1.bias"}},
    {"blocks.#.attn.qkv.weight",
     {"blocks.#.attn.q.weight", "blocks.#.attn.k.weight", "blocks.#.attn.v.weight"}},
    {"blocks.#.attn.qkv.bias",
     {"blocks.#.attn.q.bias", "blocks.#.attn.k.bias", "blocks.#.attn.v.bias"}},
    {.file = "blocks.#.attn.q.weight", .canonical = {"blocks.#.attn.q.weight"}, .instead = true},
    {.file = "blocks.#.attn.k.weight", .canonical = {"blocks.#.attn.k.weight"}, .instead = true},
    {.file = "blocks.#.attn.v.weight", .canonical = {"blocks.#.attn.v.weight"}, .instead = true},
    {.file = "blocks.#.attn.q.bias", .canonical = {"blocks.#.attn.q.bias"}, .instead = true},
    {.file = "blocks.#.attn.k.bias", .canonical = {"blocks.#.attn.k.bias"}, .instead = true},
    {.file = "blocks.#.attn.v.bias", .canonical = {"blocks.#.attn.v.bias"}, .instead = true},
    {"blocks.#.attn.q_norm.weight", {"blocks.#.attn.q_norm.weight"}},
    {"blocks.#.attn.q_norm.bias", {"blocks.#.attn.q_norm.bias"}},
    {"blocks.#.attn.k_norm.weight", {"blocks.#.attn.k_norm.weight"}},
    {"blocks.#.attn.k_norm.bias", {"blocks.#.attn.k_norm.bias"}},
    {"blocks.#.ls1.gamma|blocks.#.gamma_1", {"blocks.#.ls1.gamma"}},
    {"blocks.#.ls2.gamma|blocks.#.gamma_2", {"blocks.#.ls2.gamma"}},
    {"blocks.#.attn.proj.weight", {"blocks.#.attn.o.weight"}},
    {"blocks.#.attn.proj.bias", {"blocks.#.attn.o.bias"}},
    {"blocks.#.norm2.weight", {"blocks.#.norm2.weight"}},
    {"blocks.#.norm2.bias", {"blocks.#.norm2.bias"}},
    {"blocks.#.mlp.fc1.weight", {"blocks.#.mlp.fc1.weight"}},
    {"blocks.#.mlp.fc1.bias", {"blocks.#.mlp.fc1.bias"}},
    {"blocks.#.mlp.fc2.weight", {"blocks.#.mlp.fc2.weight"}},
    {"blocks.#.mlp.fc2.bias", {"blocks.#.mlp.fc2.bias"}},
    {"norm.weight|fc_norm.weight", {"norm.weight"}},
    {"norm.bias|fc_norm.bias", {"norm.bias"}},
    {"head.weight", {"head.weight"}},
    {"head.bias", {"head.bias"}},
    {"head_dist.weight", {"head.dist.weight"}},
    {"head_dist.bias", {"head.dist.bias"}},
};

// Some layers of Dinov2 have other names; the model is known by its LayerScale.
constexpr const char* kDino = "blocks.0.ls1.gamma";
const std::vector<NameRule> kHuggingFaceVit = {
    {"~embeddings.cls_token", {"cls_token"}, Form::kLeadingOne},
    {"~embeddings.distillation_token", {"dist_token"}, Form::kLeadingOne},
    {"~embeddings.register_tokens", {"reg_token"}, Form::kLeadingOne},
    {"~embeddings.position_embeddings", {"pos_embed"}, Form::kLeadingOne},
    {"~embeddings.patch_embeddings.projection.weight", {"patch_embed.weight"}, Form::kConvolution},
    {"~embeddings.patch_embeddings.projection.bias", {"patch_embed.bias"}},
    {.file = "~encoder.layer.#.layernorm_before.weight",
     .canonical = {"blocks.#.norm1.weight"},
     .unless = kDino},
    {.file = "~encoder.layer.#.norm1.weight",
     .canonical = {"blocks.#.norm1.weight"},
     .only = kDino},
    {.file = "~encoder.layer.#.layernorm_before.bias",
     .canonical = {"blocks.#.norm1.bias"},
     .unless = kDino},
    {.file = "~encoder.layer.#.norm1.bias", .canonical = {"blocks.#.norm1.bias"}, .only = kDino},
    {"~encoder.layer.#.attention.attention.query.weight", {"blocks.#.attn.q.weight"}},
    {"~encoder.layer.#.attention.attention.query.bias", {"blocks.#.attn.q.bias"}},
    {"~encoder.layer.#.attention.attention.key.weight", {"blocks.#.attn.k.weight"}},
    {"~encoder.layer.#.attention.attention.key.bias", {"blocks.#.attn.k.bias"}},
    {"~encoder.layer.#.attention.attention.value.weight", {"blocks.#.attn.v.weight"}},
    {"~encoder.layer.#.attention.attention.value.bias", {"blocks.#.attn.v.bias"}},
    {"~encoder.layer.#.attention.output.dense.weight", {"blocks.#.attn.o.weight"}},
    {"~encoder.layer.#.attention.output.dense.bias", {"blocks.#.attn.o.bias"}},
    {.file = "~encoder.layer.#.layernorm_after.weight",
     .canonical = {"blocks.#.norm2.weight"},
     .unless = kDino},
    {.file = "~encoder.layer.#.norm2.weight",
     .canonical = {"blocks.#.norm2.weight"},
     .only = kDino},
    {.file = "~encoder.layer.#.layernorm_after.bias",
     .canonical = {"blocks.#.norm2.bias"},
     .unless = kDino},
    {.file = "~encoder.layer.#.norm2.bias", .canonical = {"blocks.#.norm2.bias"}, .only = kDino},
    {.file = "~encoder.layer.#.intermediate.dense.weight",
     .canonical = {"blocks.#.mlp.fc1.weight"},
     .unless = kDino},
    {.file = "~encoder.layer.#.mlp.fc1.weight|~encoder.layer.#.mlp.weights_in.weight",
     .canonical = {"blocks.#.mlp.fc1.weight"},
     .only = kDino},
    {.file = "~encoder.layer.#.intermediate.dense.bias",
     .canonical = {"blocks.#.mlp.fc1.bias"},
     .unless = kDino},
    {.file = "~encoder.layer.#.mlp.fc1.bias|~encoder.layer.#.mlp.weights_in.bias",
     .canonical = {"blocks.#.mlp.fc1.bias"},
     .only = kDino},
    {.file = "~encoder.layer.#.output.dense.weight",
     .canonical = {"blocks.#.mlp.fc2.weight"},
     .unless = kDino},
    {.file = "~encoder.layer.#.mlp.fc2.weight|~encoder.layer.#.mlp.weights_out.weight",
     .canonical = {"blocks.#.mlp.fc2.weight"},
     .only = kDino},
    {.file = "~encoder.layer.#.output.dense.bias",
     .canonical = {"blocks.#.mlp.fc2.bias"},
     .unless = kDino},
    {.file = "~encoder.layer.#.mlp.fc2.bias|~encoder.layer.#.mlp.weights_out.bias",
     .canonical = {"blocks.#.mlp.fc2.bias"},
     .only = kDino},
    {"~encoder.layer.#.layer_scale1.lambda1", {"blocks.#.ls1.gamma"}},
    {"~encoder.layer.#.layer_scale2.lambda1", {"blocks.#.ls2.gamma"}},
    {"~layernorm.weight", {"norm.weight"}},
    {"~layernorm.bias", {"norm.bias"}},
    {.file = "classifier.weight", .canonical = {"head.weight"}, .unless = "head.dist.weight"},
    {.file = "classifier.bias", .canonical = {"head.bias"}, .unless = "head.dist.weight"},
    {.file = "cls_classifier.weight", .canonical = {"head.weight"}, .only = "head.dist.weight"},
    {.file = "cls_classifier.bias", .canonical = {"head.bias"}, .only = "head.dist.weight"},
    {"distillation_classifier.weight", {"head.dist.weight"}},
    {"distillation_classifier.bias", {"head.dist.bias"}},
};

const std::vector<NameRule> kHuggingFaceBert = {
    {"~embeddings.word_embeddings.weight", {"embed.word.weight"}},
    {"~embeddings.position_embeddings.weight", {"embed.position.weight"}},
    {"~embeddings.token_type_embeddings.weight", {"embed.type.weight"}},
    {"~embeddings.LayerNorm.weight|~embeddings.LayerNorm.gamma", {"embed.norm.weight"}},
    {"~embeddings.LayerNorm.bias|~embeddings.LayerNorm.beta", {"embed.norm.bias"}},
    {"~encoder.layer.#.attention.self.query.weight", {"blocks.#.attn.q.weight"}},
    {"~encoder.layer.#.attention.self.query.bias", {"blocks.#.attn.q.bias"}},
    {"~encoder.layer.#.attention.self.key.weight", {"blocks.#.attn.k.weight"}},
    {"~encoder.layer.#.attention.self.key.bias", {"blocks.#.attn.k.bias"}},
    {"~encoder.layer.#.attention.self.value.weight", {"blocks.#.attn.v.weight"}},
    {"~encoder.layer.#.attention.self.value.bias", {"blocks.#.attn.v.bias"}},
    {"~encoder.layer.#.attention.output.dense.weight", {"blocks.#.attn.o.weight"}},
    {"~encoder.layer.#.attention.output.dense.bias", {"blocks.#.attn.o.bias"}},
    {"~encoder.layer.#.attention.output.LayerNorm.weight|"
     "~encoder.layer.#.attention.output.LayerNorm.gamma",
     {"blocks.#.norm1.weight"}},
    {"~encoder.layer.#.attention.output.LayerNorm.bias|"
     "~encoder.layer.#.attention.output.LayerNorm.beta",
     {"blocks.#.norm1.bias"}},
    {"~encoder.layer.#.intermediate.dense.weight", {"blocks.#.mlp.fc1.weight"}},
    {"~encoder.layer.#.intermediate.dense.bias", {"blocks.#.mlp.fc1.bias"}},
    {"~encoder.layer.#.output.dense.weight", {"blocks.#.mlp.fc2.weight"}},
    {"~encoder.layer.#.output.dense.bias", {"blocks.#.mlp.fc2.bias"}},
    {"~encoder.layer.#.output.LayerNorm.weight|"
     "~encoder.layer.#.output.LayerNorm.gamma",
     {"blocks.#.norm2.weight"}},
    {"~encoder.layer.#.output.LayerNorm.bias|"
     "~encoder.layer.#.output.LayerNorm.beta",
     {"blocks.#.norm2.bias"}},
    {"~pooler.dense.weight", {"pooler.weight"}},
    {"~pooler.dense.bias", {"pooler.bias"}},
    {"classifier.weight", {"head.weight"}},
    {"classifier.bias", {"head.bias"}},
    {"cls.predictions.transform.dense.weight", {"mlm.dense.weight"}},
    {"cls.predictions.transform.dense.bias", {"mlm.dense.bias"}},
    {"cls.predictions.transform.LayerNorm.weight|"
     "cls.predictions.transform.LayerNorm.gamma",
     {"mlm.norm.weight"}},
    {"cls.predictions.transform.LayerNorm.bias|"
     "cls.predictions.transform.LayerNorm.beta",
     {"mlm.norm.bias"}},
    {"cls.predictions.bias", {"mlm.bias"}},
    {.file = "cls.predictions.decoder.bias", .canonical = {"mlm.bias"}, .copy = true},
    {.file = "cls.predictions.decoder.weight", .canonical = {"embed.word.weight"}, .copy = true},
};

// The files that the original trainer writes hold the model under "opt/target/".
const std::vector<NameRule> kJax = {
    {"~cls", {"cls_token"}, Form::kLeadingOne},
    {"~Transformer/posembed_input/pos_embedding", {"pos_embed"}, Form::kLeadingOne},
    {"~embedding/kernel", {"patch_embed.weight"}, Form::kConvolutionHwio},
    {"~embedding/bias", {"patch_embed.bias"}},
    {"~Transformer/encoderblock_#/LayerNorm_0/scale", {"blocks.#.norm1.weight"}},
    {"~Transformer/encoderblock_#/LayerNorm_0/bias", {"blocks.#.norm1.bias"}},
    {"~Transformer/encoderblock_#/MultiHeadDotProductAttention_1/query/kernel",
     {"blocks.#.attn.q.weight"},
     Form::kKernelToHeads},
    {"~Transformer/encoderblock_#/MultiHeadDotProductAttention_1/query/bias",
     {"blocks.#.attn.q.bias"},
     Form::kBiasOfHeads},
    {"~Transformer/encoderblock_#/MultiHeadDotProductAttention_1/key/kernel",
     {"blocks.#.attn.k.weight"},
     Form::kKernelToHeads},
    {"~Transformer/encoderblock_#/MultiHeadDotProductAttention_1/key/bias",
     {"blocks.#.attn.k.bias"},
     Form::kBiasOfHeads},
    {"~Transformer/encoderblock_#/MultiHeadDotProductAttention_1/value/kernel",
     {"blocks.#.attn.v.weight"},
     Form::kKernelToHeads},
    {"~Transformer/encoderblock_#/MultiHeadDotProductAttention_1/value/bias",
     {"blocks.#.attn.v.bias"},
     Form::kBiasOfHeads},
    {"~Transformer/encoderblock_#/MultiHeadDotProductAttention_1/out/kernel",
     {"blocks.#.attn.o.weight"},
     Form::kKernelFromHeads},
    {"~Transformer/encoderblock_#/MultiHeadDotProductAttention_1/out/bias",
     {"blocks.#.attn.o.bias"}},
    {"~Transformer/encoderblock_#/LayerNorm_2/scale", {"blocks.#.norm2.weight"}},
    {"~Transformer/encoderblock_#/LayerNorm_2/bias", {"blocks.#.norm2.bias"}},
    {"~Transformer/encoderblock_#/MlpBlock_3/Dense_0/kernel",
     {"blocks.#.mlp.fc1.weight"},
     Form::kKernel},
    {"~Transformer/encoderblock_#/MlpBlock_3/Dense_0/bias", {"blocks.#.mlp.fc1.bias"}},
    {"~Transformer/encoderblock_#/MlpBlock_3/Dense_1/kernel",
     {"blocks.#.mlp.fc2.weight"},
     Form::kKernel},
    {"~Transformer/encoderblock_#/MlpBlock_3/Dense_1/bias", {"blocks.#.mlp.fc2.bias"}},
    {"~Transformer/encoder_norm/scale", {"norm.weight"}},
    {"~Transformer/encoder_norm/bias", {"norm.bias"}},
    {"~head/kernel", {"head.weight"}, Form::kKernel},
    {"~head/bias", {"head.bias"}},
};

const std::vector<NameRule>& Rules(Layout layout, const ModelConfig& config) {
  if (std::holds_alternative<BertConfig>(config)) return kHuggingFaceBert;
  return layout == Layout::kTimm ? kTimm : layout == Layout::kJax ? kJax : kHuggingFaceVit;
}

std::string Expand(std::string name, const std::string& root, int64_t block) {
  if (name.starts_with('~')) name = root + name.substr(1);
  if (const size_t hash = name.find('#'); hash != std::string::npos)
    name.replace(hash, 1, std::to_string(block));
  return name;
}

std::vector<std::string> FileNames(const NameRule& rule, const std::string& root, int64_t block) {
  std::vector<std::string> names;
  std::string_view all = rule.file;
  for (size_t bar = 0; bar != all.npos;) {
    bar = all.find('|');
    names.push_back(Expand(std::string(all.substr(0, bar)), root, block));
    if (bar != all.npos) all.remove_prefix(bar + 1);
  }
  return names;
}

}  // namespace

std::string FileKey::In(const TensorFile& file) const {
  for (const std::string& name : names)
    if (file.Shape(name)) return name;
  return "";
}

std::vector<FileKey> FileKeys(Layout layout, const std::string& root, const ModelConfig& config) {
  const std::map<std::string, Extents> shapes = ParamShapes(config);
  std::vector<FileKey> keys;
  for (const NameRule& rule : Rules(layout, config)) {
    if (*rule.only && !shapes.contains(rule.only)) continue;
    if (*rule.unless && shapes.contains(rule.unless)) continue;
    const bool each_block = std::string_view(rule.file).find('#') != std::string_view::npos;
    for (int64_t b = 0; each_block || b == 0; ++b) {
      const auto first = shapes.find(Expand(rule.canonical[0], "", b));
      if (first == shapes.end()) break;
      FileKey key{FileNames(rule, root, b), {}, rule.form, rule.copy, rule.instead, first->second};
      for (const char* canonical : rule.canonical)
        key.canonical.push_back(Expand(canonical, "", b));
      key.shape.d[0] *= std::ssize(rule.canonical);
      keys.push_back(std::move(key));
    }
  }
  return keys;
}

std::vector<std::string> NamesOf(Layout layout, const std::string& root, const ModelConfig& config,
                                 const std::string& canonical, Form* form) {
  int64_t block = 0;
  std::string pattern = canonical;
  if (canonical.starts_with("blocks.")) {
    const size_t end = canonical.find('.', 7);
    block = std::stoll(canonical.substr(7, end - 7));
    pattern = "blocks.#" + canonical.substr(end);
  }
  std::vector<std::string> names;
  for (const NameRule& rule : Rules(layout, config)) {
    if (rule.copy || rule.canonical[0] != pattern) continue;
    *form = rule.form;
    for (std::string& name : FileNames(rule, root, block)) names.push_back(std::move(name));
  }
  return names;
}

FormSizes SizesOf(const ModelConfig& config) {
  if (const BertConfig* bert = std::get_if<BertConfig>(&config)) return {bert->heads, 1, 1};
  const VitConfig& vit = std::get<VitConfig>(config);
  return {vit.heads, vit.channels, vit.patch_size};
}

std::vector<int64_t> FileShape(Form form, const Extents& e, const FormSizes& s) {
  const int64_t a = e[0], b = e.rank > 1 ? e[1] : 1;
  switch (form) {
    case Form::kSame:
      return e.rank == 1 ? std::vector{a} : std::vector{a, b};
    case Form::kLeadingOne:
      return {1, a, b};
    case Form::kConvolution:
      return {a, s.channels, s.patch, s.patch};
    case Form::kKernel:
      return {b, a};
    case Form::kKernelToHeads:
      return {b, s.heads, a / s.heads};
    case Form::kKernelFromHeads:
      return {s.heads, b / s.heads, a};
    case Form::kBiasOfHeads:
      return {s.heads, a / s.heads};
    case Form::kConvolutionHwio:
      return {s.patch, s.patch, s.channels, a};
  }
  return {};
}

std::vector<int64_t> CanonicalShape(Form form, const std::vector<int64_t>& f) {
  auto rank = [&](size_t wanted) { return f.size() == wanted; };
  switch (form) {
    case Form::kSame:
      return f;
    case Form::kLeadingOne:
      return rank(3) ? std::vector{f[1], f[2]} : std::vector<int64_t>{};
    case Form::kConvolution:
      return rank(4) ? f : std::vector<int64_t>{};
    case Form::kKernel:
      return rank(2) ? std::vector{f[1], f[0]} : std::vector<int64_t>{};
    case Form::kConvolutionHwio:
      return rank(4) ? std::vector{f[3], f[2], f[0], f[1]} : std::vector<int64_t>{};
    default:
      return {};  // needs the heads
  }
}

namespace {

// x [a,b,c] in C order -> [c,b,a].
std::vector<float> Reversed(std::span<const float> x, int64_t a, int64_t b, int64_t c) {
  std::vector<float> out(x.size());
  for (int64_t i = 0; i < a; ++i)
    for (int64_t j = 0; j < b; ++j)
      for (int64_t k = 0; k < c; ++k) out[(k * b + j) * a + i] = x[(i * b + j) * c + k];
  return out;
}

}  // namespace

bool Permutes(Form form) {
  return form == Form::kKernel || form == Form::kKernelToHeads || form == Form::kKernelFromHeads ||
         form == Form::kConvolutionHwio;
}

// Kernels are transposed; a convolution [PP,C,a] becomes [a,C,PP].
std::vector<float> FromFile(Form form, const Extents& e, const FormSizes& s,
                            std::span<const float> values) {
  if (form == Form::kConvolutionHwio) return Reversed(values, s.patch * s.patch, s.channels, e[0]);
  return Reversed(values, e[1], 1, e[0]);
}

std::vector<float> ToFile(Form form, const Extents& e, const FormSizes& s,
                          std::span<const float> values) {
  if (form == Form::kConvolutionHwio) return Reversed(values, e[0], s.channels, s.patch * s.patch);
  return Reversed(values, e[0], 1, e[1]);
}

}  // namespace graft
