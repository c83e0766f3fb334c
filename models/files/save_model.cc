// Checkpoints written: SaveModel and ToLayout of checkpoint.h.
#include <algorithm>
#include <deque>

#include "models/files/checkpoint.h"
#include "models/files/hf_config.h"
#include "models/files/hf_modules.h"
#include "runtime/io/atomic_file.h"
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
  if (key.copy && came_as.empty()) return;
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
  for (const FileKey& key : FileKeys(m.layout, root, m.config))
    if (params.Has(key.canonical[0])) AddKey(m, key, params, &out);
  if (m.file && root == m.root)
    for (const std::string& name : m.ledger.unexpected)
      if (auto raw = m.file->Raw(name)) out.list.push_back(*std::move(raw));
  return out;
}

}  // namespace

void ToLayout(LoadedModel& model, Layout layout) {
  if (model.layout == layout) return;
  auto refuse = [&](const std::string& what, const char* where) {
    Fail("{}: {}, which {} cannot express", model.source, what, where);
  };
  if (model.is_bert() && layout != Layout::kHuggingFace) refuse("a BERT", "this layout");
  if (!model.is_bert()) {
    const VitConfig& c = model.vit();
    if (layout != Layout::kTimm && c.pool != "token" && c.pool != "distilled")
      refuse(fmt::format("pools by '{}'", c.pool), "this layout");
    if (layout == Layout::kTimm && c.tokens == 2 && c.pool == "token")
      refuse("a distillation token without its head", "timm");
    if (layout == Layout::kJax && c.tokens == 2) refuse("a distillation token", "the .npz layout");
  }
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
  CreateFreshDirectory(path);
  WriteFileAtomically(path + "/config.json", HuggingFaceConfig(model).dump(2) + "\n");
  WriteSafetensors(path + "/model.safetensors", tensors.list, metadata);
}

}  // namespace graft
