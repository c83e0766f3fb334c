#include "models/files/architecture.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "models/files/hf_config.h"
#include "models/files/image_processor.h"
#include "runtime/io/json.h"

namespace graft {
namespace {

// config.json of a directory, "" if there is none.
std::string ConfigPath(const std::string& source) {
  const std::filesystem::path path = std::filesystem::path(source) / "config.json";
  std::error_code ignored;
  return std::filesystem::exists(path, ignored) ? path.string() : "";
}

// A tensor that only files of this kind have, under one of the roots.
struct Sign {
  const char* key;
  Layout layout;
  bool bert;
  std::vector<const char*> roots;
};
const std::vector<Sign>& Signs() {
  static const std::vector<Sign> kSigns{
      {"cls_token", Layout::kTimm, false, {""}},
      {"embeddings.cls_token", Layout::kHuggingFace, false, {"vit.", "deit.", ""}},
      {"embeddings.word_embeddings.weight", Layout::kHuggingFace, true, {"bert.", ""}},
      {"embedding/kernel", Layout::kJax, false, {"", "opt/target/"}}};
  return kSigns;
}

void RecogniseLayout(const TensorFile& file, LoadedModel& m) {
  for (const Sign& sign : Signs())
    for (const char* root : sign.roots) {
      if (!file.Shape(root + std::string(sign.key))) continue;
      m.layout = sign.layout, m.root = root;
      if (sign.bert) m.config = BertConfig{};
      return;
    }
  std::string some;
  for (const std::string& name : file.names()) {
    if (some.size() > 120) break;
    some += (some.empty() ? "" : ", ") + name;
  }
  Fail(
      "{}: not a model that Graft knows: expected 'cls_token' (timm), 'vit.embeddings.cls_token' "
      "or "
      "'bert.embeddings.word_embeddings.weight' (Hugging Face) or 'embedding/kernel' (.npz), found "
      "{}",
      m.source, some.empty() ? "no tensors" : some);
}

// Shapes of the file's tensors by canonical name.
class Shapes {
 public:
  Shapes(const TensorFile& file, const LoadedModel& m) : file_(file), m_(m) {}

  bool Has(const std::string& canonical) const {
    Form form;
    return !Key(canonical, &form).empty();
  }
  // Error unless it is there with so many dimensions, none of them 0.
  std::vector<int64_t> operator()(const std::string& canonical, size_t rank) const {
    Form form = Form::kSame;
    const std::string key = Key(canonical, &form);
    if (key.empty()) {
      const std::string wanted = NamesOf(m_.layout, m_.root, m_.is_bert(), canonical, &form)[0];
      Fail("{}: no tensor '{}'{}", m_.source, wanted, DidYouMean(wanted, file_.names()));
    }
    const std::vector<int64_t> shape = CanonicalShape(form, *file_.Shape(key));
    if (shape.size() != rank || std::ranges::count(shape, 0))
      Fail("{}: '{}' of shape [{}] does not have the dimensions of its kind", m_.source, key,
           fmt::join(*file_.Shape(key), ","));
    return shape;
  }
  int64_t Depth() const {
    int64_t depth = 0;
    while (Has(fmt::format("blocks.{}.norm1.weight", depth))) ++depth;
    if (depth == 0) (*this)("blocks.0.norm1.weight", 1);  // says what is missing
    return depth;
  }

 private:
  std::string Key(const std::string& canonical, Form* form) const {
    for (const std::string& name : NamesOf(m_.layout, m_.root, m_.is_bert(), canonical, form))
      if (file_.Shape(name)) return name;
    return "";
  }
  const TensorFile& file_;
  const LoadedModel& m_;
};

// Heads of an .npz are a dimension of the query's kernel [D,H,d].
int64_t HeadsOfNpz(const TensorFile& file, const LoadedModel& m) {
  Form form;
  const std::string key = NamesOf(m.layout, m.root, false, "blocks.0.attn.q.weight", &form)[0];
  const std::vector<int64_t>* shape = file.Shape(key);
  if (!shape || shape->size() != 3 || (*shape)[1] < 1)
    Fail("{}: expected '{}' of shape [width,heads,width/heads]", m.source, key);
  return (*shape)[1];
}

void VitSizes(const TensorFile& file, LoadedModel& m) {
  const Shapes shapes(file, m);
  VitConfig& c = m.vit();
  const std::vector<int64_t> patch = shapes("patch_embed.weight", 4);
  c.width = patch[0], c.channels = patch[1], c.patch_size = patch[2];
  c.heads = 1;  // until a fact tells
  if (patch[2] != patch[3])
    Fail("{}: patches of {}x{}; only square ones are supported", m.source, patch[2], patch[3]);
  c.tokens = shapes.Has("dist_token") ? 2 : 1;
  const int64_t rows = shapes("pos_embed", 2)[0], patches = rows - c.tokens,
                side = std::llround(std::sqrt(static_cast<double>(std::max<int64_t>(patches, 0))));
  if (side < 1 || side * side != patches)
    Fail("{}: {} position embeddings; expected {} + a square number", m.source, rows, c.tokens);
  c.image_size = side * c.patch_size;
  c.depth = shapes.Depth();
  c.mlp_width = shapes("blocks.0.mlp.fc1.weight", 2)[0];
  if (shapes.Has("head.weight")) c.classes = shapes("head.weight", 2)[0];
  if (shapes.Has("head.dist.weight")) c.pool = "distilled";
  if (file.Shape("fc_norm.weight")) c.pool = "mean_fc_norm";
  if (m.layout == Layout::kJax) c.heads = HeadsOfNpz(file, m), m.fact_source["heads"] = "tensors";
  for (const char* fact :
       {"width", "depth", "mlp_width", "patch_size", "image_size", "channels", "classes"})
    m.fact_source[fact] = "tensor shapes";
  m.fact_source["tokens"] = "tensor names";
  if (c.pool != "token") m.fact_source["pool"] = "tensor names";
}

void BertSizes(const TensorFile& file, LoadedModel& m) {
  const Shapes shapes(file, m);
  BertConfig& c = m.bert();
  const std::vector<int64_t> words = shapes("embed.word.weight", 2);
  c.vocab = words[0], c.width = words[1];
  c.heads = 1;  // until a fact tells
  c.positions = shapes("embed.position.weight", 2)[0];
  c.types = shapes("embed.type.weight", 2)[0];
  c.depth = shapes.Depth();
  c.mlp_width = shapes("blocks.0.mlp.fc1.weight", 2)[0];
  if (shapes.Has("head.weight")) c.classes = shapes("head.weight", 2)[0];
  c.pool = shapes.Has("pooler.weight") ? "pooler" : "cls";
  if (c.pool == "cls")
    m.notices.push_back(m.source + ": no pooler; the classifier reads the first row as it is");
  m.fact_source["pool"] = "tensor names";
  for (const char* fact : {"vocab", "positions", "types", "width", "depth", "mlp_width", "classes"})
    m.fact_source[fact] = "tensor shapes";
}

// --- facts that tensors do not tell

void FactsFromMetadata(LoadedModel& m, const std::string& text) {
  const std::string where = m.source + " (metadata graft.config)";
  const Json config = ParseJson(text, where);
  const char* kind = m.is_bert() ? "bert" : "vit";
  if (const auto found = FindString(config, "architecture", where); found && *found != kind)
    Fail("{}: architecture '{}', but the tensors' names are those of {}", where, *found, kind);
  std::vector<std::string> facts{"heads", "eps", "pool"};
  auto take = [&](auto& c, const char* activation_key, std::string& activation) {
    c.heads = GetInt(config, "heads", 1, c.width, where);
    c.eps = GetNumber(config, "eps", 1e-30, 0.1, where);
    c.pool = GetString(config, "pool", where);
    activation = GetString(config, activation_key, where);
    facts.emplace_back(activation_key);
  };
  if (m.is_bert())
    take(m.bert(), "activation", m.bert().activation);
  else
    take(m.vit(), "gelu", m.vit().gelu);
  for (const std::string& fact : facts) m.fact_source[fact] = "metadata graft.config";
}

bool SameSizes(const ModelConfig& a, const ModelConfig& b) {
  if (a.index() != b.index()) return false;
  return std::visit(
      [&](const auto& x) {
        const auto& y = std::get<std::decay_t<decltype(x)>>(b);
        bool same = x.width == y.width && x.depth == y.depth && x.mlp_width == y.mlp_width;
        if constexpr (requires { x.patch_size; }) same = same && x.patch_size == y.patch_size;
        return same;
      },
      a);
}

// --arch names it, or the table does: only the facts that shapes cannot tell are taken, and the
// shapes must agree.
void FactsFromName(LoadedModel& m, const std::string& name, const std::string& from) {
  const ModelConfig named = ModelByName(name);
  if (!SameSizes(named, m.config))
    Fail("{}: --arch {} is {}; the tensors say {}", m.source, name, SizesText(named),
         SizesText(m.config));
  if (m.is_bert()) {
    const BertConfig& n = std::get<BertConfig>(named);
    m.bert().heads = n.heads, m.bert().eps = n.eps, m.bert().activation = n.activation;
  } else {
    const VitConfig& n = std::get<VitConfig>(named);
    m.vit().heads = n.heads, m.vit().eps = n.eps, m.vit().gelu = n.gelu;
  }
  for (const char* fact : {"heads", "eps", m.is_bert() ? "activation" : "gelu"})
    m.fact_source[fact] = from;
}

std::string NameByShape(const ModelConfig& config) {
  std::vector<std::string> candidates = BertNames();
  if (const VitConfig* c = std::get_if<VitConfig>(&config)) {
    candidates.clear();
    for (const char* size : {"nano", "tiny", "small", "base", "large"})
      candidates.push_back(fmt::format("vit_{}_patch{}_{}", size, c->patch_size, c->image_size));
  }
  for (const std::string& name : candidates)
    if (SameSizes(ModelByName(name), config)) return name;
  return "";
}

void TakeFacts(const std::string& config_path, const Json& config, const std::string& arch,
               LoadedModel& m) {
  const auto metadata = m.metadata.find("graft.config");
  if (!config_path.empty()) {
    ReadHuggingFaceConfig(config, config_path, &m);
  } else if (metadata != m.metadata.end()) {
    FactsFromMetadata(m, metadata->second);
  } else if (!arch.empty()) {
    FactsFromName(m, arch, "--arch");
  } else if (m.layout == Layout::kJax) {
    m.fact_source["eps"] = m.fact_source["gelu"] = "usual for this layout (timm reads it so)";
  } else if (const std::string name = NameByShape(m.config); !name.empty()) {
    FactsFromName(m, name, fmt::format("table ({})", name));
  } else {
    Fail(
        "{}: heads, eps and GELU kind are not known for {}; hint: name the architecture with "
        "--arch, e.g. --arch {}",
        m.source, SizesText(m.config), m.is_bert() ? "bert_base" : "vit_base_patch16_224");
  }
}

template <class Config>
Config ParseFields(const Json& json, const std::string& where) {
  Config config;
  Config::Visit(config, [&](const char* name, auto& field) {
    if (!json.contains(name)) return;  // files of before it was a fact
    using T = std::decay_t<decltype(field)>;
    if constexpr (std::is_same_v<T, std::string>)
      field = GetString(json, name, where);
    else if constexpr (std::is_same_v<T, double>)
      field = GetNumber(json, name, 0, 1, where);
    else
      field = GetInt(json, name, 1, 1 << 30, where);
  });
  CheckConfig(config, where);
  return config;
}

}  // namespace

ModelConfig ParseModelConfig(const std::string& text, const std::string& where) {
  const Json json = ParseJson(text, where);
  if (!json.is_object()) Fail("{}: expected an object, found {}", where, json.type_name());
  const std::string kind = FindString(json, "architecture", where).value_or("vit");
  if (kind == "bert") return ParseFields<BertConfig>(json, where);
  if (kind == "vit") return ParseFields<VitConfig>(json, where);
  Fail("{}: architecture '{}'{}", where, kind, DidYouMean(kind, {"bert", "vit"}));
}

void RecogniseArchitecture(const TensorFile& file, const std::string& arch, LoadedModel* model) {
  LoadedModel& m = *model;
  const std::string config_path = ConfigPath(m.source);
  Json config;
  if (!config_path.empty()) CheckModelType(config = ReadJson(config_path), config_path);
  RecogniseLayout(file, m);
  if (m.is_bert())
    BertSizes(file, m);
  else
    VitSizes(file, m);
  CheckConfig(m.config, m.source);  // before anything trusts a size
  TakeFacts(config_path, config, arch, m);
  if (!config_path.empty() && Shapes(file, m).Has("head.weight"))
    m.labels = ReadLabels(config, Classes(m.config), config_path);
  if (const auto it = m.metadata.find("graft.labels"); it != m.metadata.end()) {
    const Json labels = ParseJson(it->second, m.source + " (metadata graft.labels)");
    m.labels.clear();
    if (labels.is_array())
      for (const auto& label : labels)
        if (label.is_string()) m.labels.push_back(label.get<std::string>());
    if (!m.labels.empty() && Shapes(file, m).Has("head.weight") &&
        std::ssize(m.labels) != Classes(m.config))
      Fail("{} (metadata graft.labels): {} names, but the classifier has {} classes", m.source,
           m.labels.size(), Classes(m.config));
  }
  CheckConfig(m.config, m.source);
  ReadStatedPreprocess(config, &m);
}

}  // namespace graft
