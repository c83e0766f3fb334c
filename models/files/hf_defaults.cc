#include "models/files/hf_defaults.h"

#include "runtime/io/json.h"

namespace graft {
namespace {

// A key that config.json may lack, with the value of transformers' config classes.
struct DefaultFact {
  const char* key;
  Json value;
  int64_t found = 0;  // a size, which the tensors tell
};

std::vector<DefaultFact> DefaultsOf(const BertConfig& c) {
  return {{"intermediate_size", 3072, c.mlp_width},
          {"layer_norm_eps", 1e-12},
          {"hidden_dropout_prob", 0.1},
          {"attention_probs_dropout_prob", 0.1},
          {"vocab_size", 30522, c.vocab},
          {"max_position_embeddings", 512, c.positions},
          {"type_vocab_size", 2, c.types}};
}

// Configurations of Dinov2 describe the MLP by a ratio, which has its own defaults.
std::vector<DefaultFact> DefaultsOf(const VitConfig& c) {
  std::vector<DefaultFact> facts{{"image_size", 224, c.image_size},
                                 {"num_channels", 3, c.channels}};
  if (!c.layer_scale) {
    facts.push_back({"intermediate_size", 3072, c.mlp_width});
    facts.push_back({"layer_norm_eps", 1e-12});
    facts.push_back({"patch_size", 16, c.patch_size});
    return facts;
  }
  facts.push_back({"layer_norm_eps", 1e-6});
  facts.push_back({"patch_size", c.registers ? 16 : 14, c.patch_size});
  if (c.registers) facts.push_back({"num_register_tokens", 4, c.registers});
  return facts;
}

std::vector<DefaultFact> AllDefaults(const ModelConfig& config) {
  return std::visit(
      [&](const auto& c) {
        std::vector<DefaultFact> facts{{"hidden_size", 768, c.width},
                                       {"num_hidden_layers", 12, c.depth},
                                       {"num_attention_heads", 12},
                                       {"hidden_act", "gelu"}};
        const std::vector<DefaultFact> own = DefaultsOf(c);
        facts.insert(facts.end(), own.begin(), own.end());
        return facts;
      },
      config);
}

}  // namespace

std::string TypeOfTensors(const LoadedModel& m) {
  if (m.is_bert()) return "bert";
  if (m.vit().layer_scale) return m.vit().registers ? "dinov2_with_registers" : "dinov2";
  return m.root == "deit." || m.vit().tokens == 2 ? "deit" : "vit";
}

std::vector<std::string> FillDefaults(const std::string& path, const LoadedModel& m, Json* config) {
  std::vector<std::string> assumed;
  for (const DefaultFact& fact : AllDefaults(m.config)) {
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
