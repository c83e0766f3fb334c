#include "models/architecture.h"

#include <sys/stat.h>

#include <algorithm>
#include <cmath>

#include "runtime/io/json.h"

namespace graft {
namespace {

bool Exists(const std::string& path) {
  struct stat s;
  return stat(path.c_str(), &s) == 0;
}

std::string ConfigPath(const std::string& source) {
  struct stat s;
  if (stat(source.c_str(), &s) == 0 && S_ISDIR(s.st_mode)) return source + "/config.json";
  return "";
}

// Layout and prefix from the names of the tensors.
void RecogniseLayout(const SafetensorsModel& file, LoadedModel& m) {
  const std::string distilled = fmt::format(
      "{}: a distilled DeiT (two tokens, two heads); Graft does not support it yet: use the "
      "undistilled model",
      m.source);
  if (file.Find("cls_token")) {
    m.layout = Layout::kTimm;
    if (file.Find("dist_token") || file.Find("head_dist.weight")) Fail("{}", distilled);
    return;
  }
  for (const char* prefix : {"vit.", "deit.", ""})
    if (file.Find(std::string(prefix) + "embeddings.cls_token")) {
      m.layout = Layout::kHuggingFace;
      m.prefix = prefix;
      if (file.Find(m.prefix + "embeddings.distillation_token")) Fail("{}", distilled);
      return;
    }
  std::string some;
  for (const std::string& name : file.names()) {
    if (some.size() > 120) break;
    some += (some.empty() ? "" : ", ") + name;
  }
  Fail(
      "{}: not a vision transformer that Graft knows: expected 'cls_token' (timm) or "
      "'vit.embeddings.cls_token' (Hugging Face), found {}",
      m.source, some.empty() ? "no tensors" : some);
}

const FileTensor& MustHave(const SafetensorsModel& file, const LoadedModel& m,
                           const std::string& key, size_t rank) {
  const FileTensor* tensor = file.Find(key);
  if (!tensor) Fail("{}: no tensor '{}'{}", m.source, key, DidYouMean(key, file.names()));
  if (tensor->shape.size() != rank || std::count(tensor->shape.begin(), tensor->shape.end(), 0))
    Fail("{}: '{}' should have {} non-empty dimensions", m.source, key, rank);
  return *tensor;
}

// Sizes that the tensors themselves tell.
void SizesFromTensors(const SafetensorsModel& file, LoadedModel& m) {
  VitConfig& c = m.config;
  const bool timm = m.layout == Layout::kTimm;
  const std::string patch =
      timm ? "patch_embed.proj.weight" : m.prefix + "embeddings.patch_embeddings.projection.weight";
  const std::string positions = timm ? "pos_embed" : m.prefix + "embeddings.position_embeddings";
  const FileTensor& p = MustHave(file, m, patch, 4);
  c.width = p.shape[0], c.channels = p.shape[1], c.patch_size = p.shape[2];
  if (p.shape[2] != p.shape[3])
    Fail("{}: patches of {}x{}; only square ones are supported", m.source, p.shape[2], p.shape[3]);
  const FileTensor& pos = MustHave(file, m, positions, 3);
  const int64_t patches = pos.shape[1] - 1,
                side = std::llround(std::sqrt(static_cast<double>(patches)));
  if (side < 1 || side * side != patches)
    Fail("{}: '{}' has {} rows; expected 1 + a square number", m.source, positions, pos.shape[1]);
  c.image_size = side * c.patch_size;
  auto block = [&](int64_t i) {
    return timm ? fmt::format("blocks.{}.norm1.weight", i)
                : fmt::format("{}encoder.layer.{}.layernorm_before.weight", m.prefix, i);
  };
  for (c.depth = 0; file.Find(block(c.depth));) ++c.depth;
  if (c.depth == 0)
    Fail("{}: no tensor '{}'{}", m.source, block(0), DidYouMean(block(0), file.names()));
  const std::string fc1 =
      timm ? "blocks.0.mlp.fc1.weight" : m.prefix + "encoder.layer.0.intermediate.dense.weight";
  c.mlp_width = MustHave(file, m, fc1, 2).shape[0];
  const std::string head = timm ? "head.weight" : "classifier.weight";
  if (file.Find(head)) c.classes = MustHave(file, m, head, 2).shape[0];
  if (timm && file.Find("fc_norm.weight")) c.pool = "mean_fc_norm";
  for (const char* fact : {"width", "depth", "mlp_width", "patch_size", "image_size", "classes"})
    m.fact_source[fact] = "tensor shapes";
}

void FactsFromHuggingFace(LoadedModel& m, const std::string& path) {
  const nlohmann::json config = ReadJson(path);
  VitConfig& c = m.config;
  if (const auto type = FindString(config, "model_type", path);
      type && *type != "vit" && *type != "deit")
    Fail("{}: model_type '{}'; this command supports vit and deit", path, *type);
  c.heads = GetInt(config, "num_attention_heads", 1, c.width, path);
  c.eps = GetNumber(config, "layer_norm_eps", 1e-30, 0.1, path);
  const std::string act = GetString(config, "hidden_act", path);
  if (act == "gelu")
    c.gelu = "erf";
  else if (act == "gelu_new" || act == "gelu_pytorch_tanh" || act == "gelu_fast")
    c.gelu = "tanh";
  else
    Fail("{}: hidden_act '{}'; supported: gelu, gelu_new, gelu_pytorch_tanh, gelu_fast", path, act);
  auto agree = [&](const char* key, int64_t found) {
    if (const auto v = FindInt(config, key, 0, 1 << 30, path); v && *v != found)
      Fail("{}: {} = {}, but the tensors say {}", path, key, *v, found);
  };
  agree("hidden_size", c.width), agree("num_hidden_layers", c.depth),
      agree("patch_size", c.patch_size);
  agree("intermediate_size", c.mlp_width), agree("image_size", c.image_size);
  if (const auto bias = FindBool(config, "qkv_bias", path); bias && !*bias)
    Fail("{}: qkv_bias = false is not supported", path);
  for (const char* fact : {"heads", "eps", "gelu"}) m.fact_source[fact] = "config.json";
  if (config.contains("id2label") && config["id2label"].is_object())
    for (int64_t i = 0; i < c.classes; ++i) {
      const auto label = FindString(config["id2label"], std::to_string(i), path);
      if (!label || *label == fmt::format("LABEL_{}", i)) {
        m.labels.clear();
        break;
      }
      m.labels.push_back(*label);
    }
  m.hf_config = config;
}

void FactsFromMetadata(LoadedModel& m, const std::string& text) {
  const std::string where = m.source + " (metadata graft.config)";
  const nlohmann::json config = ParseJson(text, where);
  VitConfig& c = m.config;
  c.heads = GetInt(config, "heads", 1, c.width, where);
  c.eps = GetNumber(config, "eps", 1e-30, 0.1, where);
  c.gelu = GetString(config, "gelu", where);
  c.pool = GetString(config, "pool", where);
  for (const char* fact : {"heads", "eps", "gelu", "pool"})
    m.fact_source[fact] = "metadata graft.config";
}

// --arch names it, or the table does: only the facts that shapes cannot tell are taken, and the
// shapes must agree.
void FactsFromName(LoadedModel& m, const std::string& name, const std::string& from) {
  const VitConfig named = VitByName(name);
  VitConfig& c = m.config;
  if (named.width != c.width || named.depth != c.depth || named.mlp_width != c.mlp_width ||
      named.patch_size != c.patch_size)
    Fail(
        "{}: --arch {} has width {}, depth {}, patch {}; the tensors say width {}, depth {}, patch "
        "{}",
        m.source, name, named.width, named.depth, named.patch_size, c.width, c.depth, c.patch_size);
  c.heads = named.heads, c.eps = named.eps, c.gelu = named.gelu;
  for (const char* fact : {"heads", "eps", "gelu"}) m.fact_source[fact] = from;
}

std::string NameByShape(const VitConfig& c) {
  for (const char* size : {"nano", "tiny", "small", "base", "large"}) {
    const std::string name = fmt::format("vit_{}_patch{}_{}", size, c.patch_size, c.image_size);
    const VitConfig named = VitByName(name);
    if (named.width == c.width && named.depth == c.depth && named.mlp_width == c.mlp_width)
      return name;
  }
  return "";
}

}  // namespace

void RecogniseArchitecture(const SafetensorsModel& file, const std::string& arch,
                           LoadedModel* model) {
  LoadedModel& m = *model;
  RecogniseLayout(file, m);
  SizesFromTensors(file, m);
  const std::string config_path = ConfigPath(m.source);
  if (!config_path.empty() && Exists(config_path)) {
    FactsFromHuggingFace(m, config_path);
  } else if (const auto it = m.metadata.find("graft.config"); it != m.metadata.end()) {
    FactsFromMetadata(m, it->second);
  } else if (!arch.empty()) {
    FactsFromName(m, arch, "--arch");
  } else if (const std::string name = NameByShape(m.config); !name.empty()) {
    FactsFromName(m, name, fmt::format("table ({})", name));
  } else {
    Fail(
        "{}: heads, eps and GELU kind are not known for width {}, depth {}, patch {}; hint: name "
        "the "
        "architecture with --arch, e.g. --arch vit_base_patch16_224",
        m.source, m.config.width, m.config.depth, m.config.patch_size);
  }
  if (const auto it = m.metadata.find("graft.labels"); it != m.metadata.end()) {
    const nlohmann::json labels = ParseJson(it->second, m.source + " (metadata graft.labels)");
    m.labels.clear();
    if (labels.is_array())
      for (const auto& label : labels)
        if (label.is_string()) m.labels.push_back(label.get<std::string>());
  }
  CheckConfig(m.config, m.source);
}

}  // namespace graft
