// Checkpoints written: SaveModel and ToLayout of checkpoint.h.
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

// A bare backbone that has got a head in the meantime is one no more.
std::string RootToWrite(const LoadedModel& m, const ParamStore& params) {
  if (m.layout != Layout::kHuggingFace || !m.root.empty()) return m.root;
  const bool had_head = m.file && m.file->Shape("classifier.weight");
  return params.Has("head.weight") && !had_head ? std::string(HfRootFor(m)) : m.root;
}

// Tensors to be written, with those that had to be made for it.
struct Tensors {
  std::vector<TensorToWrite> list;
  std::deque<std::vector<float>> made;
};

// Whether the bytes of a file, of a shorter or longer type, are these values.
bool Holds(const TensorToWrite& stored, const TensorToWrite& tensor) {
  if (stored.dtype == FileDType::kF32 || !IsFloatingPoint(stored.dtype) ||
      stored.shape != tensor.shape)
    return false;
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
  // What has not changed goes back as it came; what has is f32, since rounding it would undo a
  // part of what was learnt.
  if (!came_as.empty())
    if (auto stored = m.file->Raw(came_as); stored && Holds(*stored, tensor)) tensor = *stored;
  out->list.push_back(std::move(tensor));
}

Tensors Collect(const LoadedModel& m, const ParamStore& params) {
  Tensors out;
  const std::string root = RootToWrite(m, params);
  const std::vector<FileKey> keys = FileKeys(m.layout, root, m.config);
  // What the file has in parts it gets back in parts.
  std::set<std::string> in_parts;
  for (const FileKey& key : keys)
    if (key.instead && m.file && !key.In(*m.file).empty()) in_parts.insert(key.canonical[0]);
  for (const FileKey& key : keys)
    if (params.Has(key.canonical[0]) && (key.instead || !in_parts.contains(key.canonical[0])))
      AddKey(m, key, params, &out);
  if (m.file && root == m.root)
    for (const std::string& name : m.ledger.unexpected)
      if (auto raw = m.file->Raw(name)) out.list.push_back(*std::move(raw));
  return out;
}

}  // namespace

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
  return facts;
}

void SaveModel(const LoadedModel& model, const ParamStore& params, const std::string& path,
               const StringMap& metadata) {
  const Tensors tensors = Collect(model, params);
  if (model.layout == Layout::kJax) {
    NpzWriter writer(path);
    for (const TensorToWrite& tensor : tensors.list) writer.Add(tensor);
    for (const auto& [key, text] : metadata)
      if (key.starts_with("graft."))
        writer.Add({key,
                    FileDType::kU8,
                    {static_cast<int64_t>(text.size())},
                    std::as_bytes(std::span(text))});
    return writer.Close();
  }
  if (model.layout == Layout::kTimm) return WriteSafetensors(path, tensors.list, metadata);
  FreshDirectory fresh(path);
  WriteFileAtomically(fresh.path() + "/config.json", HuggingFaceConfig(model).dump(2) + "\n");
  WriteSafetensors(fresh.path() + "/model.safetensors", tensors.list, metadata);
  fresh.Keep();
}

}  // namespace graft
