#include "models/name_map.h"

namespace graft {
namespace {

const std::vector<NameRule> kTimm = {
    {"cls_token", {"cls_token"}},
    {"pos_embed", {"pos_embed"}},
    {"patch_embed.proj.weight", {"patch_embed.weight"}},
    {"patch_embed.proj.bias", {"patch_embed.bias"}},
    {"blocks.#.norm1.weight", {"blocks.#.norm1.weight"}},
    {"blocks.#.norm1.bias", {"blocks.#.norm1.bias"}},
    {"blocks.#.attn.qkv.weight",
     {"blocks.#.attn.q.weight", "blocks.#.attn.k.weight", "blocks.#.attn.v.weight"}},
    {"blocks.#.attn.qkv.bias",
     {"blocks.#.attn.q.bias", "blocks.#.attn.k.bias", "blocks.#.attn.v.bias"}},
    {"blocks.#.attn.proj.weight", {"blocks.#.attn.o.weight"}},
    {"blocks.#.attn.proj.bias", {"blocks.#.attn.o.bias"}},
    {"blocks.#.norm2.weight", {"blocks.#.norm2.weight"}},
    {"blocks.#.norm2.bias", {"blocks.#.norm2.bias"}},
    {"blocks.#.mlp.fc1.weight", {"blocks.#.mlp.fc1.weight"}},
    {"blocks.#.mlp.fc1.bias", {"blocks.#.mlp.fc1.bias"}},
    {"blocks.#.mlp.fc2.weight", {"blocks.#.mlp.fc2.weight"}},
    {"blocks.#.mlp.fc2.bias", {"blocks.#.mlp.fc2.bias"}},
    {"norm.weight", {"norm.weight"}},
    {"norm.bias", {"norm.bias"}},
    {"head.weight", {"head.weight"}},
    {"head.bias", {"head.bias"}},
};

// "~" stands for the prefix ("vit.", "deit." or nothing).
const std::vector<NameRule> kHuggingFace = {
    {"~embeddings.cls_token", {"cls_token"}},
    {"~embeddings.position_embeddings", {"pos_embed"}},
    {"~embeddings.patch_embeddings.projection.weight", {"patch_embed.weight"}},
    {"~embeddings.patch_embeddings.projection.bias", {"patch_embed.bias"}},
    {"~encoder.layer.#.layernorm_before.weight", {"blocks.#.norm1.weight"}},
    {"~encoder.layer.#.layernorm_before.bias", {"blocks.#.norm1.bias"}},
    {"~encoder.layer.#.attention.attention.query.weight", {"blocks.#.attn.q.weight"}},
    {"~encoder.layer.#.attention.attention.query.bias", {"blocks.#.attn.q.bias"}},
    {"~encoder.layer.#.attention.attention.key.weight", {"blocks.#.attn.k.weight"}},
    {"~encoder.layer.#.attention.attention.key.bias", {"blocks.#.attn.k.bias"}},
    {"~encoder.layer.#.attention.attention.value.weight", {"blocks.#.attn.v.weight"}},
    {"~encoder.layer.#.attention.attention.value.bias", {"blocks.#.attn.v.bias"}},
    {"~encoder.layer.#.attention.output.dense.weight", {"blocks.#.attn.o.weight"}},
    {"~encoder.layer.#.attention.output.dense.bias", {"blocks.#.attn.o.bias"}},
    {"~encoder.layer.#.layernorm_after.weight", {"blocks.#.norm2.weight"}},
    {"~encoder.layer.#.layernorm_after.bias", {"blocks.#.norm2.bias"}},
    {"~encoder.layer.#.intermediate.dense.weight", {"blocks.#.mlp.fc1.weight"}},
    {"~encoder.layer.#.intermediate.dense.bias", {"blocks.#.mlp.fc1.bias"}},
    {"~encoder.layer.#.output.dense.weight", {"blocks.#.mlp.fc2.weight"}},
    {"~encoder.layer.#.output.dense.bias", {"blocks.#.mlp.fc2.bias"}},
    {"~layernorm.weight", {"norm.weight"}},
    {"~layernorm.bias", {"norm.bias"}},
    {"classifier.weight", {"head.weight"}},
    {"classifier.bias", {"head.bias"}},
};

std::string Expand(std::string name, const std::string& prefix, int64_t block) {
  if (name.starts_with('~')) name = prefix + name.substr(1);
  if (const size_t hash = name.find('#'); hash != std::string::npos)
    name.replace(hash, 1, std::to_string(block));
  return name;
}

}  // namespace

const std::vector<NameRule>& NameRules(Layout layout) {
  return layout == Layout::kTimm ? kTimm : kHuggingFace;
}

std::vector<FileKey> FileKeys(Layout layout, const std::string& prefix, const VitConfig& config) {
  std::vector<FileKey> keys;
  for (const NameRule& rule : NameRules(layout)) {
    std::string file = rule.file;
    if (layout == Layout::kTimm && config.pool == "mean_fc_norm" && file.starts_with("norm."))
      file = "fc_" + file;
    const int64_t blocks = file.find('#') == std::string::npos ? 1 : config.depth;
    for (int64_t b = 0; b < blocks; ++b) {
      FileKey key{Expand(file, prefix, b), {}};
      for (const char* canonical : rule.canonical)
        key.canonical.push_back(Expand(canonical, "", b));
      keys.push_back(std::move(key));
    }
  }
  return keys;
}

std::vector<int64_t> FileShape(const std::string& name, size_t parts, const VitConfig& c) {
  const int64_t d = c.width, n = static_cast<int64_t>(parts);
  auto ends = [&](const char* suffix) { return name.ends_with(suffix); };
  if (name == "cls_token") return {1, 1, d};
  if (name == "pos_embed") return {1, 1 + c.patches(), d};
  if (name == "patch_embed.weight") return {d, c.channels, c.patch_size, c.patch_size};
  if (name == "head.weight") return {c.classes, d};
  if (name == "head.bias") return {c.classes};
  if (ends("mlp.fc1.weight")) return {c.mlp_width, d};
  if (ends("mlp.fc1.bias")) return {c.mlp_width};
  if (ends("mlp.fc2.weight")) return {d, c.mlp_width};
  if (name.find(".attn.") != std::string::npos && ends("weight")) return {n * d, d};
  return {n * d};
}

}  // namespace graft
