#include "adapters/joint_model.h"

#include <algorithm>

#include "adapters/method_graph.h"
#include "peft/merge.h"

namespace graft {
namespace {

// Opens each base once; copies of a model share its weights.
class SharedBase {
 public:
  LoadedModel Open(const std::string& source, const std::string& arch, uint64_t seed) {
    // The seed makes a difference only to made-up weights.
    const std::tuple key(source, arch, source.starts_with("init:") ? seed : 0);
    const auto [it, fresh] = models_.try_emplace(key);
    if (fresh) {
      it->second = LoadModel(source, arch, seed);
      it->second.params.Freeze();  // or copies would not share what was written just now
    }
    return it->second;
  }
  // The weights of the first model, with those that LayerScale is folded into. REQUIRES: Open has
  // been called.
  ParamStore Params() const {
    const LoadedModel& first = models_.begin()->second;
    ParamStore params = first.params;
    Graph plain = BuildModel(first.config);
    FoldScales(plain, params);
    params.Freeze();
    return params;
  }

 private:
  std::map<std::tuple<std::string, std::string, uint64_t>, LoadedModel> models_;
};

std::vector<std::string> UniqueNames(std::span<const std::string> adapters) {
  std::vector<std::string> names;
  for (const std::string& adapter : adapters) {
    std::string name = adapter;
    for (int i = 2; std::ranges::find(names, name) != names.end(); ++i)
      name = fmt::format("{}#{}", adapter, i);
    names.push_back(name);
  }
  return names;
}

// Adds the adapter's name to an error about the base, which cannot know which adapter wanted it.
OpenedModel OpenNamed(const ModelChoice& choice, InputKind kind, const OpenBase& base) {
  try {
    return OpenModel(choice, kind, base);
  } catch (const Error& e) {
    const std::string message = e.what();
    if (message.find(choice.adapter) != std::string::npos) throw;
    throw Error(fmt::format("--adapter {}: {}", choice.adapter, message), e.kind);
  }
}

void CheckSameInput(const JointModel::Member& a, const JointModel::Member& b) {
  const auto check = [&](const char* what, const auto& of_a, const auto& of_b, const char* option) {
    if (of_a == of_b) return;
    Fail(
        "{} and {} want different inputs, {} '{}' and '{}'; hint: one {} for all, or one at a time",
        a.name, b.name, what, of_a, of_b, option);
  };
  const AdapterFacts &ca = a.opened.facts, &cb = b.opened.facts;
  if (!a.opened.model.is_bert())
    return check("preprocessing", ToString(a.opened.preprocess), ToString(b.opened.preprocess),
                 "--preprocess");
  check("tokenizer", ca.tokenizer, cb.tokenizer, "--tokenizer");
  check("template", ca.prompt, cb.prompt, "template");
  check("tokens at most", ca.max_length, cb.max_length, "--max-length");
}

Graph Optimised(OpenedModel& opened, const PassOptions& passes) {
  Graph g = opened.ToRun(false);
  CheckKeep(g, passes.precision);
  InferencePasses(passes).Run(g);
  return g;
}

JointModel OpenSingle(const ModelChoice& choice, InputKind kind,
                      const PassOptions& passes) {
  JointModel joint;
  OpenedModel opened = OpenModel(choice, kind);
  joint.graph = Optimised(opened, passes);
  joint.params = std::move(opened.model.params);
  joint.members.push_back({opened.description, "logits", std::move(opened), {}});
  return joint;
}

}  // namespace

JointModel OpenJointModel(const ModelChoice& choice, std::span<const std::string> adapters,
                          InputKind kind, const PassOptions& passes) {
  ModelChoice one = choice;
  if (!adapters.empty()) one.adapter = adapters[0];
  if (adapters.size() <= 1) return OpenSingle(one, kind, passes);

  JointModel joint;
  SharedBase base;
  const std::vector<std::string> names = UniqueNames(adapters);
  std::vector<Graph> graphs;
  for (size_t i = 0; i < adapters.size(); ++i) {
    one.adapter = adapters[i];
    OpenedModel opened = OpenNamed(one, kind, std::bind_front(&SharedBase::Open, &base));
    graphs.push_back(Optimised(opened, passes));
    opened.model.params.Freeze();
    joint.members.push_back({names[i], "logits/" + names[i], std::move(opened), {}});
    CheckSameInput(joint.members[0], joint.members[i]);
  }
  std::vector<JoinMember> parts;
  for (size_t i = 0; i < graphs.size(); ++i)
    parts.push_back({names[i], &graphs[i], &joint.members[i].opened.model.params});
  Joined joined = JoinGraphs(base.Params(), parts);
  joint.graph = std::move(joined.graph), joint.params = std::move(joined.params);
  joint.shared_nodes = joined.shared_nodes;
  for (size_t i = 0; i < graphs.size(); ++i) {
    joint.members[i].own = joined.own[i];
    joint.members[i].opened.model.params = {};
  }
  return joint;
}

}  // namespace graft
