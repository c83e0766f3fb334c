// Writes checkpoints: SaveModel and ToLayout of checkpoint.h.
#include <algorithm>
#include <deque>
#include <set>

#include "models/files/checkpoint.h"
#include "models/files/hf_config.h"
#include "models/files/hf_modules.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/fresh_directory.h"
#include "runtime/io/json.h"
#include "runtime/io/npy.h"

namespace graft {
namespace {

// The root of the names to write: a bare backbone that has got a head is one no more.
std::string RootToWrite(const LoadedModel& m, const ParamStore& params) {
  if (m.layout != Layout::kHuggingFace || !m.root.empty()) return m.root;
  const bool had_head = m.file && m.file->Shape("classifier.weight");
  return params.Has("head.weight") && !had_head ? std::string(HfRootFor(m)) : m.root;
}

// Tensors to be written, together with the memory of those that had to be made.
struct Tensors {
  FileDType type = FileDType::kF32;  // of those that change
  std::vector<TensorToWrite> list;
  std::deque<std::vector<float>> made;
  std::deque<std::vector<std::byte>> converted;
  bool changed = false;
};

// Tells whether a file's bytes, of any floating type, stand for these values.
bool Holds(const TensorToWrite& stored, const TensorToWrite& tensor) {
  if (!IsFloatingPoint(stored.dtype) || stored.shape != tensor.shape) return false;
  if (stored.dtype == FileDType::kF32)
    return stored.bytes.data() == tensor.bytes.data() ||
           std::ranges::equal(stored.bytes, tensor.bytes);
  std::vector<float> values(tensor.bytes.size() / sizeof(float));
  ToFloat(stored.dtype, stored.bytes, values);
  return std::ranges::equal(std::as_bytes(std::span(values)), tensor.bytes);
}

void AddKey(const LoadedModel& m, const FileKey& key, const ParamStore& params, Tensors* out) {
  const std::string came_as = m.file ? key.In(*m.file) : "";
  if ((key.copy || key.instead) && came_as.empty()) return;
  const FormSizes sizes = SizesOf(m.config);
  std::span<const float> values = params.values(key.canonical[0]);
  if (key.canonical.size() > 1) {
    std::vector<float>& whole = out->made.emplace_back();
    for (const std::string& name : key.canonical) {
      const auto part = params.values(name);
      whole.insert(whole.end(), part.begin(), part.end());
    }
    values = whole;
  }
  if (Permutes(key.form))
    values = out->made.emplace_back(ToFile(key.form, key.shape, sizes, values));
  TensorToWrite tensor = ToWrite<float>(came_as.empty() ? key.names[0] : came_as,
                                        FileShape(key.form, key.shape, sizes), values);
  const std::optional<TensorToWrite> stored = came_as.empty() ? std::nullopt : m.file->Raw(came_as);
  const bool half = out->type != FileDType::kF32;
  if (stored && Holds(*stored, tensor) && (!half || stored->dtype == out->type)) {
    tensor = *stored;
  } else {
    out->changed = true;
    if (half) {
      std::vector<std::byte>& bytes = out->converted.emplace_back(tensor.bytes.size() / 2);
      FromFloat(out->type, values, bytes);
      tensor.dtype = out->type, tensor.bytes = bytes;
    }
  }
  out->list.push_back(std::move(tensor));
}

Tensors Collect(const LoadedModel& m, const ParamStore& params, FileDType type) {
  Tensors out;
  out.type = type;
  const std::string root = RootToWrite(m, params);
  const std::vector<FileKey> keys = FileKeys(m.layout, root, m.config);
  // A tensor that the file has in parts is written in parts again.
  std::set<std::string> in_parts;
  for (const FileKey& key : keys)
    if (key.instead && m.file && !key.In(*m.file).empty()) in_parts.insert(key.canonical[0]);
  // A decoder that is not the word embeddings is copied with the tensors that the model does not
  // use.
  const std::set<std::string> unused(m.ledger.unexpected.begin(), m.ledger.unexpected.end());
  for (const FileKey& key : keys) {
    if (!params.Has(key.canonical[0])) continue;
    if (!key.instead && in_parts.contains(key.canonical[0])) continue;
    if (key.copy && m.file && unused.contains(key.In(*m.file))) continue;
    AddKey(m, key, params, &out);
  }
  if (m.file && root == m.root)
    for (const std::string& name : m.ledger.unexpected)
      if (auto raw = m.file->Raw(name)) out.list.push_back(*std::move(raw));
  return out;
}

constexpr std::pair<const char*, FileDType> kTypes[] = {
    {"float32", FileDType::kF32}, {"float16", FileDType::kF16}, {"bfloat16", FileDType::kBF16}};
// Keys of config.json: transformers has called it "dtype" since 4.56, and "torch_dtype" before.
constexpr const char* kTypeKeys[] = {"dtype", "torch_dtype"};

// States the type that a load without a choice gives all tensors, whatever they are in the file.
void SetType(nlohmann::json* config, FileDType type) {
  const auto name = std::ranges::find(kTypes, type, &std::pair<const char*, FileDType>::second);
  bool there = false;
  for (const char* key : kTypeKeys)
    if (config->contains(key)) (*config)[key] = name->first, there = true;
  if (!there) (*config)["torch_dtype"] = name->first;
}

}  // namespace

FileDType StoredType(const LoadedModel& model) {
  if (!model.hf_config.empty()) {
    const Json config = ParseJson(model.hf_config, model.source);
    for (const char* key : kTypeKeys)
      for (const auto& [name, type] : kTypes)
        if (config.contains(key) && config[key] == name) return type;
  }
  std::set<FileDType> types;
  for (const std::string& name : model.ledger.matched)
    if (const auto raw = model.file ? model.file->Raw(name) : std::nullopt)
      types.insert(raw->dtype);
  if (types.size() > 1)
    FailUsage("{}: its tensors are of several types ({} and {}); choose f32, f16 or bf16",
              model.source, ToString(*types.begin()), ToString(*types.rbegin()));
  const bool half = types.contains(FileDType::kF16) || types.contains(FileDType::kBF16);
  return half ? *types.begin() : FileDType::kF32;
}

namespace {

// Calls refuse(what, where) for a part of the model that the layout has no place for.
template <class Refuse>
void CheckParts(const VitConfig& c, Layout layout, bool head, const Refuse& refuse) {
  if (layout == Layout::kTimm) {
    if (head && c.pool == "token_mean") refuse("pools by 'token_mean'", "timm");
    if (c.tokens == 2 && c.pool == "token") refuse("a distillation token without its head", "timm");
    if (c.positions == "no_registers") refuse("registers without positions", "timm");
    return;
  }
  const char* where = layout == Layout::kJax ? "the .npz layout"
                      : c.layer_scale        ? "transformers' Dinov2"
                                             : "transformers' ViT";
  const bool dino = layout == Layout::kHuggingFace && c.layer_scale;
  if (head && (dino ? c.pool != "token_mean" : c.pool != "token" && c.pool != "distilled"))
    refuse(fmt::format("pools by '{}'", c.pool), where);
  if (c.tokens == 0) refuse("no class token", where);
  if (c.tokens == 2 && (dino || layout == Layout::kJax)) refuse("a distillation token", where);
  if (c.registers > 0 && !(dino && c.positions == "no_registers")) refuse("register tokens", where);
  if (c.positions == "patches") refuse("no position for the class token", where);
  if (c.pre_norm) refuse("a norm before the blocks", where);
  if (c.qk_norm) refuse("norms of queries and keys", where);
  if (!c.patch_bias) refuse("a patch embedding without bias", where);
  if (c.gelu == "swiglu") refuse("a gated MLP", where);
  if (layout == Layout::kJax && (c.layer_scale || !c.qkv_bias))
    refuse(c.layer_scale ? "LayerScale" : "projections without bias", where);
  if (dino && c.mlp_width % c.width != 0)
    refuse(fmt::format("an MLP of {} columns", c.mlp_width), where);
}

}  // namespace

void CheckExpressible(const LoadedModel& model, Layout layout) {
  const auto refuse = [&](const std::string& what, const char* where) {
    const bool timm = layout != Layout::kTimm && !model.is_bert();
    Fail("{}: {}, which {} cannot express{}", model.source, what, where,
         timm ? "; hint: --format timm" : "");
  };
  if (model.is_bert() && layout != Layout::kHuggingFace) refuse("a BERT", "this layout");
  if (!model.is_bert()) CheckParts(model.vit(), layout, model.params.Has("head.weight"), refuse);
}

void ToLayout(LoadedModel& model, Layout layout) {
  if (model.layout == layout) return;
  CheckExpressible(model, layout);
  model.layout = layout;
  model.root = layout == Layout::kHuggingFace ? std::string(HfRootFor(model)) : "";
  model.hf_config.clear();
  model.file = nullptr;
}

StringMap ModelFacts(const LoadedModel& model) {
  Json architecture = {{"architecture", model.is_bert() ? "bert" : "vit"}};
  std::visit(
      [&](const auto& c) {
        c.Visit(c, [&](const char* name, const auto& field) { architecture[name] = field; });
      },
      model.config);
  StringMap facts{{"format", "pt"}, {"graft.config", DumpJson(architecture)}};
  if (!model.labels.empty()) facts["graft.labels"] = DumpJson(Json(model.labels));
  if (TaskOf(model.config) != kClassify) facts["graft.task"] = TaskOf(model.config);
  return facts;
}

void SaveModel(const LoadedModel& model, const ParamStore& params, const std::string& path,
               const StringMap& metadata, FileDType weights) {
  const Tensors tensors = Collect(model, params, weights);
  if (model.layout == Layout::kJax) {
    if (weights == FileDType::kBF16) Fail("{}: an .npz knows no bf16; hint: f16 or f32", path);
    NpzWriter writer(path);
    for (const TensorToWrite& tensor : tensors.list) writer.Add(tensor);
    for (const auto& [key, text] : metadata)
      if (key.starts_with("graft."))
        writer.Add({key, FileDType::kU8, {std::ssize(text)}, std::as_bytes(std::span(text))});
    return writer.Close();
  }
  if (model.layout == Layout::kTimm) return WriteSafetensors(path, tensors.list, metadata);
  FreshDirectory fresh(path);
  nlohmann::json config = HuggingFaceConfig(model);
  if (tensors.changed) SetType(&config, weights);
  WriteFileAtomically(fresh.path() + "/config.json", config.dump(2) + "\n");
  WriteSafetensors(fresh.path() + "/model.safetensors", tensors.list, metadata);
  fresh.Keep();
}

}  // namespace graft
