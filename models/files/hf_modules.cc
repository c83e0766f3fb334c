#include "models/files/hf_modules.h"

#include <algorithm>
#include <span>

#include "models/files/hf_config.h"
#include "models/files/name_map.h"
#include "runtime/error.h"

namespace graft {
namespace {

using Renaming = std::pair<std::string_view, std::string_view>;

// How transformers 5 renames modules, in this order (conversion_mapping.py, "ViTModel").
constexpr Renaming kVitRenamed5[] = {
    {"encoder.layer.", "layers."},
    {"attention.attention.query", "attention.q_proj"},
    {"attention.attention.key", "attention.k_proj"},
    {"attention.attention.value", "attention.v_proj"},
    {"attention.output.dense", "attention.o_proj"},
    {"intermediate.dense", "mlp.fc1"},
    {"output.dense", "mlp.fc2"},
};

// How it renames those of "Dinov2Model".
constexpr Renaming kDinoRenamed5[] = {
    {"attention.attention.query", "attention.q_proj"},
    {"attention.attention.key", "attention.k_proj"},
    {"attention.attention.value", "attention.v_proj"},
    {"attention.output.dense", "attention.o_proj"},
    {"mlp.weights_out", "mlp.down_proj"},
};
// The first layer of a gated MLP, which is two modules in transformers 5 (gate_proj, up_proj).
constexpr std::string_view kGated = ".mlp.weights_in";

enum class Kind { kVit, kDino, kBert };
Kind KindOf(const LoadedModel& m) {
  return m.is_bert() ? Kind::kBert : m.vit().layer_scale ? Kind::kDino : Kind::kVit;
}

// A classifier of transformers. Its modules have the names of its checkpoints, but for `renamed5`.
struct Family {
  Kind kind;
  std::string_view model_type, root;
  HfClass of;
  std::span<const Renaming> renamed5;
};
constexpr Family kFamilies[] = {
    {Kind::kVit,
     "vit",
     "vit.",
     {"", "ViTForImageClassification", "transformers.models.vit.modeling_vit"},
     kVitRenamed5},
    {Kind::kVit,
     "deit",
     "deit.",
     {"", "DeiTForImageClassification", "transformers.models.deit.modeling_deit"},
     kVitRenamed5},
    {Kind::kDino,
     "dinov2",
     "dinov2.",
     {"", "Dinov2ForImageClassification", "transformers.models.dinov2.modeling_dinov2"},
     kDinoRenamed5},
    {Kind::kDino,
     "dinov2_with_registers",
     "dinov2_with_registers.",
     {"", "Dinov2WithRegistersForImageClassification",
      "transformers.models.dinov2_with_registers.modeling_dinov2_with_registers"},
     kDinoRenamed5},
    {Kind::kBert,
     "bert",
     "bert.",
     {"SEQ_CLS", "BertForSequenceClassification", "transformers.models.bert.modeling_bert"},
     {}},
};

const Family& FamilyOf(const LoadedModel& m) {
  const Kind kind = KindOf(m);
  std::string type = kind == Kind::kBert     ? "bert"
                     : kind == Kind::kVit    ? (m.vit().tokens == 2 ? "deit" : "vit")
                     : m.vit().registers > 0 ? "dinov2_with_registers"
                                             : "dinov2";
  for (const Family& family : kFamilies)
    if (family.kind == kind && family.root == m.root) type = family.model_type;
  if (!m.hf_config.empty()) type = ModelType(m);
  for (const Family& family : kFamilies)
    if (family.model_type == type) return family;
  Fail("{}: no classifier of transformers for '{}'", m.source, type);
}

std::string Renamed(std::string name, std::span<const Renaming> table) {
  for (const auto& [from, to] : table)
    if (const size_t at = name.find(from); at != std::string::npos)
      name.replace(at, from.size(), to);
  return name;
}

// The name in checkpoints; layers of a gated MLP have names of their own.
const std::string& WrittenName(const LoadedModel& model, const FileKey& key) {
  const bool gated = !model.is_bert() && model.vit().gelu == "swiglu";
  const auto name = std::ranges::find_if(
      key.names, [](const std::string& n) { return n.find(".mlp.weights_") != n.npos; });
  return gated && name != key.names.end() ? *name : key.names[0];
}

// The naming of the classifier's keys alone, as the masked-LM head belongs to another class.
HfNaming MakeNaming(const LoadedModel& model, const Family& family, std::string_view root,
                    int transformers) {
  HfNaming naming{family.renamed5.empty() ? 0 : transformers, family.of, {}};
  for (const FileKey& key : FileKeys(Layout::kHuggingFace, std::string(root), model.config)) {
    const std::string &written = WrittenName(model, key), &canonical = key.canonical[0];
    if (key.copy || canonical.starts_with("mlm.")) continue;
    if (transformers >= 5 && written.find(kGated) != written.npos) continue;
    const size_t dot = written.rfind('.');
    const std::string parameter = written.substr(dot + 1);
    if (parameter != "weight" && parameter != "bias") continue;  // a token: no module of its own
    std::string name = written.substr(0, dot);
    if (transformers >= 5) name = Renamed(std::move(name), family.renamed5);
    auto at = std::find_if(naming.modules.begin(), naming.modules.end(),
                           [&](const HfModule& m) { return m.name == name; });
    if (at == naming.modules.end())
      at = naming.modules.insert(at, {name, canonical.substr(0, canonical.rfind('.')), {}});
    at->parameters.push_back(parameter);
    if (parameter == "weight")
      at->weight_shape = FileShape(key.form, key.shape, SizesOf(model.config));
  }
  return naming;
}

}  // namespace

const HfModule* HfNaming::FindName(std::string_view name) const {
  const auto it = std::find_if(modules.begin(), modules.end(),
                               [&](const HfModule& m) { return m.name == name; });
  return it == modules.end() ? nullptr : &*it;
}

const HfModule* HfNaming::FindScope(std::string_view scope) const {
  const auto it = std::find_if(modules.begin(), modules.end(),
                               [&](const HfModule& m) { return m.scope == scope; });
  return it == modules.end() ? nullptr : &*it;
}

std::vector<HfNaming> HfNamings(const LoadedModel& model) {
  std::vector<std::pair<std::string_view, const Family*>> ways;
  for (const Family& family : kFamilies)
    if (family.kind == KindOf(model)) ways.emplace_back(family.root, &family);
  ways.emplace_back("", ways[0].second);  // a bare backbone
  if (model.layout == Layout::kHuggingFace)
    std::stable_partition(ways.begin(), ways.end(),
                          [&](const auto& way) { return way.first == model.root; });
  std::vector<HfNaming> namings;
  for (const auto& [root, family] : ways) {
    namings.push_back(MakeNaming(model, *family, root, 5));
    if (!family->renamed5.empty()) namings.push_back(MakeNaming(model, *family, root, 4));
  }
  return namings;
}

HfNaming HfNamingFor(const LoadedModel& model, int transformers) {
  const Family& family = FamilyOf(model);
  return MakeNaming(model, family, family.root, transformers);
}

std::string_view HfRootFor(const LoadedModel& model) { return FamilyOf(model).root; }

}  // namespace graft
