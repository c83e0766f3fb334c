#include "models/files/hf_defaults.h"

#include "runtime/io/json.h"

namespace graft {
namespace {

// A key that config.json may lack, with transformers' value of BertConfig, ViTConfig and
// DeiTConfig.
struct DefaultFact {
  const char* key;
  Json value;
  int64_t found = 0;  // a size, which the tensors tell
};

std::vector<DefaultFact> DefaultsOf(const ModelConfig& config) {
  std::vector<DefaultFact> facts{
      {"num_attention_heads", 12}, {"hidden_act", "gelu"}, {"layer_norm_eps", 1e-12}};
  const auto add = [&](std::vector<DefaultFact> more) {
    facts.insert(facts.end(), more.begin(), more.end());
  };
  std::visit(
      [&](const auto& c) {
        add({{"hidden_size", 768, c.width},
             {"num_hidden_layers", 12, c.depth},
             {"intermediate_size", 3072, c.mlp_width}});
      },
      config);
  if (const auto* bert = std::get_if<BertConfig>(&config))
    add({{"hidden_dropout_prob", 0.1},
         {"attention_probs_dropout_prob", 0.1},
         {"vocab_size", 30522, bert->vocab},
         {"max_position_embeddings", 512, bert->positions},
         {"type_vocab_size", 2, bert->types}});
  else
    add({{"image_size", 224, std::get<VitConfig>(config).image_size},
         {"patch_size", 16, std::get<VitConfig>(config).patch_size},
         {"num_channels", 3, std::get<VitConfig>(config).channels}});
  return facts;
}

}  // namespace

std::string TypeOfTensors(const LoadedModel& m) {
  if (m.is_bert()) return "bert";
  return m.root == "deit." || m.vit().tokens == 2 ? "deit" : "vit";
}

std::vector<std::string> FillDefaults(const std::string& path, const LoadedModel& m, Json* config) {
  std::vector<std::string> assumed;
  for (const DefaultFact& fact : DefaultsOf(m.config)) {
    if (config->contains(fact.key)) continue;
    if (fact.found && fact.value != fact.found)
      Fail("{}: no '{}', for which transformers takes {}, but the tensors say {}", path, fact.key,
           fact.value.dump(), fact.found);
    (*config)[fact.key] = fact.value;
    if (!fact.found) assumed.emplace_back(fact.key);
  }
  return assumed;
}

void NoteDefaults(const Json& config, const std::string& path,
                  const std::vector<std::string>& assumed, LoadedModel* m) {
  if (assumed.empty()) return;
  const std::map<std::string, std::string> facts{
      {"num_attention_heads", "heads"},
      {"hidden_act", m->is_bert() ? "activation" : "gelu"},
      {"layer_norm_eps", "eps"},
      {"hidden_dropout_prob", "hidden_dropout"},
      {"attention_probs_dropout_prob", "attention_dropout"}};
  std::string text;
  for (const std::string& key : assumed) {
    text += fmt::format("{}{} = {}", text.empty() ? "" : ", ", key, config[key].dump());
    m->fact_source[facts.at(key)] = "transformers' default";
  }
  m->notices.push_back(fmt::format("{}: does not say, so as in transformers: {}", path, text));
}

}  // namespace graft
