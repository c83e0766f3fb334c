#include "adapters/hf/peft_reader.h"

#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "adapters/hf/peft_glora.h"
#include "adapters/hf/peft_keys.h"
#include "adapters/hf/peft_prompt.h"
#include "ops/ops.h"
#include "peft/sites.h"
#include "runtime/io/files_read.h"
#include "runtime/io/foreign_file.h"

namespace graft {
namespace {

constexpr std::string_view kConfigName = "adapter_config.json";
constexpr std::string_view kWeightsName = "adapter_model.safetensors";
constexpr std::string_view kPickleName = "adapter_model.bin";

bool IsFile(const std::string& path) {
  struct stat s;
  return stat(path.c_str(), &s) == 0 && S_ISREG(s.st_mode);
}

bool IsDirectory(const std::string& path) {
  struct stat s;
  return stat(path.c_str(), &s) == 0 && S_ISDIR(s.st_mode);
}

std::string DirectoryOf(const std::string& path) {
  if (IsDirectory(path)) return path;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::string In(const std::string& directory, std::string_view name) {
  return fmt::format("{}/{}", directory, name);
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ","));
}

// The naming under which most keys name a layer.
HfNaming ChooseNaming(const PeftAdapter& adapter, const LoadedModel& model) {
  std::vector<HfNaming> namings = HfNamings(model);
  const size_t all = adapter.file.tensors().size();
  size_t best = 0, most = 0;
  for (size_t i = 0; i < namings.size(); ++i) {
    // A head, which is called alike in all, decides only if there is nothing else.
    size_t count = 0;
    for (const FileTensor& t : adapter.file.tensors())
      if (const HfModule* module = FindPeftKey(namings[i], t.name).module)
        count += module->scope == "head" ? 1 : all + 1;
    if (count > most) best = i, most = count;
  }
  if (most < all)  // at most a head is known, and other keys are not
    Fail("{}: no key names a layer of {}{}", adapter.file.path(), model.source,
         adapter.config.base.empty()
             ? ""
             : fmt::format("; the adapter was made for '{}'", adapter.config.base));
  return namings[best];
}

// Parameters that the config says the file holds, with their shapes. -1 is any size.
using Expected = std::map<std::string, std::vector<int64_t>>;

class Fitter {
 public:
  Fitter(const PeftAdapter& adapter, const LoadedModel& model, const Graph& plain)
      : adapter_(adapter),
        model_(model),
        plain_(plain),
        config_path_(In(adapter.path, kConfigName)),
        select_(adapter.config, config_path_) {
    for (ValueId v : plain.Leaves(Role::kIntermediate))
      if (IsSite(plain, v)) sites_.insert(plain.node(plain.value(v).producer).scope);
    for (ValueId v : plain.Leaves(Role::kParam)) {
      const Extents shape = At(plain.shape(v), {});
      shapes_[plain.value(v).name] = {shape.d.begin(), shape.d.begin() + shape.rank};
      const std::string& name = plain.value(v).name;
      if (ReadAs(plain, v, kLayerNorm, 1)) norms_.insert(name.substr(0, name.rfind('.')));
    }
    out_.naming = ChooseNaming(adapter, model);
  }

  PeftOnModel Run() {
    const std::string& type = adapter_.config.type;
    type == "LORA" ? ExpectLora() : type == "GLORA" ? ExpectGlora() : ExpectNorms();
    for (const HfModule& module : out_.naming.modules)
      if (select_.Saves(module)) ExpectWhole(module);
    if (!expected_.contains("head.weight")) out_.method[0].options["head"] = "frozen";
    CheckSavedNames();
    for (const FileTensor& tensor : adapter_.file.tensors()) Match(tensor);
    for (const auto& [name, shape] : expected_)
      if (!found_.contains(name)) out_.ledger.missing.push_back(name);
    return std::move(out_);
  }

 private:
  void ExpectLora();
  void ExpectGlora();
  void ExpectNorms();
  void ExpectWhole(const HfModule& module);
  void CheckSavedNames() const;
  void Match(const FileTensor& tensor);
  bool IsCopy(const FileTensor& tensor, const std::string& parameter) const;
  void CheckShape(const FileTensor& tensor, const std::string& parameter) const;
  std::vector<const HfModule*> Targets(const std::set<std::string>& able, const char* kind) const;

  const PeftAdapter& adapter_;
  const LoadedModel& model_;
  const Graph& plain_;
  std::string config_path_;
  PeftSelector select_;
  std::set<std::string> sites_, norms_, found_;
  std::map<std::string, std::vector<int64_t>> shapes_;
  Expected expected_;
  PeftOnModel out_;
};

std::vector<const HfModule*> Fitter::Targets(const std::set<std::string>& able,
                                             const char* kind) const {
  std::vector<const HfModule*> targets;
  std::vector<std::string> names;
  for (const HfModule& module : out_.naming.modules) {
    const bool fits = able.contains(module.scope) && module.weight_shape.size() <= 2;
    names.push_back(module.name.substr(module.name.rfind('.') + 1));
    if (!select_.Targets(module, fits)) continue;
    if (!fits)
      Fail("{}: target_modules chooses '{}', which is no {}; Graft adapts nothing else",
           config_path_, module.name, kind);
    targets.push_back(&module);
  }
  if (targets.empty()) {
    const ModuleSpec& t = adapter_.config.target;
    Fail("{}: target_modules chooses no {} of {}{}", config_path_, kind, model_.source,
         DidYouMean(t.names.empty() ? t.pattern : t.names[0], names));
  }
  return targets;
}

void Fitter::ExpectLora() {
  const PeftConfig& c = adapter_.config;
  std::map<std::pair<int64_t, double>, std::vector<std::string>> groups;  // by rank and alpha
  for (const HfModule* module : Targets(sites_, "dense layer")) {
    const std::string& scope = module->scope;
    const std::vector<int64_t>& w = shapes_.at(scope + ".weight");
    const int64_t r = select_.Rank(*module);
    expected_[scope + ".lora_a"] = {r, w[1]};
    expected_[scope + ".lora_b"] = {w[0], r};
    if (const auto bias = shapes_.find(scope + ".bias");
        c.bias == "lora_only" && bias != shapes_.end())
      expected_[bias->first] = bias->second;
    groups[{r, select_.Alpha(*module)}].push_back(scope);
  }
  if (c.bias == "all")
    for (ValueId v : plain_.Leaves(Role::kParam))
      if (IsBias(plain_, v)) expected_[plain_.value(v).name] = shapes_.at(plain_.value(v).name);
  const std::vector<std::string> all(sites_.begin(), sites_.end());
  for (const auto& [key, scopes] : groups) {
    MethodTerm term{"lora", {{"r", std::to_string(key.first)}}};
    if (key.second != static_cast<double>(key.first))
      term.options["alpha"] = fmt::format("{}", key.second);
    if (c.dropout > 0) term.options["dropout"] = fmt::format("{}", c.dropout);
    if (c.rslora) term.options["rslora"] = "true";
    if (c.bias != "none") term.options["bias"] = c.bias;
    term.options["targets"] = fmt::format("{}", fmt::join(ShortTargets(scopes, all), "|"));
    out_.method.push_back(std::move(term));
  }
}

void Fitter::ExpectGlora() {
  std::set<std::string> layers = sites_;
  std::erase_if(layers, [](const std::string& scope) { return !scope.starts_with("blocks."); });
  std::map<bool, std::vector<std::string>> groups;  // by whether there is a bias
  for (const HfModule* module : Targets(layers, "dense layer of a block")) {
    const bool has_bias = shapes_.contains(module->scope + ".bias");
    for (const auto& [name, shape] : GloraShapes(adapter_.config, *module, has_bias))
      expected_[module->scope + "." + name] = shape;
    groups[has_bias].push_back(module->scope);
  }
  const std::vector<std::string> all(layers.begin(), layers.end());
  for (const auto& [has_bias, scopes] : groups)
    out_.method.push_back(GloraTerm(adapter_.config, has_bias,
                                    fmt::format("{}", fmt::join(ShortTargets(scopes, all), "|"))));
}

void Fitter::ExpectNorms() {
  std::vector<std::string> scopes;
  for (const HfModule* module : Targets(norms_, "layer norm")) {
    ExpectWhole(*module);
    scopes.push_back(module->scope);
  }
  MethodTerm term{"ln", {}};
  const std::vector<std::string> all(norms_.begin(), norms_.end());
  if (scopes.size() < all.size())
    term.options["targets"] = fmt::format("{}", fmt::join(ShortTargets(scopes, all), "|"));
  out_.method.push_back(std::move(term));
}

void Fitter::ExpectWhole(const HfModule& module) {
  for (const std::string& parameter : module.parameters) {
    const std::string name = module.scope + "." + parameter;
    if (!shapes_.contains(name)) continue;  // not in this graph
    std::vector<int64_t> shape = parameter == "weight" ? module.weight_shape : shapes_.at(name);
    // As many classes as the adapter's task has.
    if (module.scope == "head" || module.scope == "head.dist") shape[0] = -1;
    expected_[name] = shape;
  }
}

// peft adds both usual names of a head, of which a model has one; any other name must be there.
void Fitter::CheckSavedNames() const {
  std::vector<std::string> names;
  for (const HfModule& m : out_.naming.modules) names.push_back(m.name);
  for (const std::string& saved : adapter_.config.modules_to_save) {
    const bool there = std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      return name.ends_with(saved) || name.find(saved + ".") != std::string::npos;
    });
    if (!there && saved != "classifier" && saved != "score")
      Fail(
          "{}: modules_to_save names '{}', which is no module of {} that Graft trains as a whole{}",
          config_path_, saved, model_.source, DidYouMean(saved, names));
  }
}

void Fitter::Match(const FileTensor& tensor) {
  const auto [module, part] = FindPeftKey(out_.naming, tensor.name);
  if (module && part.empty()) {
    out_.ledger.reshaped.push_back({tensor.name, ShapeText(tensor.shape), "nothing",
                                    "the base's own copy, which the adapter replaces"});
    return;
  }
  if (module && part == kZerosPart && adapter_.config.type == "GLORA" &&
      std::ranges::all_of(adapter_.file.bytes(tensor),
                          [](std::byte b) { return b == std::byte{}; })) {
    out_.ledger.reshaped.push_back({tensor.name, ShapeText(tensor.shape), "nothing",
                                    "zeros, which stand for a part that is off"});
    return;
  }
  const std::string parameter = module ? module->scope + "." + part : "";
  const auto expected = expected_.find(parameter);
  if (module && IsCopy(tensor, parameter)) {
    out_.ledger.reshaped.push_back({tensor.name, ShapeText(tensor.shape), "nothing",
                                    "the same bytes as another key of this parameter"});
    return;
  }
  if (!module || expected == expected_.end() || !found_.insert(parameter).second) {
    out_.ledger.unexpected.push_back(tensor.name);
    return;
  }
  CheckShape(tensor, parameter);
  if (expected->second[0] < 0) {  // of a head
    const int64_t rows = tensor.shape[0];
    if (out_.classes != 0 && out_.classes != rows)
      Fail("{}: the head has {} and {} classes", adapter_.file.path(), out_.classes, rows);
    out_.classes = rows;
  }
  out_.ledger.matched.push_back(tensor.name);
  out_.tensors.push_back({tensor.name, parameter});
}

// With bias = "all" peft writes the bias of a module to save twice.
bool Fitter::IsCopy(const FileTensor& tensor, const std::string& parameter) const {
  const auto first = std::find_if(out_.tensors.begin(), out_.tensors.end(),
                                  [&](const auto& t) { return t.parameter == parameter; });
  if (first == out_.tensors.end()) return false;
  const FileTensor& other = adapter_.file.Get(first->key);
  return tensor.dtype == other.dtype && tensor.shape == other.shape &&
         std::ranges::equal(adapter_.file.bytes(tensor), adapter_.file.bytes(other));
}

void Fitter::CheckShape(const FileTensor& tensor, const std::string& parameter) const {
  const std::vector<int64_t>& want = expected_.at(parameter);
  bool same = want.size() == tensor.shape.size();
  for (size_t i = 0; same && i < want.size(); ++i)
    same = want[i] < 0 ? tensor.shape[i] >= 1 : want[i] == tensor.shape[i];
  if (same) return;
  std::string text = ShapeText(want);
  if (const size_t any = text.find("-1"); any != std::string::npos) text.replace(any, 2, "classes");
  Fail("{}: '{}' has shape {}, {} and {} want {}{}", adapter_.file.path(), tensor.name,
       ShapeText(tensor.shape), model_.source, kConfigName, text,
       adapter_.config.base.empty()
           ? ""
           : fmt::format("; hint: the adapter was made for '{}'", adapter_.config.base));
}

}  // namespace

bool LooksLikePeft(const std::string& path) {
  if (IsDirectory(path)) return IsFile(In(path, kConfigName));
  const std::string name = path.substr(path.rfind('/') + 1);
  return (name == kConfigName || name == kWeightsName || name == kPickleName) &&
         IsFile(In(DirectoryOf(path), kConfigName));
}

bool HoldsModelToo(const std::string& path) {
  return LooksLikePeft(path) && IsFile(In(path, "config.json")) &&
         (IsFile(In(path, "model.safetensors")) ||
          IsFile(In(path, "model.safetensors.index.json")));
}

PeftAdapter PeftAdapter::Open(const std::string& path) {
  const std::string directory = DirectoryOf(path), weights = In(directory, kWeightsName);
  PeftAdapter adapter;
  RecordRead(directory);
  adapter.path = directory;
  adapter.config = ReadPeftConfig(In(directory, kConfigName));
  if (!IsFile(weights)) RefuseDirectory(directory, {std::string(kWeightsName)});
  adapter.file = SafetensorsFile::Open(weights);
  return adapter;
}

PeftOnModel FitPeft(const PeftAdapter& adapter, const LoadedModel& model, const Graph& plain) {
  if (LearnsPrompt(adapter.config)) return FitPrompt(adapter, model);
  return Fitter(adapter, model, plain).Run();
}

namespace {

// The first of target_modules that is no module. peft passes over such names (lists are often made
// for several models), so it is a mistake only where the file's keys say so, too.
std::string UnknownTarget(const PeftAdapter& adapter, const HfNaming& naming) {
  std::vector<std::string> names;
  for (const HfModule& m : naming.modules) names.push_back(m.name.substr(m.name.rfind('.') + 1));
  for (const std::string& target : adapter.config.target.names)
    if (std::ranges::none_of(naming.modules,
                             [&](const HfModule& m) { return EndsWithName(m.name, target); }))
      return fmt::format("; its target_modules name '{}', which is no module{}", target,
                         DidYouMean(target, names));
  return "";
}

}  // namespace

void CheckPeftLedger(const PeftAdapter& adapter, const PeftOnModel& fitted) {
  const KeyLedger& k = fitted.ledger;
  if (!k.unexpected.empty()) {
    std::vector<std::string> wanted;
    for (const std::string& parameter : k.missing) {
      const size_t dot = parameter.rfind('.');
      const HfModule* module = fitted.naming.FindScope(parameter.substr(0, dot));
      std::string part = parameter.substr(dot + 1);
      if (part == "lora_a") part = "lora_A.weight";
      if (part == "lora_b") part = "lora_B.weight";
      if (module) wanted.push_back(fmt::format("{}{}.{}", kPeftRoot, module->name, part));
    }
    std::string why = UnknownTarget(adapter, fitted.naming);
    if (why.empty()) why = DidYouMean(k.unexpected[0], wanted);
    Fail("{}: '{}' is nothing that {} speaks of{}{}", adapter.file.path(), k.unexpected[0],
         kConfigName,
         k.unexpected.size() > 1 ? fmt::format(" ({} more)", k.unexpected.size() - 1) : "", why);
  }
  if (!k.missing.empty())
    Fail("{}: no tensor for '{}'{}, which {} asks for", adapter.file.path(), k.missing[0],
         k.missing.size() > 1 ? fmt::format(" and {} others", k.missing.size() - 1) : "",
         kConfigName);
}

void LoadPeft(const PeftAdapter& adapter, const PeftOnModel& fitted, ParamStore& params) {
  for (const PeftOnModel::Tensor& t : fitted.tensors) {
    const FileTensor& tensor = adapter.file.Get(t.key);
    if (t.columns > 0) {
      LoadColumns(adapter.file, tensor, t, params);
      continue;
    }
    adapter.file.Load(tensor, t.parameter, &params);
    if (tensor.shape.size() <= 2) continue;
    // A convolution is a matrix of the same numbers here.
    const ParamStore::Entry loaded = params.Get(t.parameter);
    const Extents matrix{loaded.shape[0], loaded.shape.size() / loaded.shape[0]};
    params.Set(t.parameter, matrix, loaded.values());
  }
}

std::vector<std::string> ShortTargets(const std::vector<std::string>& chosen,
                                      const std::vector<std::string>& all) {
  const std::set<std::string> wanted(chosen.begin(), chosen.end());
  std::set<std::string> targets;
  for (const std::string& scope : chosen) {
    const size_t dot = scope.starts_with("blocks.") ? scope.find('.', 7) : std::string::npos;
    const std::string kind = dot == std::string::npos ? scope : scope.substr(dot + 1);
    const bool exact = std::all_of(all.begin(), all.end(), [&](const std::string& other) {
      return wanted.contains(other) || !ScopeMatches(other, {kind});
    });
    targets.insert(exact ? kind : scope);
  }
  return {targets.begin(), targets.end()};
}

}  // namespace graft
