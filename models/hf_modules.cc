#include "models/hf_modules.h"

#include <algorithm>

#include "models/hf_config.h"
#include "models/name_map.h"

namespace graft {
namespace {

// transformers 5, in this order (conversion_mapping.py, "ViTModel").
constexpr std::pair<std::string_view, std::string_view> kRenamed5[] = {
    {"encoder.layer.", "layers."},
    {"attention.attention.query", "attention.q_proj"},
    {"attention.attention.key", "attention.k_proj"},
    {"attention.attention.value", "attention.v_proj"},
    {"attention.output.dense", "attention.o_proj"},
    {"intermediate.dense", "mlp.fc1"},
    {"output.dense", "mlp.fc2"},
};

std::string Renamed5(std::string name) {
  for (const auto& [from, to] : kRenamed5)
    if (const size_t at = name.find(from); at != std::string::npos)
      name.replace(at, from.size(), to);
  return name;
}

HfNaming MakeNaming(const LoadedModel& model, const std::string& prefix, int transformers) {
  HfNaming naming{transformers, prefix, {}};
  for (const FileKey& key : FileKeys(Layout::kHuggingFace, prefix, model.config)) {
    const std::string& written = key.names[0];
    const size_t dot = written.rfind('.');
    const std::string parameter = written.substr(dot + 1);
    if (parameter != "weight" && parameter != "bias") continue;  // a token: no module of its own
    std::string name = written.substr(0, dot);
    if (transformers >= 5) name = Renamed5(std::move(name));
    const std::string& canonical = key.canonical[0];
    auto at = std::find_if(naming.modules.begin(), naming.modules.end(),
                           [&](const HfModule& m) { return m.name == name; });
    if (at == naming.modules.end())
      at = naming.modules.insert(at, {name, canonical.substr(0, canonical.rfind('.')), {}});
    at->parameters.push_back(parameter);
    if (parameter == "weight")
      at->weight_rank = FileShape(key.form, key.shape, SizesOf(model.config)).size();
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
  std::vector<std::string> prefixes{"vit.", "deit.", ""};
  if (model.layout == Layout::kHuggingFace)
    std::stable_partition(prefixes.begin(), prefixes.end(),
                          [&](const std::string& p) { return p == model.prefix; });
  std::vector<HfNaming> namings;
  for (const std::string& prefix : prefixes)
    for (int transformers : {5, 4}) namings.push_back(MakeNaming(model, prefix, transformers));
  return namings;
}

HfNaming HfNamingFor(const LoadedModel& model, int transformers) {
  const bool deit = model.prefix == "deit." || ModelType(model) == "deit";
  return MakeNaming(model, deit ? "deit." : "vit.", transformers);
}

HfClass HfClassOf(const HfNaming& naming) {
  if (naming.prefix == "deit.")
    return {"", "DeiTForImageClassification", "transformers.models.deit.modeling_deit"};
  return {"", "ViTForImageClassification", "transformers.models.vit.modeling_vit"};
}

}  // namespace graft
