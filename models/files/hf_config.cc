#include "models/files/hf_config.h"

#include <algorithm>

#include "models/files/hf_defaults.h"
#include "runtime/io/json.h"

namespace graft {
namespace {

// hidden_act, and our name for it. transformers has several names for one function.
constexpr std::pair<const char*, const char*> kActivations[] = {{"gelu", "erf"},
                                                                {"gelu_python", "erf"},
                                                                {"gelu_new", "tanh"},
                                                                {"gelu_fast", "tanh"},
                                                                {"gelu_pytorch_tanh", "tanh"},
                                                                {"relu", "relu"},
                                                                {"silu", "silu"},
                                                                {"swish", "silu"},
                                                                {"quick_gelu", "quick"}};

std::string ReadActivation(const Json& config, const std::string& path) {
  const std::string act = GetString(config, "hidden_act", path);
  std::vector<std::string> known;
  for (auto [theirs, ours] : kActivations) {
    if (act == theirs) return ours;
    known.emplace_back(theirs);
  }
  Fail("{}: hidden_act '{}' is not supported; known: {}", path, act, fmt::join(known, ", "));
}

std::string WriteActivation(const std::string& ours) {
  if (ours == "tanh") return "gelu_pytorch_tanh";
  for (const auto& [theirs, name] : kActivations)
    if (ours == name) return theirs;
  return "gelu";  // of a gated MLP transformers reads none
}

constexpr int64_t kMostInt = 1 << 30;

// Checks a size that the tensors have told already.
void Agree(const Json& config, const char* key, int64_t found, const std::string& path) {
  const int64_t value = GetInt(config, key, 1, kMostInt, path);
  if (value != found) Fail("{}: {} = {}, but the tensors say {}", path, key, value, found);
}
void AgreeIfThere(const Json& config, const char* key, int64_t found, const std::string& path) {
  if (config.contains(key) && !config[key].is_null()) Agree(config, key, found, path);
}

void RefuseFlag(const Json& config, const char* key, const std::string& path) {
  if (FindBool(config, key, path).value_or(false))
    Fail("{}: {} = true is not supported", path, key);
}

double Rate(const Json& config, const char* key, const std::string& path) {
  return GetNumber(config, key, 0, 0.999999, path);
}

void ReadCommon(const Json& config, const std::string& path, int64_t width, int64_t depth,
                int64_t* heads, double* eps, std::string* activation) {
  Agree(config, "hidden_size", width, path);
  Agree(config, "num_hidden_layers", depth, path);
  *heads = GetInt(config, "num_attention_heads", 1, width, path);
  if (width % *heads)
    Fail("{}: num_attention_heads = {} does not divide hidden_size = {}", path, *heads, width);
  *eps = GetNumber(config, "layer_norm_eps", 1e-30, 0.1, path);
  *activation = ReadActivation(config, path);
  if (config.contains("quantization_config") && !config["quantization_config"].is_null())
    Fail("{}: quantization_config: quantised weights are not supported", path);
}

// Dinov2 says the width of its MLP by a ratio; the gated one has two thirds of that, rounded up to
// a multiple of 8.
int64_t DinoMlpWidth(const Json& config, const VitConfig& c, const std::string& path) {
  const double ratio = FindNumber(config, "mlp_ratio", 0, 1024, path).value_or(4);
  const int64_t wide = static_cast<int64_t>(static_cast<double>(c.width) * ratio);
  if (!FindBool(config, "use_swiglu_ffn", path).value_or(false)) return wide;
  return (static_cast<int64_t>(static_cast<double>(wide) * 2 / 3) + 7) / 8 * 8;
}

void ReadDino(const Json& config, const std::string& path, const VitConfig& c) {
  if (const int64_t width = DinoMlpWidth(config, c, path); width != c.mlp_width)
    Fail("{}: mlp_ratio and use_swiglu_ffn make an MLP of {}, but the tensors say {}", path, width,
         c.mlp_width);
  if (FindBool(config, "use_swiglu_ffn", path).value_or(false) != (c.gelu == "swiglu"))
    Fail("{}: use_swiglu_ffn, but the tensors are those of {} MLP", path,
         c.gelu == "swiglu" ? "a gated" : "no gated");
  if (c.registers > 0) Agree(config, "num_register_tokens", c.registers, path);
}

void ReadVit(const Json& config, const std::string& path, VitConfig* c) {
  std::string activation;
  ReadCommon(config, path, c->width, c->depth, &c->heads, &c->eps, &activation);
  if (c->gelu != "swiglu") c->gelu = activation;
  if (c->layer_scale)
    ReadDino(config, path, *c);
  else
    Agree(config, "intermediate_size", c->mlp_width, path);
  Agree(config, "patch_size", c->patch_size, path);
  Agree(config, "image_size", c->image_size, path);
  AgreeIfThere(config, "num_channels", c->channels, path);
  if (FindBool(config, "qkv_bias", path).value_or(true) != c->qkv_bias)
    Fail("{}: qkv_bias = {}, but the tensors say {}{}", path, !c->qkv_bias, c->qkv_bias,
         c->qkv_bias ? ""
                     : "; hint: of an adapter that was not merged the layers are called "
                       "...query.base_layer, beside lora_A and lora_B; merge it first");
}

void ReadBert(const Json& config, const std::string& path, LoadedModel* m) {
  BertConfig& c = m->bert();
  ReadCommon(config, path, c.width, c.depth, &c.heads, &c.eps, &c.activation);
  Agree(config, "intermediate_size", c.mlp_width, path);
  Agree(config, "vocab_size", c.vocab, path);
  Agree(config, "max_position_embeddings", c.positions, path);
  Agree(config, "type_vocab_size", c.types, path);
  const auto kind = FindString(config, "position_embedding_type", path).value_or("absolute");
  if (kind != "absolute")
    Fail("{}: position_embedding_type '{}' is not supported; expected 'absolute'", path, kind);
  RefuseFlag(config, "is_decoder", path);
  RefuseFlag(config, "add_cross_attention", path);
  if (config.contains("pruned_heads") && !config["pruned_heads"].empty())
    Fail("{}: pruned_heads are not supported", path);
  c.hidden_dropout = Rate(config, "hidden_dropout_prob", path);
  c.attention_dropout = Rate(config, "attention_probs_dropout_prob", path);
  c.classifier_dropout =
      FindNumber(config, "classifier_dropout", 0, 0.999999, path).value_or(c.hidden_dropout);
  if (const auto pool = FindString(config, "classifier_pooling", path)) {
    c.pool = *pool;
    m->fact_source["pool"] = "config.json";
  }
  for (const char* fact : {"hidden_dropout", "attention_dropout", "classifier_dropout"})
    m->fact_source[fact] = "config.json";
}

// Classes of transformers that read the same forward pass, or a part of it that a head of ours can
// stand on. Others have a head of the same name that classifies something else, such as each token.
const std::vector<std::string> kBertArchitectures = {"BertModel",
                                                     "BertForPreTraining",
                                                     "BertForMaskedLM",
                                                     "BertLMHeadModel",
                                                     "BertForNextSentencePrediction",
                                                     "BertForQuestionAnswering",
                                                     "BertForSequenceClassification"};
const std::vector<std::string> kVitArchitectures = {"ViTModel",
                                                    "ViTForMaskedImageModeling",
                                                    "ViTForImageClassification",
                                                    "DeiTModel",
                                                    "DeiTForMaskedImageModeling",
                                                    "DeiTForImageClassification",
                                                    "DeiTForImageClassificationWithTeacher",
                                                    "Dinov2Model",
                                                    "Dinov2ForImageClassification",
                                                    "Dinov2WithRegistersModel",
                                                    "Dinov2WithRegistersForImageClassification"};

void CheckClass(const Json& config, const std::string& path, bool bert) {
  if (!config.contains("architectures") || config["architectures"].is_null()) return;
  const std::vector<std::string>& known = bert ? kBertArchitectures : kVitArchitectures;
  for (const std::string& name : GetStrings(config, "architectures", path))
    if (std::ranges::find(known, name) == known.end())
      Fail("{}: architectures: '{}' is not supported; known: {}", path, name,
           fmt::join(known, ", "));
}

// Tells all rates in one notice: other programs apply them in fine-tuning, Graft applies only those
// of methods.
void NoteDropout(const Json& config, const std::string& path, LoadedModel* m) {
  std::vector<std::string> rates;
  for (const char* key :
       {"hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"})
    if (const double rate = FindNumber(config, key, 0, 0.999999, path).value_or(0); rate > 0)
      rates.push_back(fmt::format("{} = {}", key, rate));
  if (!rates.empty())
    m->training_notices.push_back(
        fmt::format("{}: no effect of {}: dropout inside the base model is not supported in "
                    "training",
                    path, fmt::join(rates, ", ")));
}

}  // namespace

void CheckModelType(const Json& config, const std::string& path) {
  if (!config.is_object()) Fail("{}: expected an object, found {}", path, config.type_name());
  if (!config.contains("model_type")) return;  // the tensors tell
  const std::vector<std::string> known{"bert", "deit", "dinov2", "dinov2_with_registers", "vit"};
  const std::string type = GetString(config, "model_type", path);
  if (std::ranges::find(known, type) == known.end())
    Fail("{}: model_type '{}' is not supported; known: {}", path, type, fmt::join(known, ", "));
}

void ReadHuggingFaceConfig(const Json& given, const std::string& path, LoadedModel* model) {
  CheckModelType(given, path);
  LoadedModel& m = *model;
  const bool bert = m.is_bert();
  const std::string type = m.layout == Layout::kHuggingFace && !given.contains("model_type")
                               ? TypeOfTensors(m)
                               : GetString(given, "model_type", path);
  if ((type == "bert") != bert)
    Fail("{}: model_type '{}', but the tensors' names are those of {}", path, type,
         bert ? "bert" : "vit or deit");
  if (!bert && type.starts_with("dinov2") != m.vit().layer_scale)
    Fail("{}: model_type '{}', but the tensors are those of {} LayerScale", path, type,
         m.vit().layer_scale ? "a model with" : "one without");
  Json config = given;
  config["model_type"] = type;
  const std::vector<std::string> assumed = FillDefaults(path, m, &config);
  if (bert)
    ReadBert(config, path, &m);
  else
    ReadVit(config, path, &m.vit());
  CheckClass(config, path, bert);
  NoteDropout(config, path, &m);
  for (const char* fact : {"heads", "eps", bert ? "activation" : "gelu"})
    m.fact_source[fact] = "config.json";
  if (!bert) m.fact_source["pool"] = "config.json";
  NoteDefaults(config, path, assumed, &m);
  m.hf_config = DumpJson(config);
}

bool TiesDecoder(const LoadedModel& m) {
  if (m.hf_config.empty()) return true;
  const std::string path = m.source + "/config.json";
  return FindBool(ParseJson(m.hf_config, path), "tie_word_embeddings", path).value_or(true);
}

std::vector<std::string> ReadLabels(const Json& config, int64_t classes, const std::string& path) {
  const auto number = FindInt(config, "num_labels", 0, kMostInt, path);
  if (number && *number != classes)
    Fail("{}: num_labels = {}, but the classifier has {} classes", path, *number, classes);
  if (!config.contains("id2label") || config["id2label"].is_null()) return {};
  const Json& names = GetObject(config, "id2label", path);
  if (std::ssize(names) != classes)
    Fail("{}: id2label names {} classes, but the classifier has {}", path, names.size(), classes);
  std::vector<std::string> labels;
  bool made_up = true;  // all of them; a name may well be LABEL_0 among others
  for (int64_t i = 0; i < classes; ++i) {
    labels.push_back(GetString(names, std::to_string(i), path + ": id2label"));
    made_up &= labels.back() == fmt::format("LABEL_{}", i);
  }
  return made_up ? std::vector<std::string>() : labels;
}

namespace {

nlohmann::json NewConfig(const VitConfig& c) {
  nlohmann::json config{{"model_type", c.tokens == 2 ? "deit" : "vit"},
                        {"hidden_size", c.width},
                        {"num_hidden_layers", c.depth},
                        {"num_attention_heads", c.heads},
                        {"hidden_act", WriteActivation(c.gelu)},
                        {"layer_norm_eps", c.eps},
                        {"image_size", c.image_size},
                        {"patch_size", c.patch_size},
                        {"num_channels", c.channels},
                        {"qkv_bias", c.qkv_bias},
                        {"hidden_dropout_prob", 0.0},
                        {"attention_probs_dropout_prob", 0.0},
                        {"torch_dtype", "float32"}};
  if (!c.layer_scale) {
    config["intermediate_size"] = c.mlp_width;
    return config;
  }
  config["model_type"] = c.registers > 0 ? "dinov2_with_registers" : "dinov2";
  if (c.registers > 0) config["num_register_tokens"] = c.registers;
  config["mlp_ratio"] = c.mlp_width / c.width;
  return config;
}

nlohmann::json NewConfig(const BertConfig& c) {
  return {{"model_type", "bert"},
          {"vocab_size", c.vocab},
          {"max_position_embeddings", c.positions},
          {"type_vocab_size", c.types},
          {"hidden_size", c.width},
          {"num_hidden_layers", c.depth},
          {"num_attention_heads", c.heads},
          {"intermediate_size", c.mlp_width},
          {"hidden_act", WriteActivation(c.activation)},
          {"layer_norm_eps", c.eps},
          {"position_embedding_type", "absolute"},
          {"hidden_dropout_prob", c.hidden_dropout},
          {"attention_probs_dropout_prob", c.attention_dropout},
          {"classifier_dropout", c.classifier_dropout},
          {"pad_token_id", 0},
          {"torch_dtype", "float32"}};
}

// The configuration of the class with a masked-LM head, which has no labels.
nlohmann::json OfMaskedLm(nlohmann::json config) {
  config["architectures"] = {"BertForMaskedLM"};
  for (const char* key : {"id2label", "label2id", "num_labels", "problem_type"}) config.erase(key);
  return config;
}

std::string ClassOfTransformers(const LoadedModel& m) {
  if (m.is_bert()) return "BertForSequenceClassification";
  if (m.vit().layer_scale)
    return m.vit().registers > 0 ? "Dinov2WithRegistersForImageClassification"
                                 : "Dinov2ForImageClassification";
  if (m.vit().pool == "distilled") return "DeiTForImageClassificationWithTeacher";
  return m.vit().tokens == 2 ? "DeiTForImageClassification" : "ViTForImageClassification";
}

}  // namespace

std::string ModelType(const LoadedModel& m) {
  return m.hf_config.empty() ? "" : ParseJson(m.hf_config, m.source).value("model_type", "");
}

namespace {

// The problem_type of each task but kClassify, which needs none.
constexpr std::pair<const char*, const char*> kProblemTypes[] = {
    {kRegression, "regression"}, {kMultiLabel, "multi_label_classification"}};
constexpr const char* kSingleLabel = "single_label_classification";

}  // namespace

std::string TaskOfProblemType(const Json& config, int64_t outputs, const std::string& path) {
  const std::string type = FindString(config, "problem_type", path).value_or("");
  if (type.empty()) return outputs == 1 ? kRegression : kClassify;
  for (const auto& [task, name] : kProblemTypes)
    if (type == name) return task;
  if (type != kSingleLabel)
    Fail("{}: problem_type '{}'; known: regression, {}, multi_label_classification", path, type,
         kSingleLabel);
  return kClassify;
}

nlohmann::json HuggingFaceConfig(const LoadedModel& m) {
  nlohmann::json config;
  if (!m.hf_config.empty())
    config = ParseJson(m.hf_config, m.source);
  else
    config = std::visit([](const auto& c) { return NewConfig(c); }, m.config);
  if (!m.is_bert()) config["image_size"] = m.vit().image_size;
  if (m.is_bert() && m.bert().mask_rows > 0) return OfMaskedLm(std::move(config));
  if (m.is_bert() && m.bert().pool != "pooler") config["classifier_pooling"] = m.bert().pool;
  if (!m.params.Has("head.weight")) return config;  // a backbone as it came
  config["architectures"] = {ClassOfTransformers(m)};
  if (config.value("problem_type", nlohmann::json()) != kSingleLabel) config.erase("problem_type");
  for (const auto& [task, name] : kProblemTypes)
    if (TaskOf(m.config) == task) config["problem_type"] = name;
  nlohmann::json id2label = nlohmann::json::object(), label2id = nlohmann::json::object();
  for (int64_t i = 0; i < Classes(m.config); ++i) {
    const std::string label =
        static_cast<size_t>(i) < m.labels.size() ? m.labels[i] : fmt::format("LABEL_{}", i);
    id2label[std::to_string(i)] = label;
    label2id[label] = i;
  }
  config["id2label"] = id2label;
  config["label2id"] = label2id;
  return config;
}

}  // namespace graft
