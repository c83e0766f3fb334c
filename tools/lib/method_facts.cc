#include "tools/lib/method_facts.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "adapters/method_graph.h"
#include "tools/lib/graph_diff.h"

namespace graft {
namespace {

constexpr size_t kMostLines = 30;

// Splits "blocks.11.attn.q" into {"attn.q", 11}; what is in no block has the number -1.
std::pair<std::string, int64_t> WithoutBlock(const std::string& scope) {
  constexpr std::string_view kBlocks = "blocks.";
  if (!scope.starts_with(kBlocks)) return {scope, -1};
  const size_t begin = kBlocks.size();
  const size_t end = std::min(scope.find_first_not_of("0123456789", begin), scope.size());
  if (end == begin) return {scope, -1};
  const size_t rest = std::min(end + 1, scope.size());
  return {scope.substr(rest), std::stoll(scope.substr(begin, end - begin))};
}

std::string OwnerOf(const std::string& param) {
  const size_t dot = param.rfind('.');
  return dot == std::string::npos ? param : param.substr(0, dot);
}

// Whether a scope or parameter belongs to the head, or to one of masked words in its place.
bool InHead(const std::string& name) { return name == "head" || name == "mlm" || OfHead(name); }

struct MethodPlaces {
  std::vector<std::string> order;
  std::map<std::string, std::set<int64_t>> blocks;

  void Add(const std::string& scope) {
    if (InHead(scope)) return;
    auto [place, block] = WithoutBlock(scope);
    if (place.empty() && block < 0) return;
    if (place.empty()) place = "block";
    if (!blocks.contains(place)) order.push_back(place);
    blocks[place].insert(block);
  }
  // Makes one place of those in `all`, if they are in equally many blocks.
  void Join(const std::vector<std::string>& all, const std::string& name) {
    for (const std::string& place : all)
      if (!blocks.contains(place) || blocks[place] != blocks[all[0]]) return;
    *std::ranges::find(order, all[0]) = name;
    blocks[name] = blocks[all[0]];
    for (const std::string& place : all) std::erase(order, place);
  }
};

int64_t DepthOf(const Graph& g) {
  int64_t depth = 0;
  for (NodeId id : g.TopoOrder())
    depth = std::max(depth, WithoutBlock(g.node(id).scope).second + 1);
  return depth;
}

bool TrainsEverything(const Graph& before, const Graph& after) {
  for (ValueId v : before.Leaves(Role::kParam)) {
    const std::string& name = before.value(v).name;
    const ValueId now = after.FindLeaf(name);
    if (!InHead(name) && (!now.valid() || !after.value(now).trainable)) return false;
  }
  return true;
}

// Most methods leave most entries shared with those of the model.
bool SameBytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() &&
         (a.data() == b.data() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

// The model's own parameters that have other values afterwards.
std::vector<std::string> Edited(const ParamStore& before, const ParamStore& after) {
  std::vector<std::string> names;
  for (const std::string& name : before.names())
    if (!InHead(name) && after.Has(name) &&
        !SameBytes(before.Get(name).bytes(), after.Get(name).bytes()))
      names.push_back(name);
  return names;
}

// Whether the model takes the method; if not, `note` receives the message.
bool Accepts(const std::function<void()>& body, std::string* note) {
  try {
    body();
    return true;
  } catch (const Error& e) {
    *note = e.what();
    return false;
  }
}

}  // namespace

std::vector<TrainableGroup> TrainableGroups(const Graph& g) {
  std::vector<TrainableGroup> groups;
  for (ValueId v : g.Trainable()) {
    const auto [rest, block] = WithoutBlock(g.value(v).name);
    const std::string name = block < 0 ? rest : "blocks.*." + rest, shape = ToString(g.shape(v));
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

std::vector<std::string> SitesOf(const Graph& before, const Graph& after,
                                 std::span<const std::string> edited) {
  if (TrainsEverything(before, after)) return {"everything"};
  MethodPlaces places;
  for (NodeId id : AddedNodes(before, after)) places.Add(after.node(id).scope);
  for (ValueId v : after.Trainable()) {
    const std::string& name = after.value(v).name;
    if (before.FindLeaf(name).valid()) places.Add(OwnerOf(name));
  }
  for (const std::string& name : edited) places.Add(OwnerOf(name));
  if (places.order.empty()) return {"head"};
  places.Join({"attn.q", "attn.k", "attn.v", "attn.o"}, "attn.*");
  places.Join({"mlp.fc1", "mlp.fc2"}, "mlp.*");
  const size_t depth = static_cast<size_t>(DepthOf(before));
  std::vector<std::string> sites;
  for (const std::string& place : places.order) {
    const std::set<int64_t>& blocks = places.blocks[place];
    const bool all = *blocks.begin() < 0 || blocks.size() == depth;
    sites.push_back(all ? place
                        : fmt::format("{} of block{} {}", place, blocks.size() > 1 ? "s" : "",
                                      Ranges({blocks.begin(), blocks.end()})));
  }
  return sites;
}

MethodFacts FactsOn(const MethodTerm& term, const std::string& name, const LoadedModel& model) {
  MethodFacts facts;
  facts.model = name, facts.text = model.is_bert();
  const Graph before = BuildModel(model.config);
  Graph after;
  ParamStore params = model.params;
  if (!Accepts([&] { after = MethodGraph(model.config, {}, {term}, params); }, &facts.problem))
    return facts;
  Graph plain = before;
  ParamStore untouched = model.params;
  const std::map<std::string, std::string> options = CompleteOptions(term);
  facts.trainable = FindMethod(term.name).count({plain, untouched, options, 0});
  const std::vector<std::string> edited = Edited(model.params, params);
  facts.edits = !edited.empty();
  facts.sites = SitesOf(before, after, edited);
  facts.change = BlockDiff(before, after, 0, kMostLines);
  return facts;
}

MethodFacts FactsOnSmallModel(const MethodTerm& term) {
  static const char* const kSmall[] = {"init:vit_nano_patch8_32", "init:bert_tiny"};
  MethodFacts first;
  for (const char* name : kSmall) {
    const MethodFacts facts = FactsOn(term, name, LoadToInspect(name, "", 0));
    if (facts.problem.empty()) return facts;
    if (first.model.empty()) first = facts;
  }
  return first;
}

}  // namespace graft
