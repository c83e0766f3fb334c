#include "tools/lib/method_table.h"

#include <algorithm>
#include <cctype>

#include "tools/lib/report.h"

namespace graft {
namespace {

std::vector<const MethodRecord*> Chosen(const std::string& name) {
  if (!name.empty()) return {&FindMethod(name)};
  return {AllMethods().begin(), AllMethods().end()};
}

// "blocks.11.attn.q.weight" -> "blocks.*.attn.q.weight".
std::string WithoutBlock(const std::string& name) {
  if (!name.starts_with("blocks.")) return name;
  size_t end = 7;
  while (end < name.size() && std::isdigit(static_cast<unsigned char>(name[end]))) ++end;
  return "blocks.*" + name.substr(end);
}

const char* FoldsWord(Folds folds) {
  return folds == Folds::kYes ? "yes" : folds == Folds::kPart ? "in part" : "no";
}

}  // namespace

nlohmann::json MethodsJson(const std::string& name) {
  nlohmann::json methods = nlohmann::json::array();
  for (const MethodRecord* r : Chosen(name)) {
    nlohmann::json options = nlohmann::json::array();
    for (const MethodOption& o : r->options())
      options.push_back({{"name", o.name}, {"default", o.value}, {"help", o.help}});
    methods.push_back({{"name", r->name},
                       {"summary", r->summary},
                       {"equation", r->equation},
                       {"count", r->formula},
                       {"source", r->source},
                       {"options", options},
                       {"foldable", r->folds == Folds::kYes},
                       {"folds", FoldsWord(r->folds)},
                       {"why", r->why},
                       {"learning_rate", r->learning_rate}});
  }
  return {{"methods", methods}};
}

std::string MethodsText(const std::string& name) {
  std::string text;
  for (const MethodRecord* r : Chosen(name)) {
    text += fmt::format("{}{}  {}\n", text.empty() ? "" : "\n", r->name, r->summary);
    TextTable table;
    table.Add({"equation", std::string(r->equation)});
    table.Add({"parameters", std::string(r->formula)});
    table.Add({"fuses", fmt::format("{}: {}", FoldsWord(r->folds), r->why)});
    table.Add({"rate", fmt::format("{:g} unless --lr says another", r->learning_rate)});
    for (const MethodOption& o : r->options())
      table.Add({fmt::format("{}={}", o.name, o.value), std::string(o.help)});
    table.Add({"head=trained", "or frozen"});
    table.Add({"source", std::string(r->source)});
    text += table.Lines("  ") + "\n";
  }
  if (name.empty())
    text +=
        "\nD: width, M: width of the MLP, L: blocks, K: classes. The head's (D + 1) K train with "
        "every method.\n"
        "Methods add up: \"lora(r=8)+bitfit\".\n";
  text.pop_back();
  return text;
}

std::vector<TrainableGroup> TrainableGroups(const Graph& g) {
  std::vector<TrainableGroup> groups;
  for (ValueId v : g.Trainable()) {
    const std::string name = WithoutBlock(g.value(v).name), shape = ToString(g.shape(v));
    auto at = std::find_if(groups.begin(), groups.end(), [&](const TrainableGroup& x) {
      return x.name == name && x.shape == shape;
    });
    if (at == groups.end()) at = groups.insert(groups.end(), {name, shape, 0, 0});
    ++at->tensors;
    at->numbers += At(g.shape(v), {}).size();
  }
  return groups;
}

int64_t ParameterCount(const Graph& g) {
  int64_t count = 0;
  for (ValueId v : g.Leaves(Role::kParam)) count += At(g.shape(v), {}).size();
  return count;
}

}  // namespace graft
