#include "models/checkpoint.h"

#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "models/architecture.h"
#include "models/name_map.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/json.h"

namespace graft {
namespace {

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (int64_t d : shape) text += (text.size() > 1 ? "," : "") + std::to_string(d);
  return text + "]";
}

Extents CanonicalShape(const std::string& name, const VitConfig& config) {
  const std::vector<int64_t> file = FileShape(name, 1, config);
  if (name == "patch_embed.weight") return {file[0], file[1] * file[2] * file[3]};
  if (file.size() == 3) return {file[1], file[2]};
  return file.size() == 2 ? Extents{file[0], file[1]} : Extents{file[0]};
}

// Puts a file tensor into the store under its canonical names.
void LoadKey(const SafetensorsModel& file, const FileKey& key, const FileTensor& tensor,
             LoadedModel& m) {
  const std::vector<int64_t> want = FileShape(key.canonical[0], key.canonical.size(), m.config);
  if (tensor.shape != want)
    Fail("{}: '{}' has shape {}, the architecture {} wants {}; hint: another --arch?", m.source,
         key.key, ShapeText(tensor.shape), m.architecture(), ShapeText(want));
  // Integers would convert, but are no weights: quantised ones need their scales.
  if (!IsFloatingPoint(tensor.dtype))
    Fail("{}: '{}' is {}, expected F32, F16, BF16 or F64", m.source, key.key,
         ToString(tensor.dtype));
  ParamStore whole;
  file.Load(key.key, "t", &whole);
  // The store's shapes are canonical: a stacked tensor is cut by rows, a token or a convolution is
  // seen as a matrix. Both are views of the same bytes.
  const std::shared_ptr<ParamStore> owner = std::make_shared<ParamStore>(whole);
  const float* data = owner->data("t");
  for (const std::string& name : key.canonical) {
    const Extents shape = CanonicalShape(name, m.config);
    m.params.SetView(name, shape, owner, data);
    data += shape.size();
  }
  m.ledger.matched.push_back(key.key);
}

}  // namespace

std::string LoadedModel::architecture() const {
  for (const std::string& name : VitNames()) {
    VitConfig named = VitByName(name);
    named.classes = config.classes, named.eps = config.eps, named.gelu = config.gelu,
    named.pool = config.pool;
    if (named == config) return name;
  }
  return fmt::format("vit(width={},depth={},heads={},mlp={},patch={},image={})", config.width,
                     config.depth, config.heads, config.mlp_width, config.patch_size,
                     config.image_size);
}

namespace {

LoadedModel LoadInit(const std::string& source, uint64_t seed) {
  LoadedModel model;
  model.source = source;
  model.config = VitByName(source.substr(5));
  for (const char* fact : {"heads", "eps", "gelu", "patch_size", "image_size"})
    model.fact_source[fact] = "architecture name";
  InitVit(model.config, model.params, seed);
  return model;
}

LoadedModel LoadFile(const std::string& source, const std::string& arch) {
  const SafetensorsModel file = SafetensorsModel::Open(source);
  LoadedModel model;
  model.source = source;
  model.metadata = file.metadata();
  RecogniseArchitecture(file, arch, &model);
  std::set<std::string> used;
  for (const FileKey& key : FileKeys(model.layout, model.prefix, model.config)) {
    const FileTensor* tensor = file.Find(key.key);
    if (tensor)
      LoadKey(file, key, *tensor, model), used.insert(key.key);
    else
      model.ledger.missing.insert(model.ledger.missing.end(), key.canonical.begin(),
                                  key.canonical.end());
  }
  for (const std::string& name : file.names())
    if (!used.contains(name)) model.ledger.unexpected.push_back(name);
  for (const std::string& name : model.ledger.missing)
    if (!name.starts_with("head."))
      Fail("{}: no tensor for '{}'{}", source, name, DidYouMean(name, model.ledger.unexpected));
  return model;
}

}  // namespace

LoadedModel LoadModel(const std::string& source, const std::string& arch, uint64_t seed) {
  return source.starts_with("init:") ? LoadInit(source, seed) : LoadFile(source, arch);
}

void AdaptModel(LoadedModel& model, int64_t image_size, const std::vector<std::string>& labels,
                uint64_t seed) {
  VitConfig& c = model.config;
  if (image_size != c.image_size) {
    VitConfig resized = c;
    resized.image_size = image_size;
    CheckConfig(resized, "image size of the preprocessing");
    ResizePositions(model.params, c.image_size / c.patch_size, image_size / c.patch_size);
    model.ledger.reshaped.push_back(
        {"pos_embed", fmt::format("[{},{}]", 1 + c.patches(), c.width),
         fmt::format("[{},{}]", 1 + resized.patches(), c.width),
         fmt::format("positions resampled for {0}x{0} images", image_size)});
    c = resized;
  }
  const bool same_task =
      model.params.Has("head.weight") && !labels.empty() && model.labels == labels;
  if (same_task || labels.empty()) return;
  model.ledger.reshaped.push_back({"head", fmt::format("{} classes", c.classes),
                                   fmt::format("{} classes", labels.size()),
                                   "fresh head for the task"});
  c.classes = static_cast<int64_t>(labels.size());
  ResetHead(model.params, c.width, c.classes, seed);
  model.labels = labels;
}

namespace {

nlohmann::json HuggingFaceConfig(const LoadedModel& model) {
  nlohmann::json config = model.hf_config;
  config["image_size"] = model.config.image_size;
  config["architectures"] = {model.prefix == "deit." ? "DeiTForImageClassification"
                                                     : "ViTForImageClassification"};
  nlohmann::json id2label = nlohmann::json::object(), label2id = nlohmann::json::object();
  for (int64_t i = 0; i < model.config.classes; ++i) {
    const std::string label = static_cast<size_t>(i) < model.labels.size()
                                  ? model.labels[static_cast<size_t>(i)]
                                  : fmt::format("LABEL_{}", i);
    id2label[std::to_string(i)] = label;
    label2id[label] = i;
  }
  config["id2label"] = id2label;
  config["label2id"] = label2id;
  return config;
}

}  // namespace

void SaveModel(const LoadedModel& model, const ParamStore& params, const std::string& path,
               const StringMap& metadata) {
  std::vector<TensorToWrite> tensors;
  std::vector<std::vector<float>> stacked;  // fused tensors, kept alive until written
  const std::vector<FileKey> keys = FileKeys(model.layout, model.prefix, model.config);
  stacked.reserve(keys.size());
  for (const FileKey& key : keys) {
    const std::vector<int64_t> shape =
        FileShape(key.canonical[0], key.canonical.size(), model.config);
    std::span<const float> values = params.values(key.canonical[0]);
    if (key.canonical.size() > 1) {
      std::vector<float>& whole = stacked.emplace_back();
      for (const std::string& name : key.canonical) {
        const auto part = params.values(name);
        whole.insert(whole.end(), part.begin(), part.end());
      }
      values = whole;
    }
    tensors.push_back(ToWrite<float>(key.key, shape, values));
  }
  if (model.layout == Layout::kTimm) {
    WriteSafetensors(path, tensors, metadata);
    return;
  }
  CreateFreshDirectory(path);
  WriteFileAtomically(path + "/config.json", HuggingFaceConfig(model).dump(2) + "\n");
  WriteSafetensors(path + "/model.safetensors", tensors, metadata);
}

}  // namespace graft
