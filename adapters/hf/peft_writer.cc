#include "adapters/hf/peft_writer.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "adapters/hf/peft_glora.h"
#include "adapters/hf/peft_keys.h"
#include "adapters/hf/peft_prompt.h"
#include "ops/ops.h"
#include "peft/sites.h"
#include "runtime/fold.h"
#include "runtime/io/atomic_file.h"
#include "runtime/io/fresh_directory.h"
#include "runtime/io/json.h"

namespace graft {
namespace {

constexpr const char* kZeroLora = "peft of no layer ";  // and A or B: names among the values
constexpr const char* kOtherFormats =
    "hint: --format graft (our own adapter), or --format hf --merged (a plain model)";

// One `lora` term with its options as values.
struct LoraTerm {
  std::vector<std::string> targets;
  int64_t r = 0;
  double alpha = 0, dropout = 0;
  bool rslora = false;
  std::string bias;
  double scale() const {
    const double rank = static_cast<double>(r);
    return alpha / (rslora ? std::sqrt(rank) : rank);
  }
};

LoraTerm ReadLoraTerm(const MethodTerm& term) {
  Graph none;
  ParamStore no_params;
  const std::map<std::string, std::string> options = CompleteOptions(term);
  const MethodArgs a{none, no_params, options, 0};
  if (a.Flag("fused")) Fail("peft has no LoRA of q, k and v together; {}", kOtherFormats);
  if (a.Text("blocks") != "*")
    Fail(
        "option 'blocks' of 'lora' has no counterpart in peft; hint: targets=blocks.0.attn.q|...; "
        "{}",
        kOtherFormats);
  LoraTerm t{a.List("targets"),         a.Int("r", 1, 65536), 0,
             a.Number("dropout", 0, 1), a.Flag("rslora"),     a.Text("bias")};
  t.alpha = a.Text("alpha") == "r" ? static_cast<double>(t.r) : a.Number("alpha", 0, 1e6);
  return t;
}

class Planner {
 public:
  Planner(const Method& method, const std::vector<std::string>& trained, const HfNaming& naming)
      : method_(method), rest_(trained.begin(), trained.end()), naming_(naming) {}

  PeftPlan Run(const std::string& base);

 private:
  void CheckKnown() const;
  bool Has(std::string_view method) const;
  void Lora(const std::vector<LoraTerm>& terms);
  void Glora();
  void Biases(const std::set<std::string>& with_lora);
  void BiasesAlone();
  void LoraOf(const HfModule& module, const LoraTerm& term);
  void Norms();
  void SaveModules();
  // Moves a parameter from the rest into the plan.
  void Take(const std::string& parameter, const HfModule& module, std::string_view ending);
  const HfModule& Module(const std::string& parameter) const;
  using Chooses = bool (*)(std::string_view module, std::string_view ending);
  std::vector<std::string> Endings(const std::set<std::string>& scopes, Chooses chooses) const;
  std::set<std::string> LoraScopes() const;
  bool SavedWhole(const std::string& scope) const { return rest_.contains(scope + ".weight"); }

  const Method& method_;
  std::set<std::string> rest_;
  const HfNaming& naming_;
  PeftPlan plan_;
};

const HfModule& Planner::Module(const std::string& parameter) const {
  const HfModule* module = naming_.FindScope(parameter.substr(0, parameter.rfind('.')));
  if (!module)
    Fail("'{}' is no part of a module that Hugging Face knows; {}", parameter, kOtherFormats);
  return *module;
}

void Planner::Take(const std::string& parameter, const HfModule& module, std::string_view ending) {
  rest_.erase(parameter);
  plan_.tensors.push_back({fmt::format("{}{}.{}", kPeftRoot, module.name, ending), parameter});
}

// modules_to_save is compared without regard to dots: "1.norm" ends "11.norm", too.
bool EndsWithText(std::string_view module, std::string_view ending) {
  return module.ends_with(ending);
}

// For each module the shortest ending that chooses modules of `scopes` only, as peft compares them.
std::vector<std::string> Planner::Endings(const std::set<std::string>& scopes,
                                          Chooses chooses) const {
  std::set<std::string> endings;
  for (const HfModule& module : naming_.modules) {
    if (!scopes.contains(module.scope)) continue;
    std::string ending = module.name;
    for (size_t dot = module.name.rfind('.'); dot != std::string::npos && dot > 0;
         dot = module.name.rfind('.', dot - 1)) {
      const std::string shorter = module.name.substr(dot + 1);
      const bool exact =
          std::all_of(naming_.modules.begin(), naming_.modules.end(), [&](const HfModule& other) {
            return scopes.contains(other.scope) || !chooses(other.name, shorter);
          });
      if (exact) {
        ending = shorter;
        break;
      }
    }
    endings.insert(ending);
  }
  return {endings.begin(), endings.end()};
}

std::set<std::string> Planner::LoraScopes() const {
  std::set<std::string> scopes;
  for (const std::string& name : rest_)
    if (name.ends_with(".lora_a")) scopes.insert(name.substr(0, name.size() - 7));
  return scopes;
}

void Planner::Lora(const std::vector<LoraTerm>& terms) {
  PeftConfig& c = plan_.config;
  const LoraTerm& first = terms[0];
  c.r = first.r, c.alpha = first.alpha, c.dropout = first.dropout;
  c.rslora = first.rslora, c.bias = first.bias;
  for (const LoraTerm& t : terms)
    if (t.dropout != c.dropout || t.rslora != c.rslora || t.bias != c.bias)
      Fail("peft has one dropout, rslora and bias for all layers, the method has several; {}",
           kOtherFormats);
  if (Has("bitfit")) c.bias = "all";
  const std::set<std::string> scopes = LoraScopes();
  std::set<std::string> targets;
  for (const std::string& scope : scopes) {
    const HfModule& module = Module(scope + ".lora_a");
    if (!SavedWhole(scope)) targets.insert(scope);
    const auto term = std::find_if(terms.begin(), terms.end(), [&](const LoraTerm& t) {
      return ScopeMatches(scope, t.targets);
    });
    GRAFT_CHECK(term != terms.end(), "no term targets {}", scope);
    LoraOf(module, *term);
  }
  if (targets.empty())
    Fail("peft wants a LoRA beside the one of the head, which is saved whole; {}", kOtherFormats);
  c.target.names = Endings(targets, EndsWithName);
  SaveModules();
  if (c.bias != "none") Biases(scopes);
}

void Planner::Biases(const std::set<std::string>& with_lora) {
  for (const std::string& name : std::set<std::string>(rest_))
    if (name.ends_with(".bias")) {
      const HfModule& module = Module(name);
      Take(name, module, with_lora.contains(module.scope) ? "base_layer.bias" : "bias");
    }
}

// peft trains all biases beside a LoRA only: it gets one of rank 1 that is zero.
void Planner::BiasesAlone() {
  const auto layer = std::ranges::find_if(naming_.modules, [](const HfModule& m) {
    return m.scope.starts_with("blocks.") && m.weight_shape.size() == 2;
  });
  GRAFT_CHECK(layer != naming_.modules.end(), "no dense layer in {} modules",
              naming_.modules.size());
  PeftConfig& c = plan_.config;
  c.r = 1, c.alpha = 1, c.bias = "all";
  c.target.names = {layer->name};
  plan_.zero_lora = *layer;
  for (const char* part : {"A", "B"})
    plan_.tensors.push_back({fmt::format("{}{}.lora_{}.weight", kPeftRoot, layer->name, part),
                             fmt::format("{}{}", kZeroLora, part)});
  SaveModules();
  Biases({layer->scope});
}

void Planner::Glora() {
  plan_.config.type = "GLORA";
  PlanGlora(method_, rest_, naming_, &plan_.config, &plan_.glora);
  std::set<std::string> scopes;
  for (const PeftPlan::Glora& layer : plan_.glora) {
    scopes.insert(layer.module.scope);
    std::erase_if(
        rest_, [&](const std::string& name) { return name.starts_with(layer.owner + ".glora_"); });
    for (PeftOnModel::Tensor& tensor : GloraTensors(plan_.config, layer)) {
      tensor.key = fmt::format("{}{}", kPeftRoot, tensor.key);
      plan_.tensors.push_back(std::move(tensor));
    }
  }
  plan_.config.target.names = Endings(scopes, EndsWithName);
  SaveModules();
}

void Planner::LoraOf(const HfModule& module, const LoraTerm& term) {
  PeftConfig& c = plan_.config;
  const std::string a = module.scope + ".lora_a", b = module.scope + ".lora_b";
  if (SavedWhole(module.scope)) {
    rest_.erase(a), rest_.erase(b);
    plan_.folds.push_back({module.scope, term.scale()});
    return;
  }
  if (module.weight_shape.size() > 2)
    Fail("'{}' is a convolution to peft, which has another LoRA for those; {}", module.scope,
         kOtherFormats);
  if (term.r != c.r) c.rank_pattern[module.name] = static_cast<double>(term.r);
  if (term.alpha != c.alpha) c.alpha_pattern[module.name] = term.alpha;
  Take(a, module, "lora_A.weight"), Take(b, module, "lora_B.weight");
}

void Planner::Norms() {
  plan_.config.type = "LN_TUNING";
  std::set<std::string> scopes;
  for (const std::string& name : std::set<std::string>(rest_)) {
    if (name.starts_with("head.")) continue;
    const HfModule& module = Module(name);
    scopes.insert(module.scope);
    Take(name, module, "ln_tuning_layers." + name.substr(name.rfind('.') + 1));
  }
  plan_.config.target.names = Endings(scopes, EndsWithName);
  SaveModules();
}

// What trains as a whole: the head, and norms beside LoRA.
void Planner::SaveModules() {
  std::set<std::string> scopes;
  for (const HfModule& module : naming_.modules) {
    const bool whole =
        std::all_of(module.parameters.begin(), module.parameters.end(),
                    [&](const std::string& p) { return rest_.contains(module.scope + "." + p); });
    if (!whole) continue;
    scopes.insert(module.scope);
    for (const std::string& p : module.parameters) Take(module.scope + "." + p, module, p);
  }
  plan_.config.modules_to_save = Endings(scopes, EndsWithText);
}

bool Planner::Has(std::string_view method) const {
  return std::ranges::any_of(method_, [&](const MethodTerm& t) { return t.name == method; });
}

void Planner::CheckKnown() const {
  for (const MethodTerm& term : method_)
    if (FindMethod(term.name).peft.empty())
      Fail("peft has no method '{}'; {}", term.name, kOtherFormats);
  if (method_.empty() || (Has("lora") && Has("glora")) || (Has("glora") && Has("bitfit")))
    Fail("peft has no adapter that is '{}'; {}", ToString(method_), kOtherFormats);
}

PeftPlan Planner::Run(const std::string& base) {
  CheckKnown();
  std::vector<LoraTerm> terms;
  for (const MethodTerm& term : method_)
    if (term.name == "lora") terms.push_back(ReadLoraTerm(term));
  plan_.naming = naming_;
  plan_.config.base = base;
  plan_.config.task_type = naming_.of.task_type;
  if (!terms.empty())
    Lora(terms);
  else if (Has("glora"))
    Glora();
  else
    Has("bitfit") ? BiasesAlone() : Norms();
  if (!rest_.empty())
    Fail("peft has no place for '{}', which the method '{}' trains; {}", *rest_.begin(),
         ToString(method_), kOtherFormats);
  std::sort(plan_.tensors.begin(), plan_.tensors.end(),
            [](const auto& a, const auto& b) { return a.key < b.key; });
  return std::move(plan_);
}

}  // namespace

PeftPlan PlanPeft(const Method& method, const std::vector<std::string>& trained,
                  const HfNaming& naming, const std::string& base) {
  if (LearnsPrompt(method)) return PlanPrompt(method, trained, naming, base);
  return Planner(method, trained, naming).Run(base);
}

namespace {

// W + scale B A in place of each W.
ParamStore Folded(const std::vector<PeftPlan::Fold>& folds, const ParamStore& params) {
  ParamStore folded = params;
  for (const PeftPlan::Fold& fold : folds) {
    Graph g;
    const auto param = [&](const char* part) {
      const std::string name = fold.scope + part;
      return g.AddParam(name, ToShape(params.shape(name)));
    };
    const ValueId w = param(".weight"), a = param(".lora_a"), b = param(".lora_b");
    const ValueId sum = Add(g, w, Scale(g, Matmul(g, b, a), fold.scale));
    g.SetName(sum, fold.scope + ".weight");
    g.SetOutput("weight", sum);
    FoldConstants(g, folded);
  }
  return folded;
}

// The matrix of all columns, as "prompt_embeddings".
void JoinColumns(const std::vector<std::string>& names, ParamStore* values) {
  const Extents one = values->shape(names[0]);
  const int64_t rows = one[0], width = one[1], all = std::ssize(names) * width;
  std::vector<float> matrix(rows * all);
  for (size_t i = 0; i < names.size(); ++i) {
    const std::span<const float> column = values->values(names[i]);
    for (int64_t row = 0; row < rows; ++row)
      std::copy_n(column.begin() + row * width, width,
                  matrix.begin() + row * all + static_cast<int64_t>(i) * width);
  }
  values->Set("prompt_embeddings", {rows, all}, matrix);
}

}  // namespace

void WritePeft(const std::string& directory, const PeftPlan& plan, const ParamStore& params,
               const StringMap& metadata) {
  ParamStore values = Folded(plan.folds, params);
  if (!plan.columns.empty()) JoinColumns(plan.columns, &values);
  for (const PeftPlan::Glora& layer : plan.glora) MakeGlora(plan.config, layer, &values);
  if (plan.zero_lora) {
    const std::vector<int64_t>& shape = plan.zero_lora->weight_shape;
    values.Set(fmt::format("{}A", kZeroLora), {1, shape[1]}, std::vector<float>(shape[1]));
    values.Set(fmt::format("{}B", kZeroLora), {shape[0], 1}, std::vector<float>(shape[0]));
  }
  std::vector<TensorToWrite> tensors;
  for (const PeftOnModel::Tensor& t : plan.tensors) {
    TensorToWrite& tensor = tensors.emplace_back(ToWrite(t.key, values.Get(t.parameter)));
    const size_t dot = t.parameter.rfind('.');
    const HfModule* module = plan.naming.FindScope(t.parameter.substr(0, dot));
    if (module && module->weight_shape.size() > 2 && t.parameter.substr(dot + 1) == "weight")
      tensor.shape = module->weight_shape;  // of a convolution
  }
  tensors.insert(tensors.end(), plan.copies.begin(), plan.copies.end());
  std::ranges::sort(tensors, {}, &TensorToWrite::name);
  FreshDirectory fresh(directory);
  WriteSafetensors(fresh.path() + "/adapter_model.safetensors", tensors, metadata);
  WriteFileAtomically(fresh.path() + "/adapter_config.json",
                      DumpJson(ToJson(plan.config, plan.naming.of), 2) + "\n");
  fresh.Keep();
}

}  // namespace graft
