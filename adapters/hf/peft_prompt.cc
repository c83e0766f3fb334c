#include "adapters/hf/peft_prompt.h"

#include <algorithm>
#include <set>

namespace graft {
namespace {

constexpr const char* kKey = "prompt_embeddings";
constexpr const char* kHeadRoot = "base_model.";  // and no "model." behind it, as other types have

// The parameters of a method that the columns of the matrix are, each [P,D].
std::vector<std::string> Columns(const std::string& method, int64_t depth) {
  if (method == "prompt") return {"prompt.tokens"};
  std::vector<std::string> names;
  for (int64_t i = 0; i < depth; ++i)
    for (const char* part : {"k", "v"})
      names.push_back(fmt::format("blocks.{}.attn.{}_{}", i, method, part));
  return names;
}

std::string Text(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ","));
}

MethodTerm TermOf(const PeftConfig& c) {
  const std::string tokens = std::to_string(c.prompt.tokens);
  if (c.type != "PREFIX_TUNING") return {"prompt", {{"tokens", tokens}, {"pool", "first"}}};
  return {"ptuning2", {{"tokens", tokens}, {"shift", "true"}}};
}

void CheckSizes(const PeftAdapter& adapter, const BertConfig& bert, const std::string& source) {
  const auto same = [&](const char* field, int64_t found, int64_t expected) {
    if (found != expected)
      Fail("{}: {} = {}, but {} has {}", adapter.path + "/adapter_config.json", field, found,
           source, expected);
  };
  const PeftConfig::Prompt& p = adapter.config.prompt;
  if (p.width) same("token_dim", p.width, bert.width);
  if (p.layers) same("num_layers", p.layers, bert.depth);
}

}  // namespace

bool LearnsPrompt(const PeftConfig& config) { return config.prompt.tokens > 0; }

bool LearnsPrompt(const Method& method) {
  return std::ranges::any_of(method, [](const MethodTerm& t) {
    return t.name == "prompt" || t.name == "ptuning2" || t.name == "prefix";
  });
}

PeftOnModel FitPrompt(const PeftAdapter& adapter, const LoadedModel& model) {
  const PeftConfig& c = adapter.config;
  const std::string file = adapter.file.path();
  if (!model.is_bert())
    Fail("{}: a {} adapter is for texts, {} reads images", adapter.path, c.type, model.source);
  const BertConfig& bert = model.bert();
  if (c.type != "PREFIX_TUNING" && bert.pool == "mean")
    Fail("{}: with peft the pooler reads the prompt's first row, but {} pools by mean",
         adapter.path, model.source);
  CheckSizes(adapter, bert, model.source);
  PeftOnModel out;
  out.method = {TermOf(c)};
  out.naming = HfNamings(model).front();
  const HfModule* head = out.naming.FindScope("head");
  const std::vector<std::string> columns = Columns(out.method[0].name, bert.depth);
  for (const FileTensor& t : adapter.file.tensors()) {
    const std::string root = kHeadRoot + (head ? head->name : "classifier") + ".";
    const std::string part = t.name.starts_with(root) ? t.name.substr(root.size()) : "";
    if (t.name == kKey) {
      const std::vector<int64_t> want{c.prompt.tokens, std::ssize(columns) * bert.width};
      if (t.shape != want)
        Fail("{}: '{}' has shape {}, {} and adapter_config.json want {}", file, kKey, Text(t.shape),
             model.source, Text(want));
      for (size_t i = 0; i < columns.size(); ++i)
        out.tensors.push_back({t.name, columns[i], static_cast<int64_t>(i) * bert.width,
                               columns.size() > 1 ? bert.width : 0});
    } else if (part == "weight" || part == "bias") {
      const bool weight = part == "weight";
      if (t.shape.size() != (weight ? 2u : 1u) || t.shape[0] < 1 ||
          (weight && t.shape[1] != bert.width) || (out.classes && out.classes != t.shape[0]))
        Fail("{}: '{}' has shape {}, {} wants {}", file, t.name, Text(t.shape), model.source,
             weight ? fmt::format("[classes,{}]", bert.width) : "[classes]");
      out.classes = t.shape[0];
      out.tensors.push_back({t.name, "head." + part});
    } else {
      out.ledger.unexpected.push_back(t.name);
      continue;
    }
    out.ledger.matched.push_back(t.name);
  }
  std::set<std::string> found;
  for (const PeftOnModel::Tensor& t : out.tensors) found.insert(t.parameter);
  if (!found.contains(columns[0])) out.ledger.missing.emplace_back(kKey);
  if (found.contains("head.weight") != found.contains("head.bias"))
    out.ledger.missing.push_back(found.contains("head.bias") ? "head.weight" : "head.bias");
  if (!found.contains("head.weight")) out.method[0].options["head"] = "frozen";
  return out;
}

void LoadColumns(const SafetensorsFile& file, const FileTensor& tensor,
                 const PeftOnModel::Tensor& t, ParamStore& params) {
  ParamStore whole;
  file.Load(tensor, t.key, &whole);
  const std::span<const float> values = whole.values(t.key);
  const int64_t rows = tensor.shape[0], width = tensor.shape[1];
  float* out = params.Allocate(t.parameter, {rows, t.columns});
  for (int64_t row = 0; row < rows; ++row)
    out = std::copy_n(values.begin() + row * width + t.first, t.columns, out);
  params.Freeze(t.parameter);
}

PeftPlan PlanPrompt(const Method& method, const std::vector<std::string>& trained,
                    const HfNaming& naming, const std::string& base) {
  constexpr const char* kOther = "hint: --format graft (our own adapter)";
  if (method.size() > 1)
    Fail("peft has a prompt alone, the method is '{}'; {}", ToString(method), kOther);
  const std::map<std::string, std::string> options = CompleteOptions(method[0]);
  const std::string& name = method[0].name;
  if (name == "prompt" && options.at("pool") != "first")
    Fail("with peft the head reads the prompt's first row; {}, or train prompt(pool=first)",
         kOther);
  if (name != "prompt" && options.at("shift") != "true" && options.at("shift") != "1")
    Fail("peft shifts the positions of texts by a prefix; {}, or train {}(shift=true)", kOther,
         name);
  if (name == "prefix" && options.at("mlp") != "0")
    Fail("'{}' still has the MLP that makes its keys and values", ToString(method));
  if (naming.of.task_type != "SEQ_CLS") Fail("peft has prompts for texts alone; {}", kOther);
  PeftPlan plan;
  plan.naming = naming;
  plan.config.type = name == "prompt" ? "PROMPT_TUNING" : "PREFIX_TUNING";
  plan.config.base = base, plan.config.task_type = naming.of.task_type;
  plan.config.prompt.tokens = std::stoll(options.at("tokens"));
  plan.config.modules_to_save = {"classifier", "score"};  // as peft adds them
  const HfModule* head = naming.FindScope("head");
  std::set<std::string> rest(trained.begin(), trained.end());
  for (const char* part : {"weight", "bias"})
    if (head && rest.erase(fmt::format("head.{}", part)))
      plan.tensors.push_back(
          {fmt::format("{}{}.{}", kHeadRoot, head->name, part), fmt::format("head.{}", part)});
  const int64_t depth = static_cast<int64_t>(rest.size()) / 2;
  for (const std::string& column : Columns(name, depth)) {
    if (!rest.erase(column)) Fail("'{}' is missing", column);
    plan.columns.push_back(column);
  }
  if (!rest.empty()) Fail("peft has no place for '{}'; {}", *rest.begin(), kOther);
  plan.tensors.push_back({kKey, kKey});
  if (name != "prompt") plan.config.prompt.layers = depth;
  if (head) plan.config.prompt.width = head->weight_shape[1];
  return plan;
}

}  // namespace graft
