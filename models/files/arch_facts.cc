#include "models/files/arch_facts.h"

#include <algorithm>

#include "models/arch_text.h"
#include "models/files/hf_config.h"
#include "models/files/timm_names.h"
#include "runtime/io/json.h"

namespace graft {
namespace {

void FactsFromMetadata(LoadedModel& m, const std::string& text) {
  const std::string where = m.source + " (metadata graft.config)";
  const Json config = ParseJson(text, where);
  const char* kind = m.is_bert() ? "bert" : "vit";
  if (const auto found = FindString(config, "architecture", where); found && *found != kind)
    Fail("{}: architecture '{}', but the tensors' names are those of {}", where, *found, kind);
  std::vector<std::string> facts{"heads", "eps", "pool"};
  auto take = [&](auto& c, const char* activation_key, std::string& activation) {
    c.heads = GetInt(config, "heads", 1, c.width, where);
    c.eps = GetNumber(config, "eps", 1e-30, 0.1, where);
    c.pool = GetString(config, "pool", where);
    const std::string named = GetString(config, activation_key, where);
    if ((named == "swiglu") != (activation == "swiglu"))
      Fail("{}: {} '{}', but the tensors are those of {} MLP", where, activation_key, named,
           activation == "swiglu" ? "a gated" : "no gated");
    activation = named;
    facts.emplace_back(activation_key);
  };
  if (m.is_bert())
    take(m.bert(), "activation", m.bert().activation);
  else
    take(m.vit(), "gelu", m.vit().gelu);
  for (const std::string& fact : facts) m.fact_source[fact] = "metadata graft.config";
}

bool SameSizes(const ModelConfig& a, const ModelConfig& b) {
  if (a.index() != b.index()) return false;
  return std::visit(
      [&](const auto& x) {
        const auto& y = std::get<std::decay_t<decltype(x)>>(b);
        bool same = x.width == y.width && x.depth == y.depth && x.mlp_width == y.mlp_width;
        if constexpr (requires { x.patch_size; }) same = same && x.patch_size == y.patch_size;
        return same;
      },
      a);
}

// Fields that shapes cannot tell. These are taken from a name or a description, all others must
// agree with it.
constexpr std::string_view kFacts[] = {"heads", "eps", "gelu", "activation", "pool"};

bool IsFact(std::string_view field) { return std::ranges::find(kFacts, field) != std::end(kFacts); }

// Takes the facts that a description gives, and compares its other fields.
void TakeDescription(LoadedModel& m, const ArchText& said) {
  for (const auto& [field, text] : said.given) {
    ModelConfig changed = m.config;
    SetField(changed, field, text);
    // What config.json, metadata or the tensors' names state cannot be overruled, and neither can a
    // size.
    const auto source = m.fact_source.find(field);
    const bool binds = !IsFact(field) || source != m.fact_source.end();
    if (binds && changed != m.config)
      Fail("{}: --arch says {} = {}; {} says {}", m.source, field, text,
           source == m.fact_source.end() ? "the file" : source->second, FieldText(m.config, field));
    m.config = changed;
    if (!binds) m.fact_source[field] = "--arch";
  }
  CheckConfig(m.config, "--arch");
}

// A name of the table gives the facts that nobody has stated.
void FactsFromName(LoadedModel& m, const ModelConfig& named, const std::string& from) {
  const auto take = [&](const char* fact, auto& value, const auto& usual) {
    if (!m.fact_source.contains(fact)) value = usual, m.fact_source[fact] = from;
  };
  if (m.is_bert()) {
    const BertConfig& n = std::get<BertConfig>(named);
    BertConfig& c = m.bert();
    take("heads", c.heads, n.heads), take("eps", c.eps, n.eps);
    return take("activation", c.activation, n.activation);
  }
  const VitConfig& n = std::get<VitConfig>(named);
  VitConfig& c = m.vit();
  take("heads", c.heads, n.heads), take("eps", c.eps, n.eps);
  if (c.gelu == "swiglu")
    m.fact_source["gelu"] = "tensor shapes";
  else
    take("gelu", c.gelu, n.gelu);
}

// timm's names of activations, and ours.
constexpr std::pair<std::string_view, std::string_view> kTimmActivations[] = {
    {"gelu", "erf"},  {"gelu_tanh", "tanh"}, {"quick_gelu", "quick"}, {"quickgelu", "quick"},
    {"silu", "silu"}, {"swish", "silu"},     {"relu", "relu"}};

// Arguments of timm's VisionTransformer that tensors show, that are read above or below, or that
// matter in training alone.
constexpr std::string_view kKnownArgs[] = {
    "act_layer",      "attn_drop_rate",   "class_token",     "depth",           "drop_path_rate",
    "drop_rate",      "dynamic_img_size", "embed_dim",       "fc_norm",         "fix_init",
    "global_pool",    "img_size",         "in_chans",        "init_values",     "mlp_ratio",
    "no_embed_class", "num_classes",      "num_heads",       "patch_drop_rate", "patch_size",
    "pos_drop_rate",  "pre_norm",         "proj_bias",       "proj_drop_rate",  "qk_norm",
    "qkv_bias",       "reg_tokens",       "scale_attn_norm", "scale_mlp_norm",  "strict_img_size",
    "weight_init"};

// Refuses arguments that may change what the model computes in ways that no tensor shows
// (pool_include_prefix, block_fn, norm_layer).
void CheckTimmArgs(const TimmConfig& timm, const std::string& path) {
  if (const std::string why = OtherBlocksOfTimm(timm.architecture); !why.empty())
    Fail("{}: architecture '{}' is not supported: {}", path, timm.architecture, why);
  for (const auto& [key, value] : timm.args) {
    const bool neutral = value == "none" || value == "false" || value.empty();
    if (neutral || std::ranges::find(kKnownArgs, key) != std::end(kKnownArgs)) continue;
    if (key == "final_norm" && value == "true") continue;
    if (key == "pos_embed" && value == "learn") continue;
    Fail("{}: model_args: {} = {} is not supported", path, key, value);
  }
}

// Takes what timm's or our own name of the architecture tells and the arguments do not. Arguments
// may have changed sizes; the heads stay, as the name states their number.
void FactsFromTimmName(LoadedModel& m, const std::string& name) {
  VitConfig named = m.vit();
  const std::vector<std::string> own = VitNames();
  if (const std::optional<TimmFacts> facts = FactsOfTimmName(name))
    named.heads = facts->heads, named.eps = facts->eps, named.gelu = facts->gelu;
  else if (std::ranges::find(own, name) != own.end())
    named = VitByName(name);
  else
    return;
  FactsFromName(m, named, fmt::format("config.json ({})", name));
}

// Takes facts from the architecture's name, where it is known here, and from the arguments that the
// model was made with.
void FactsFromTimm(LoadedModel& m, const TensorFile& file, const TimmConfig& timm,
                   const std::string& path) {
  if (m.is_bert()) Fail("{}: a config of timm, but the tensors' names are those of a BERT", path);
  CheckTimmArgs(timm, path);
  if (const auto* head = file.Shape("head.weight"); head && timm.classes > 0)
    if ((*head)[0] != timm.classes)
      Fail("{}: num_classes is {}, but the classifier has {} rows", path, timm.classes, (*head)[0]);
  VitConfig& c = m.vit();
  const auto say = [&](const char* fact) { m.fact_source[fact] = "config.json"; };
  if (timm.global_pool == "avg")
    c.pool = file.Shape("fc_norm.weight") ? "mean_fc_norm" : "mean", say("pool");
  else if (timm.global_pool == "token")
    c.pool = c.pool == "distilled" ? c.pool : "token", say("pool");
  else if (timm.global_pool == "none" && file.Shape("head.weight"))
    Fail("{}: global_pool '' gives logits for each token; expected token or avg", path);
  else if (!timm.global_pool.empty() && timm.global_pool != "none")
    Fail("{}: global_pool '{}' is not supported; expected token or avg", path, timm.global_pool);
  if (const auto heads = timm.args.find("num_heads"); heads != timm.args.end())
    SetField(m.config, "heads", heads->second), say("heads");
  if (const auto act = timm.args.find("act_layer");
      act != timm.args.end() && c.gelu != "swiglu" && act->second != "none") {
    const auto known = std::ranges::find(kTimmActivations, act->second,
                                         &std::pair<std::string_view, std::string_view>::first);
    if (known == std::end(kTimmActivations))
      Fail("{}: act_layer '{}' is not supported", path, act->second);
    c.gelu = known->second, say("gelu");
  }
  FactsFromTimmName(m, timm.architecture);
}

// The first name whose sizes are these, preferring one that also has these parts (LayerScale, a
// norm before the blocks).
std::string NameByShape(const ModelConfig& config) {
  std::string first;
  for (const std::string& name : ModelNames()) {
    const ModelConfig named = ModelByName(name);
    if (!SameSizes(named, config)) continue;
    if (first.empty()) first = name;
    const VitConfig *of = std::get_if<VitConfig>(&named), *c = std::get_if<VitConfig>(&config);
    if (!c || (of->layer_scale == c->layer_scale && of->pre_norm == c->pre_norm)) return name;
  }
  return first;
}

}  // namespace

// What the metadata or --arch say of positions; needed where their number fits two ways.
std::string StatedPositions(const LoadedModel& m, const StatedConfig& config,
                            const std::string& arch) {
  if (config.timm) {
    const auto it = config.timm->args.find("no_embed_class");
    if (it != config.timm->args.end()) return it->second == "true" ? "patches" : "all";
    // timm makes DeiT-III, and all that have registers, without positions of other tokens.
    const std::string& name = config.timm->architecture;
    return name.starts_with("deit3_") || name.find("_reg") != name.npos ? "patches" : "all";
  }
  if (const auto it = m.metadata.find("graft.config"); it != m.metadata.end()) {
    const std::string where = m.source + " (metadata graft.config)";
    return FindString(ParseJson(it->second, where), "positions", where).value_or("all");
  }
  if (arch.empty()) return "";
  const ArchText said = ParseArch(arch);
  const auto it = said.given.find("positions");
  return it == said.given.end() ? "" : it->second;
}

void TakeFacts(const TensorFile& file, const StatedConfig& config, const std::string& arch,
               LoadedModel* model) {
  LoadedModel& m = *model;
  if (config.timm)
    FactsFromTimm(m, file, *config.timm, config.path);
  else if (!config.path.empty())
    ReadHuggingFaceConfig(config.json, config.path, &m);
  else if (const auto metadata = m.metadata.find("graft.config"); metadata != m.metadata.end())
    FactsFromMetadata(m, metadata->second);
  const bool stated = m.fact_source.contains("eps");
  if (!arch.empty()) {
    const ArchText said = ParseArch(arch);
    if (said.named && !SameSizes(said.config, m.config))
      Fail("{}: --arch {} is {}; the tensors say {}", m.source, arch, SizesText(said.config),
           SizesText(m.config));
    if (said.config.index() != m.config.index())
      Fail("{}: --arch {} is another kind of model; the tensors are those of {}", m.source, arch,
           m.architecture());
    if (said.named) return FactsFromName(m, said.config, "--arch");
    TakeDescription(m, said);
  }
  if (stated) return;
  if (m.layout == Layout::kJax) {
    for (const char* fact : {"eps", "gelu"})
      if (!m.fact_source.contains(fact))
        m.fact_source[fact] = "usual for this layout (timm reads it so)";
    return;
  }
  // An architecture that config.json names and nobody here knows is not another one of its sizes.
  const std::string name = config.timm ? "" : NameByShape(m.config);
  if (!name.empty()) return FactsFromName(m, ModelByName(name), fmt::format("table ({})", name));
  std::vector<std::string> unknown;
  for (const char* fact : {"heads", "eps", m.is_bert() ? "activation" : "gelu"})
    if (!m.fact_source.contains(fact)) unknown.emplace_back(fact);
  if (m.is_bert() || m.vit().gelu != "swiglu" ? unknown.empty() : unknown.size() <= 1) return;
  Fail("{}: {} are not known for {}{}; hint: say them with --arch, e.g. --arch \"{}\"", m.source,
       fmt::join(unknown, ", "),
       config.timm ? fmt::format("the architecture '{}', ", config.timm->architecture) : "",
       SizesText(m.config),
       m.is_bert() ? "bert(heads=12,eps=1e-12,activation=erf)" : "vit(heads=12,eps=1e-6,gelu=erf)");
}

void NoteAssumed(LoadedModel* model) {
  LoadedModel& m = *model;
  std::string facts, from;
  std::visit(
      [&](const auto& c) {
        c.Visit(c, [&](const char* name, const auto& value) {
          if (!IsFact(name)) return;
          const auto source = m.fact_source.find(name);
          const bool assumed = source == m.fact_source.end() ||
                               source->second.starts_with("table") ||
                               source->second.starts_with("usual");
          if (!assumed) return;
          if (source != m.fact_source.end()) from = source->second;
          facts += fmt::format("{}{}={}", facts.empty() ? "" : ",", name, value);
        });
      },
      m.config);
  if (!facts.empty())
    m.notices.push_back(fmt::format(
        "{}: {} assumed{}, as the file does not say; --arch \"{}(...)\" says otherwise", m.source,
        facts, from.empty() ? "" : " from the " + from, m.is_bert() ? "bert" : "vit"));
}

}  // namespace graft
