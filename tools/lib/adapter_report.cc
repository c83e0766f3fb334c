#include "tools/lib/adapter_report.h"

#include <algorithm>

#include "adapters/hf/peft_reader.h"
#include "adapters/open_model.h"
#include "tools/lib/output.h"
#include "tools/lib/report.h"

namespace graft {
namespace {

// How many numbers the file holds. Without a model every key counts as matched.
int64_t CountTensors(const SafetensorsFile& file, KeyLedger* keys) {
  int64_t count = 0;
  for (const FileTensor& t : file.tensors()) {
    count += static_cast<int64_t>((t.end - t.begin) * 8) / BitSize(t.dtype);
    keys->matched.push_back(t.name);
  }
  return count;
}

std::string NamesOf(const ModuleSpec& spec) {
  return spec.pattern.empty() ? fmt::format("{}", fmt::join(spec.names, ", ")) : spec.pattern;
}

std::string ConfigText(const PeftConfig& c) {
  TextTable table;
  table.Add({"base", c.base.empty() ? "not named" : c.base});
  table.Add({"targets", c.all_linear ? "all-linear" : NamesOf(c.target)});
  if (!c.exclude.empty()) table.Add({"without", NamesOf(c.exclude)});
  if (!c.modules_to_save.empty())
    table.Add({"saved whole", fmt::format("{}", fmt::join(c.modules_to_save, ", "))});
  if (c.type == "LORA") {
    table.Add({"rank", std::to_string(c.r)});
    table.Add({"alpha", fmt::format("{}{}", c.alpha, c.rslora ? " (rslora)" : "")});
    table.Add({"dropout", fmt::format("{}", c.dropout)});
    table.Add({"biases", c.bias});
    for (const auto& [pattern, r] : c.rank_pattern)
      table.Add({"rank of " + pattern, fmt::format("{}", r)});
    for (const auto& [pattern, alpha] : c.alpha_pattern)
      table.Add({"alpha of " + pattern, fmt::format("{}", alpha)});
  }
  return table.Lines("  ");
}

}  // namespace

std::string KeysText(const KeyLedger& k) {
  std::string text =
      fmt::format("  keys: {} matched, {} missing, {} unexpected, {} changed", k.matched.size(),
                  k.missing.size(), k.unexpected.size(), k.reshaped.size());
  auto list = [&](const char* what, const std::vector<std::string>& names) {
    constexpr size_t kMost = 10;
    for (size_t i = 0; i < std::min(names.size(), kMost); ++i)
      text += fmt::format("\n    {} {}", what, names[i]);
    if (names.size() > kMost) text += fmt::format("\n    ... and {} more", names.size() - kMost);
  };
  list("missing", k.missing);
  list("unexpected", k.unexpected);
  for (const KeyLedger::Reshaped& r : k.reshaped)
    text += fmt::format("\n    changed {}: {} to {} ({})", r.key, r.from, r.to, r.why);
  return text;
}

nlohmann::json KeysJson(const KeyLedger& k) {
  nlohmann::json reshaped = nlohmann::json::array();
  for (const KeyLedger::Reshaped& r : k.reshaped)
    reshaped.push_back({{"key", r.key}, {"from", r.from}, {"to", r.to}, {"why", r.why}});
  return {{"matched", k.matched},
          {"missing", k.missing},
          {"unexpected", k.unexpected},
          {"reshaped", reshaped}};
}

void InspectAdapter(const std::string& path, const CommonOptions& common) {
  const AdapterFile adapter = AdapterFile::Open(path);
  const SafetensorsFile file = SafetensorsFile::Open(adapter.path);
  const std::string architecture = ArchitectureName(adapter.architecture);
  KeyLedger keys;
  const int64_t count = CountTensors(file, &keys);
  PrintJson(common, {{"subject", path},
                     {"kind", "adapter"},
                     {"architecture", architecture},
                     {"method", adapter.facts.method},
                     {"parameters", count},
                     {"trainable_parameters", count},
                     {"labels", adapter.facts.labels},
                     {"base_sha256", adapter.facts.base_sha256},
                     {"keys", KeysJson(keys)}});
  Say(common, fmt::format("{}\n  adapter of {} for {}: {} tensors, {} parameters", path,
                          adapter.facts.method, architecture, keys.matched.size(), Grouped(count)));
  TextTable table;
  table.Add({"classes", fmt::format("{}", fmt::join(adapter.facts.labels, ", "))});
  if (std::holds_alternative<VitConfig>(adapter.architecture))
    table.Add({"preprocess", adapter.facts.preprocess});
  else
    table.Add({"texts", fmt::format("pooled by {}, at most {} tokens", adapter.facts.pool,
                                    adapter.facts.max_length)});
  table.Add({"base SHA-256",
             adapter.facts.base_sha256.empty() ? "none (init:)" : adapter.facts.base_sha256});
  Say(common, table.Lines("  "));
}

void InspectPeft(const std::string& path, const CommonOptions& common) {
  const PeftAdapter adapter = PeftAdapter::Open(path);
  KeyLedger keys;
  const int64_t count = CountTensors(adapter.file, &keys);
  const HfClass none{};
  PrintJson(common, {{"subject", path},
                     {"kind", "adapter"},
                     {"format", "hf-peft"},
                     {"architecture", nullptr},
                     {"base", adapter.config.base},
                     {"method", nullptr},
                     {"peft", ToJson(adapter.config, none)},
                     {"parameters", count},
                     {"trainable_parameters", count},
                     {"keys", KeysJson(keys)}});
  Say(common, fmt::format("{}\n  {} adapter of Hugging Face peft: {} tensors, {} parameters", path,
                          adapter.config.type, keys.matched.size(), Grouped(count)));
  Say(common, ConfigText(adapter.config));
  Say(common, fmt::format("next: graft inspect BASE --adapter {}", ShellWord(path)));
}

namespace {

void InspectPeftOn(const std::string& base, const std::string& arch, const std::string& path,
                   const CommonOptions& common) {
  const PeftAdapter adapter = PeftAdapter::Open(path);
  const LoadedModel model = LoadModel(base, arch, static_cast<uint64_t>(common.seed));
  const PeftOnModel fitted = FitPeft(adapter, model, BuildModel(model.config));
  KeyLedger all;
  const int64_t count = CountTensors(adapter.file, &all);
  PrintJson(common, {{"subject", path},
                     {"kind", "adapter"},
                     {"format", "hf-peft"},
                     {"architecture", model.architecture()},
                     {"base", base},
                     {"method", ToString(fitted.method)},
                     {"parameters", count},
                     {"trainable_parameters", count},
                     {"keys", KeysJson(fitted.ledger)}});
  const int release = fitted.naming.transformers;
  Say(common,
      fmt::format("{} on {}\n  {}, {} parameters{}", path, base, model.architecture(),
                  Grouped(count),
                  release ? fmt::format(", module names of transformers {}", release) : ""));
  Say(common, ConfigText(adapter.config));
  Say(common, "  method " + ToString(fitted.method));
  Say(common, KeysText(fitted.ledger));
  CheckPeftLedger(adapter, fitted);
}

// Inspects an adapter of ours, or a run: opening it has checked every tensor.
void InspectOwnOn(const std::string& base, const std::string& arch, const std::string& path,
                  const CommonOptions& common) {
  ModelChoice choice;
  choice.model = base, choice.adapter = path, choice.arch = arch;
  choice.seed = common.seed;
  const OpenedModel opened = OpenModel(choice, InputKind::kImages);
  const LoadedModel& m = opened.model;
  KeyLedger keys;
  keys.matched = opened.trained;
  int64_t count = 0;
  for (const std::string& name : opened.trained) count += m.params.shape(name).size();
  PrintJson(common, {{"subject", path},
                     {"kind", "adapter"},
                     {"format", IsRunDirectory(path) ? "run" : "graft"},
                     {"architecture", m.architecture()},
                     {"base", base},
                     {"method", opened.facts.method},
                     {"parameters", count},
                     {"trainable_parameters", count},
                     {"labels", opened.labels()},
                     {"keys", KeysJson(keys)}});
  Say(common,
      fmt::format("{} on {}\n  {}, {} parameters", path, base, m.architecture(), Grouped(count)));
  Say(common, "  method " + opened.facts.method);
  Say(common, fmt::format("  classes: {}", fmt::join(opened.labels(), ", ")));
  Say(common, KeysText(keys));
}

}  // namespace

void InspectAdapterOn(const std::string& base, const std::string& arch, const std::string& adapter,
                      const CommonOptions& common) {
  const auto inspect = LooksLikePeft(adapter) ? InspectPeftOn : InspectOwnOn;
  inspect(base, arch, adapter, common);
}

}  // namespace graft
