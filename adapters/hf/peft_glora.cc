#include "adapters/hf/peft_glora.h"

#include <algorithm>

#include "peft/sites.h"

namespace graft {
namespace {

// Each holds the ones before. What is off is written as a number that is 0, of C as a column:
// peft's own `none` has zeros as large as a weight.
constexpr std::array kForms{"constant", "vector", "lora"};
constexpr size_t kConstant = 0, kVector = 1, kLora = 2;

struct Part {
  char letter;
  const char* option;
  bool product;  // whether it may be one
};
constexpr std::array<Part, 5> kParts{
    {{'A', "a", true}, {'B', "b", true}, {'C', "c", true}, {'D', "d", false}, {'E', "e", false}}};

bool OfBias(char letter) { return letter >= 'C'; }

const std::string& FormOf(const PeftConfig::Glora& forms, char letter) {
  return letter <= 'B' ? forms.ab : letter == 'C' ? forms.c : forms.de;
}

std::string Ours(const Part& part, const char* end) {
  return fmt::format("glora_{}{}", part.option, part.product ? end : "");
}

// Of an option's text, lora_K as lora of rank K.
struct PartForm {
  size_t level;
  int64_t rank;  // 0 of what is no product
};
PartForm ParseForm(const MethodArgs& a, const char* option) {
  const std::string& text = a.Text(option);
  if (text == "lora") return {kLora, a.Int("r", 1, 65536)};
  if (text.starts_with("lora_")) return {kLora, std::stoll(text.substr(5))};
  return {text == "vector" ? kVector : kConstant, 0};
}

std::string OwnerOf(const std::string& scope, const std::string& qkv) {
  const bool one =
      scope.ends_with("attn.q") || scope.ends_with("attn.k") || scope.ends_with("attn.v");
  return one && qkv == "joint" ? scope.substr(0, scope.size() - 1) + "qkv" : scope;
}

}  // namespace

std::optional<std::string> GloraPartName(std::string_view path, std::string_view leaf) {
  for (const Part& part : kParts) {
    if (path != fmt::format("glora_{}", part.letter)) continue;
    if (leaf == "zeros") return "";
    if (leaf == "Xu" && part.product) return Ours(part, "_up");
    if ((leaf == "Xd" && part.product) || leaf == "X") return Ours(part, "_down");
  }
  return {};
}

std::map<std::string, std::vector<int64_t>> GloraShapes(const PeftConfig& config,
                                                        const HfModule& module, bool has_bias) {
  std::map<std::string, std::vector<int64_t>> shapes;
  const int64_t out = module.weight_shape[0], in = module.weight_shape[1], r = config.r;
  for (const Part& part : kParts) {
    const std::string& form = FormOf(config.glora, part.letter);
    if (form == "none" || (OfBias(part.letter) && !has_bias)) continue;
    const int64_t size = part.letter == 'C' ? in : out;
    std::vector<int64_t>& down = shapes[Ours(part, "_down")];
    if (form == "lora") {
      down = {size, r};
      shapes[Ours(part, "_up")] = {r, part.letter == 'C' ? 1 : in};
    } else if (form == "constant") {
      down = {1};
    } else {
      down = part.product ? std::vector<int64_t>{size, 1} : std::vector<int64_t>{size};
    }
  }
  return shapes;
}

MethodTerm GloraTerm(const PeftConfig& config, bool has_bias, const std::string& targets) {
  MethodTerm term{"glora", {{"qkv", "apart"}, {"targets", targets}}};
  term.options["r"] = std::to_string(config.r);
  for (const Part& part : kParts)
    term.options[part.option] =
        OfBias(part.letter) && !has_bias ? "none" : FormOf(config.glora, part.letter);
  return term;
}

void PlanGlora(const Method& method, const std::set<std::string>& trained, const HfNaming& naming,
               PeftConfig* config, std::vector<PeftPlan::Glora>* layers) {
  std::array<size_t, 3> levels{kConstant, kVector, kConstant};  // of A and B, of C, of D and E
  int64_t rank = 1;
  Graph none;
  ParamStore no_params;
  for (const MethodTerm& term : method) {
    if (term.name != "glora") continue;
    const std::map<std::string, std::string> options = CompleteOptions(term);
    const MethodArgs a{none, no_params, options, 0};
    if (a.Text("blocks") != "*")
      Fail("option 'blocks' of 'glora' has no counterpart in peft; hint: targets=blocks.0.attn.q");
    for (const Part& part : kParts) {
      const PartForm form = ParseForm(a, part.option);
      size_t& level = levels[part.letter <= 'B' ? 0 : part.letter == 'C' ? 1 : 2];
      level = std::max(level, form.level), rank = std::max(rank, form.rank);
    }
    for (const HfModule& module : naming.modules) {
      if (!module.scope.starts_with("blocks.") || module.weight_shape.size() != 2 ||
          !ScopeMatches(module.scope, a.List("targets")))
        continue;
      const bool has_bias = std::ranges::count(module.parameters, "bias") > 0;
      const std::string owner = OwnerOf(module.scope, a.Text("qkv"));
      bool some = false;
      for (const Part& part : kParts) {
        const bool here = trained.contains(owner + "." + Ours(part, "_down"));
        if (here && OfBias(part.letter) && !has_bias)
          Fail("'{}' has no bias, to which peft would add '{}'", module.scope, Ours(part, "_down"));
        some = some || here;
      }
      if (some) layers->push_back({module, owner, has_bias});
    }
  }
  config->r = rank;
  config->glora = {kForms[levels[0]], kForms[levels[1]], kForms[levels[2]]};
}

namespace {

std::string ValueName(const PeftPlan::Glora& layer, const std::string& end) {
  return fmt::format("peft of {} {}", layer.module.scope, end);
}

// Of a layer's outputs those of this module, where q, k and v share.
int64_t FirstRow(const PeftPlan::Glora& layer) {
  if (!layer.owner.ends_with(".qkv")) return 0;
  const size_t number = std::string_view("qkv").find(layer.module.scope.back());
  return static_cast<int64_t>(number) * layer.module.weight_shape[0];
}

// Entry i of a column, of a number as often as it is asked for, or 0 where there is none.
float EntryOf(const ParamStore::Entry* values, int64_t i) {
  if (!values) return 0;
  return values->values()[values->shape.size() == 1 ? 0 : static_cast<size_t>(i)];
}

// A part as a product of rank r, Xd [size,r] times Xu [r,other].
void MakeProduct(const PeftPlan::Glora& layer, const Part& part, int64_t r, ParamStore* values) {
  const int64_t out = layer.module.weight_shape[0], in = layer.module.weight_shape[1];
  const bool c = part.letter == 'C';
  const int64_t size = c ? in : out, other = c ? 1 : in, first = c ? 0 : FirstRow(layer);
  const ParamStore::Entry *down = values->Find(layer.owner + "." + Ours(part, "_down")),
                          *up = values->Find(layer.owner + "." + Ours(part, "_up"));
  const int64_t own = up ? up->shape[0] : 0;  // its rank
  std::vector<float> xd(size * r), xu(r * other);
  for (int64_t i = 0; i < size; ++i) {
    if (!up) xd[i * r] = EntryOf(down, first + i);
    for (int64_t k = 0; k < own; ++k) xd[i * r + k] = down->values()[(first + i) * own + k];
  }
  if (up)
    std::ranges::copy(up->values(), xu.begin());
  else
    std::fill_n(xu.begin(), other, 1.0f);
  values->Set(ValueName(layer, fmt::format("{}.Xd", part.letter)), {size, r}, xd);
  values->Set(ValueName(layer, fmt::format("{}.Xu", part.letter)), {r, other}, xu);
}

void MakeColumn(const PeftPlan::Glora& layer, const Part& part, bool number, ParamStore* values) {
  const bool c = part.letter == 'C';
  const int64_t size = number ? 1 : layer.module.weight_shape[c ? 1 : 0];
  const ParamStore::Entry* stored = values->Find(layer.owner + "." + Ours(part, "_down"));
  std::vector<float> x(size);
  for (int64_t i = 0; i < size; ++i) x[i] = EntryOf(stored, (c ? 0 : FirstRow(layer)) + i);
  const Extents shape = part.product && !number ? Extents{size, 1} : Extents{size};
  values->Set(ValueName(layer, fmt::format("{}.X", part.letter)), shape, x);
}

}  // namespace

std::vector<PeftOnModel::Tensor> GloraTensors(const PeftConfig& config,
                                              const PeftPlan::Glora& layer) {
  std::vector<PeftOnModel::Tensor> tensors;
  for (const Part& part : kParts) {
    if (OfBias(part.letter) && !layer.has_bias) continue;
    const bool product = FormOf(config.glora, part.letter) == "lora";
    for (const char* leaf : {"Xd", "Xu", "X"})
      if (product == (leaf[1] != 0))
        tensors.push_back({fmt::format("{}.glora_{}.{}", layer.module.name, part.letter, leaf),
                           ValueName(layer, fmt::format("{}.{}", part.letter, leaf))});
  }
  return tensors;
}

void MakeGlora(const PeftConfig& config, const PeftPlan::Glora& layer, ParamStore* values) {
  for (const Part& part : kParts) {
    if (OfBias(part.letter) && !layer.has_bias) continue;
    const std::string& form = FormOf(config.glora, part.letter);
    if (form == "lora")
      MakeProduct(layer, part, config.r, values);
    else
      MakeColumn(layer, part, form == "constant", values);
  }
}

}  // namespace graft
