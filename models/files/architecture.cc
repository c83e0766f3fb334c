#include "models/files/architecture.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "models/files/arch_facts.h"
#include "models/files/hf_config.h"
#include "models/files/image_processor.h"
#include "runtime/io/json.h"

namespace graft {
namespace {

constexpr const char* kNoClassifier = "usual; the file has no classifier";

// The path of a directory's config.json, or "" if there is none.
std::string ConfigPath(const std::string& source) {
  const std::filesystem::path path = std::filesystem::path(source) / "config.json";
  std::error_code ignored;
  return std::filesystem::exists(path, ignored) ? path.string() : "";
}

// Tensors that only files of one kind have, under one of these roots.
struct Sign {
  std::vector<const char*> keys;
  Layout layout;
  bool bert;
  std::vector<const char*> roots;
};
const std::vector<Sign>& Signs() {
  static const std::vector<Sign> kSigns{
      {{"cls_token"}, Layout::kTimm, false, {""}},
      {{"patch_embed.proj.weight", "pos_embed", "blocks.0.norm1.weight"},
       Layout::kTimm,
       false,
       {""}},
      {{"embeddings.cls_token"},
       Layout::kHuggingFace,
       false,
       {"vit.", "deit.", "dinov2.", "dinov2_with_registers.", ""}},
      {{"embeddings.word_embeddings.weight"}, Layout::kHuggingFace, true, {"bert.", ""}},
      {{"embedding/kernel"}, Layout::kJax, false, {"", "opt/target/"}}};
  return kSigns;
}

void RecogniseLayout(const TensorFile& file, LoadedModel& m) {
  for (const Sign& sign : Signs())
    for (const char* root : sign.roots) {
      const bool all = std::ranges::all_of(
          sign.keys, [&](const char* key) { return file.Shape(std::string(root) + key); });
      if (!all) continue;
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
      "or 'bert.embeddings.word_embeddings.weight' (Hugging Face) or 'embedding/kernel' (.npz), "
      "found {}",
      m.source, some.empty() ? "no tensors" : some);
}

// The shapes of the file's tensors, by canonical name.
class Shapes {
 public:
  Shapes(const TensorFile& file, const LoadedModel& m) : file_(file), m_(m) {}

  bool Has(const std::string& canonical) const {
    Form form;
    return !Key(canonical, &form).empty();
  }
  // Throws Error unless the tensor is there with so many dimensions, none of them 0.
  std::vector<int64_t> operator()(const std::string& canonical, size_t rank) const {
    Form form = Form::kSame;
    const std::string key = Key(canonical, &form);
    if (key.empty()) {
      const std::string wanted = Wanted(canonical);
      Fail("{}: no tensor '{}'{}", m_.source, wanted, DidYouMean(wanted, file_.names()));
    }
    const std::vector<int64_t> shape = CanonicalShape(form, *file_.Shape(key));
    if (shape.size() != rank || std::ranges::count(shape, 0))
      Fail("{}: '{}' of shape [{}] does not have the dimensions of its kind", m_.source, key,
           fmt::join(*file_.Shape(key), ","));
    return shape;
  }
  // The number of blocks, counted from 0 on. Throws Error for a number that is missing among them.
  int64_t Depth() const {
    int64_t depth = 0;
    while (Has(fmt::format("blocks.{}.norm1.weight", depth))) ++depth;
    for (int64_t later = depth + 1; later <= depth + kMostDepth; ++later)
      if (Has(fmt::format("blocks.{}.norm1.weight", later)))
        Fail("{}: block {} is missing: there is no tensor '{}', but there is one for block {}",
             m_.source, depth, Wanted(fmt::format("blocks.{}.norm1.weight", depth)), later);
    if (depth == 0) (*this)("blocks.0.norm1.weight", 1);  // says what is missing
    return depth;
  }

 private:
  static constexpr int64_t kMostDepth = 1024;
  std::string Wanted(const std::string& canonical) const {
    Form form;
    return NamesOf(m_.layout, m_.root, m_.config, canonical, &form)[0];
  }
  std::string Key(const std::string& canonical, Form* form) const {
    for (const std::string& name : NamesOf(m_.layout, m_.root, m_.config, canonical, form))
      if (file_.Shape(name)) return name;
    return "";
  }
  const TensorFile& file_;
  const LoadedModel& m_;
};

// In an .npz the heads are a dimension of the query's kernel [D,H,d].
int64_t HeadsOfNpz(const TensorFile& file, const LoadedModel& m) {
  Form form;
  const std::string key = NamesOf(m.layout, m.root, m.config, "blocks.0.attn.q.weight", &form)[0];
  const std::vector<int64_t>* shape = file.Shape(key);
  if (!shape || shape->size() != 3 || (*shape)[1] < 1)
    Fail("{}: expected '{}' of shape [width,heads,width/heads]", m.source, key);
  return (*shape)[1];
}

// The side of the square of patches in a table of so many positions, `before` of which belong to
// rows in front of the patches; 0 if the rest is no square.
int64_t SideOf(int64_t rows, int64_t before) {
  const int64_t patches = std::max<int64_t>(rows - before, 0);
  const int64_t side = std::llround(std::sqrt(static_cast<double>(patches)));
  return side * side == patches ? side : 0;
}

// Decides which rows have a position: by the number of positions, or as `stated` says where that
// fits two ways.
void FitPositions(LoadedModel& m, int64_t rows, const std::string& stated) {
  VitConfig& c = m.vit();
  std::vector<std::string> ways{"all"};
  if (m.layout == Layout::kTimm && c.tokens + c.registers > 0) ways.emplace_back("patches");
  if (m.layout == Layout::kHuggingFace && c.registers > 0) ways = {"no_registers"};
  std::vector<std::string> fitting;
  for (const std::string& way : ways) {
    c.positions = way;
    if (SideOf(rows, c.token_positions()) > 0) fitting.push_back(way);
  }
  if (fitting.empty())
    Fail("{}: {} position embeddings; expected {} + a square number", m.source, rows,
         c.tokens + c.registers);
  if (fitting.size() > 1 && std::ranges::find(fitting, stated) == fitting.end())
    Fail(
        "{}: {} position embeddings are those of the patches alone or of all rows; hint: --arch "
        "\"vit(positions=patches)\" or --arch \"vit(positions=all)\"",
        m.source, rows);
  c.positions = fitting.size() > 1 ? stated : fitting[0];
  c.image_size = SideOf(rows, c.token_positions()) * c.patch_size;
}

void VitSizes(const TensorFile& file, LoadedModel& m, const std::string& positions) {
  const Shapes shapes(file, m);
  VitConfig& c = m.vit();
  const std::vector<int64_t> patch = shapes("patch_embed.weight", 4);
  c.width = patch[0], c.channels = patch[1], c.patch_size = patch[2];
  c.heads = 1;  // until a fact tells
  if (patch[2] != patch[3])
    Fail("{}: patches of {}x{}; only square ones are supported", m.source, patch[2], patch[3]);
  c.tokens = shapes.Has("dist_token") ? 2 : shapes.Has("cls_token") ? 1 : 0;
  c.registers = shapes.Has("reg_token") ? shapes("reg_token", 2)[0] : 0;
  FitPositions(m, shapes("pos_embed", 2)[0], positions);
  c.depth = shapes.Depth();
  c.mlp_width = shapes("blocks.0.mlp.fc2.weight", 2)[1];
  if (shapes("blocks.0.mlp.fc1.weight", 2)[0] == 2 * c.mlp_width) c.gelu = "swiglu";
  c.qkv_bias = shapes.Has("blocks.0.attn.q.bias"), c.patch_bias = shapes.Has("patch_embed.bias");
  c.pre_norm = shapes.Has("norm_pre.weight"), c.qk_norm = shapes.Has("blocks.0.attn.q_norm.weight");
  c.layer_scale = shapes.Has("blocks.0.ls1.gamma");
  if (shapes.Has("head.weight")) c.classes = shapes("head.weight", 2)[0];
  if (shapes.Has("head.dist.weight")) c.pool = "distilled";
  if (c.tokens == 0) c.pool = file.Shape("fc_norm.weight") ? "mean_fc_norm" : "mean";
  if (m.layout == Layout::kHuggingFace && c.layer_scale) c.pool = "token_mean";
  if (m.layout == Layout::kJax) c.heads = HeadsOfNpz(file, m), m.fact_source["heads"] = "tensors";
  for (const char* fact :
       {"width", "depth", "mlp_width", "patch_size", "image_size", "channels", "classes"})
    m.fact_source[fact] = "tensor shapes";
  if (!shapes.Has("head.weight")) m.fact_source["classes"] = kNoClassifier;
  for (const char* fact : {"tokens", "registers", "positions", "qkv_bias", "patch_bias", "pre_norm",
                           "layer_scale", "qk_norm"})
    m.fact_source[fact] = "tensor names";
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
  if (!shapes.Has("head.weight")) m.fact_source["classes"] = kNoClassifier;
}

// timm calls the final norm fc_norm in models that pool by the mean, and in some that do not; so
// the name alone does not tell.
void CheckPooling(const TensorFile& file, const LoadedModel& m) {
  if (m.is_bert() || m.layout != Layout::kTimm || m.fact_source.contains("pool")) return;
  if (file.Shape("fc_norm.weight") && !file.Shape("norm.weight"))
    Fail(
        "{}: 'fc_norm.weight' beside a class token does not say whether the head reads the mean of "
        "the patches or the class token; hint: --arch \"vit(pool=mean_fc_norm)\" or --arch "
        "\"vit(pool=token)\"",
        m.source);
}

template <class Config>
Config ParseFields(const Json& json, const std::string& where) {
  Config config;
  Config::Visit(config, [&](const char* name, auto& field) {
    if (!json.contains(name)) return;  // files of before it was a fact
    using T = std::decay_t<decltype(field)>;
    if constexpr (std::is_same_v<T, std::string>)
      field = GetString(json, name, where);
    else if constexpr (std::is_same_v<T, bool>)
      field = FindBool(json, name, where).value_or(field);
    else if constexpr (std::is_same_v<T, double>)
      field = GetNumber(json, name, 0, 1, where);
    else
      field = GetInt(json, name, 0, 1 << 30, where);
  });
  CheckConfig(config, where);
  return config;
}

}  // namespace

std::vector<std::string> SignsOfModels() {
  std::vector<std::string> names;
  for (const Sign& sign : Signs())
    for (const char* root : sign.roots) names.push_back(std::string(root) + sign.keys[0]);
  return names;
}

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
  StatedConfig config{ConfigPath(m.source), {}, {}};
  if (!config.path.empty()) {
    config.json = ReadJson(config.path);
    config.timm = ReadTimmConfig(config.json, config.path);
    if (!config.timm) CheckModelType(config.json, config.path);
  }
  RecogniseLayout(file, m);
  if (m.is_bert())
    BertSizes(file, m);
  else
    VitSizes(file, m, StatedPositions(m, config, arch));
  CheckConfig(m.config, m.source);  // before anything trusts a size
  TakeFacts(file, config, arch, &m);
  CheckPooling(file, m);
  NoteAssumed(&m);
  if (config.timm)
    m.labels = config.timm->labels;
  else if (!config.path.empty() && Shapes(file, m).Has("head.weight"))
    m.labels = ReadLabels(config.json, Classes(m.config), config.path),
    TaskOf(m.config) = TaskOfProblemType(config.json, Classes(m.config), config.path);
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
  if (const auto it = m.metadata.find("graft.task"); it != m.metadata.end()) {
    if (std::ranges::find(TaskNames(), it->second) == TaskNames().end())
      Fail("{} (metadata graft.task): '{}'; known: {}", m.source, it->second,
           fmt::join(TaskNames(), ", "));
    TaskOf(m.config) = it->second;
  }
  CheckConfig(m.config, m.source);
  ReadStatedPreprocess(config.json, &m);
}

}  // namespace graft
